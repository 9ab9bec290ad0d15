package netfront

import (
	"errors"
	"fmt"

	"xentrace/internal/kernel"

	"github.com/cilium/ebpf/btf"
)

// A TransmitRing is where xen-netfront keeps the transmit ring of a queue and the
// packets on it. Offsets are in bytes, from the start of struct netfront_queue
// unless said otherwise.
type TransmitRing struct {
	ID      uint32 // the queue's number
	Info    uint32 // pointer to struct netfront_info
	Netdev  uint32 // pointer to struct net_device, from the start of struct netfront_info
	RspCons uint32 // tx.rsp_cons: the first response that is not taken yet
	Sring   uint32 // tx.sring: pointer to the page shared with the backend
	Ring    uint32 // the first entry, from the start of that page
	TxSkbs  uint32 // the packet of each request

	ReqProdPvt uint32 // tx.req_prod_pvt: the next request
	Queues     uint32 // pointer to the array of queues, from the start of struct netfront_info
	QueueSize  uint32 // bytes of struct netfront_queue
}

// The ring as the wire format has it (xen/include/public/io/netif.h): 256
// requests of 12 bytes fit into a page.
const (
	ringSlots      = 256
	ringEntryBytes = 12
)

// errNotThisRing reports that the driver keeps its packets in another way than this
// package knows; before Linux 5.16 tx_skbs was an array of unions.
var errNotThisRing = errors.New("the driver's transmit ring has another shape than the known one")

// RingOf finds the TX ring in the driver's own types, those of the module or
// the kernel proper for an empty name. The error wraps [kernel.ErrNoTypes] or
// [kernel.ErrNoSuchType], or an error that names what differs in the driver.
func RingOf(types *kernel.Types, module string) (TransmitRing, error) {
	spec, err := types.Spec(module)
	if err != nil {
		return TransmitRing{}, err
	}
	return transmitRingOf(spec)
}

func transmitRingOf(spec *btf.Spec) (TransmitRing, error) {
	var r TransmitRing
	var tx uint32
	for _, want := range []struct {
		offset            *uint32
		structure, member string
	}{
		{&r.ID, "netfront_queue", "id"},
		{&r.Info, "netfront_queue", "info"},
		{&r.Netdev, "netfront_info", "netdev"},
		{&tx, "netfront_queue", "tx"},
		{&r.RspCons, "xen_netif_tx_front_ring", "rsp_cons"},
		{&r.Sring, "xen_netif_tx_front_ring", "sring"},
		{&r.Ring, "xen_netif_tx_sring", "ring"},
		{&r.TxSkbs, "netfront_queue", "tx_skbs"},
		{&r.ReqProdPvt, "xen_netif_tx_front_ring", "req_prod_pvt"},
		{&r.Queues, "netfront_info", "queues"},
	} {
		found, err := kernel.StructureOf(spec, want.structure)
		if err != nil {
			return TransmitRing{}, err
		}
		field, err := kernel.FieldOf(found.Members, want.member)
		if err != nil {
			return TransmitRing{}, fmt.Errorf("struct %s, member %s: %w", want.structure, want.member, err)
		}
		*want.offset = field.Offset
		if want.structure == "netfront_queue" {
			r.QueueSize = found.Size
		}
	}
	r.ReqProdPvt += tx
	r.RspCons += tx
	r.Sring += tx
	return r, checkRingShape(spec)
}

// checkRingShape refuses a driver whose ring or table of packets is not as the
// BPF programs read it.
func checkRingShape(spec *btf.Spec) error {
	queue, err := kernel.StructureOf(spec, "netfront_queue")
	if err != nil {
		return err
	}
	for _, member := range queue.Members {
		if member.Name == "tx_skbs" && !isSkbTable(member.Type) {
			return fmt.Errorf("%w: tx_skbs is no array of %d packets", errNotThisRing, ringSlots)
		}
	}
	request, err := kernel.StructureOf(spec, "xen_netif_tx_request")
	if err != nil {
		return err
	}
	if request.Size != ringEntryBytes {
		return fmt.Errorf("%w: its requests have %d bytes, not %d", errNotThisRing, request.Size, ringEntryBytes)
	}
	return nil
}

func isSkbTable(t btf.Type) bool {
	array, ok := btf.UnderlyingType(t).(*btf.Array)
	if !ok || array.Nelems != ringSlots {
		return false
	}
	pointer, ok := btf.UnderlyingType(array.Type).(*btf.Pointer)
	if !ok {
		return false
	}
	skb, ok := btf.UnderlyingType(pointer.Target).(*btf.Struct)
	return ok && skb.Name == "sk_buff"
}
