package netdev

import "fmt"

// Counters are an interface's own, from IFLA_STATS64. TxDropped has the drops of the driver and
// of the network core (dev_get_stats adds core_stats).
type Counters struct{ RxPackets, TxPackets, TxBytes, TxDropped uint64 }

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
	return Counters{RxPackets: s.RxPackets, TxPackets: s.TxPackets, TxBytes: s.TxBytes, TxDropped: s.TxDropped}, nil
}
