package netfront

import (
	"bytes"
	"encoding/binary"
	"errors"
	"testing"

	"xentrace/internal/kernel"

	"github.com/cilium/ebpf/btf"
)

// fakeDriver is the types of a driver as 6.1 has them, less what nobody asks for.
func fakeDriver(t *testing.T, table btf.Type, slots uint32, request uint32) *btf.Spec {
	t.Helper()
	number := &btf.Int{Name: "unsigned int", Size: 4}
	pointer := &btf.Pointer{Target: &btf.Void{}}
	member := func(name string, at uint32, of btf.Type) btf.Member {
		return btf.Member{Name: name, Offset: btf.Bits(8 * at), Type: of}
	}
	ring := &btf.Struct{Name: "xen_netif_tx_front_ring", Size: 24, Members: []btf.Member{
		member("req_prod_pvt", 0, number), member("rsp_cons", 4, number), member("sring", 16, pointer),
	}}
	return specOf(t,
		&btf.Struct{Name: "netfront_info", Size: 100, Members: []btf.Member{member("queues", 8, pointer), member("netdev", 16, pointer)}},
		&btf.Struct{Name: "xen_netif_tx_sring", Size: 76, Members: []btf.Member{member("ring", 64, number)}},
		&btf.Struct{Name: "xen_netif_tx_request", Size: request, Members: []btf.Member{member("gref", 0, number)}},
		&btf.Struct{Name: "netfront_queue", Size: 9472, Members: []btf.Member{
			member("id", 0, number), member("info", 32, pointer), member("tx", 520, ring),
			member("tx_skbs", 552, &btf.Array{Index: number, Type: table, Nelems: slots}),
		}},
	)
}

func TestTransmitRing(t *testing.T) {
	skb := &btf.Pointer{Target: &btf.Struct{Name: "sk_buff", Size: 232}}
	// As it was up to 5.15: a packet, or a link to the next free place.
	union := &btf.Union{Name: "skb_entry", Size: 8, Members: []btf.Member{{Name: "skb", Type: skb}, {Name: "link", Type: &btf.Int{Name: "unsigned long", Size: 8}}}}
	for _, test := range []struct {
		name    string
		table   btf.Type
		slots   uint32
		request uint32
		err     error
	}{
		{"packets", skb, 256, 12, nil},
		{"unions", union, 256, 12, errNotThisRing},
		{"pointers to something else", &btf.Pointer{Target: &btf.Struct{Name: "xdp_frame", Size: 32}}, 256, 12, errNotThisRing},
		{"more slots", skb, 512, 12, errNotThisRing},
		{"longer requests", skb, 256, 16, errNotThisRing},
	} {
		t.Run(test.name, func(t *testing.T) {
			ring, err := transmitRingOf(fakeDriver(t, test.table, test.slots, test.request))
			if !errors.Is(err, test.err) {
				t.Fatalf("error %v, want %v", err, test.err)
			}
			want := TransmitRing{ID: 0, Info: 32, Netdev: 16, RspCons: 524, Sring: 536, Ring: 64, TxSkbs: 552,
				ReqProdPvt: 520, Queues: 8, QueueSize: 9472}
			if err == nil && ring != want {
				t.Errorf("ring %+v, want %+v", ring, want)
			}
		})
	}
	if _, err := transmitRingOf(specOf(t, skb.Target)); !errors.Is(err, kernel.ErrNoSuchType) {
		t.Errorf("without the driver's types: %v, want %v", err, kernel.ErrNoSuchType)
	}
}

// specOf encodes and decodes the types, as a kernel would hold them.
func specOf(t *testing.T, types ...btf.Type) *btf.Spec {
	t.Helper()
	builder, err := btf.NewBuilder(types, nil)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := builder.Marshal(nil, &btf.MarshalOptions{Order: binary.NativeEndian})
	if err != nil {
		t.Fatal(err)
	}
	spec, err := btf.LoadSpecFromReader(bytes.NewReader(raw))
	if err != nil {
		t.Fatal(err)
	}
	return spec
}
