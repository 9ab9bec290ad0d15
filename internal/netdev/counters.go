package netdev

import "fmt"

// Counters are an interface's own, struct rtnl_link_stats64 as IFLA_STATS64
// brings it. TxDropped and RxDropped are the driver's drops and the network
// core's together (dev_get_stats adds core_stats to what the driver says).
type Counters struct {
	RxPackets, TxPackets uint64
	RxBytes, TxBytes     uint64
	RxErrors, TxErrors   uint64
	RxDropped, TxDropped uint64

	Multicast, Collisions uint64

	RxLengthErrors, RxOverErrors, RxCRCErrors   uint64
	RxFrameErrors, RxFIFOErrors, RxMissedErrors uint64
	TxAbortedErrors, TxCarrierErrors            uint64
	TxFIFOErrors, TxHeartbeatErrors             uint64
	TxWindowErrors, RxCompressed, TxCompressed  uint64
}

// Counters reads the counters of an interface, or fails with a [NotFoundError].
func (ns *Namespace) Counters(index int) (Counters, error) {
	release, err := ns.hold()
	if err != nil {
		return Counters{}, err
	}
	defer release()
	link, err := ns.link(index)
	if err != nil {
		return Counters{}, err
	}
	s := link.Attrs().Statistics
	if s == nil {
		return Counters{}, fmt.Errorf("interface with index %d in network namespace %d: no IFLA_STATS64", index, ns.inum)
	}
	return Counters{
		RxPackets: s.RxPackets, TxPackets: s.TxPackets, RxBytes: s.RxBytes, TxBytes: s.TxBytes,
		RxErrors: s.RxErrors, TxErrors: s.TxErrors, RxDropped: s.RxDropped, TxDropped: s.TxDropped,
		Multicast: s.Multicast, Collisions: s.Collisions,
		RxLengthErrors: s.RxLengthErrors, RxOverErrors: s.RxOverErrors, RxCRCErrors: s.RxCrcErrors,
		RxFrameErrors: s.RxFrameErrors, RxFIFOErrors: s.RxFifoErrors, RxMissedErrors: s.RxMissedErrors,
		TxAbortedErrors: s.TxAbortedErrors, TxCarrierErrors: s.TxCarrierErrors,
		TxFIFOErrors: s.TxFifoErrors, TxHeartbeatErrors: s.TxHeartbeatErrors,
		TxWindowErrors: s.TxWindowErrors, RxCompressed: s.RxCompressed, TxCompressed: s.TxCompressed,
	}, nil
}
