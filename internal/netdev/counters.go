package netdev

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strconv"

	"xentrace/internal/procfs"
)

// Counters are an interface's own, as dev_get_stats returns them. TxDropped has the drops of the
// driver and of the network core (core_stats).
type Counters struct {
	RxPackets, TxPackets, TxBytes, TxDropped uint64

	RxErrors uint64 // packets that the driver found malformed
	// RxDropped are of the network core, for a protocol that nothing handles or a full backlog,
	// and those that a device had no buffer for (rx_missed_errors; xen-netfront has none).
	RxDropped uint64
}

// Counters reads the counters of an interface, or fails with a [NotFoundError].
//
// They are read from /proc/net/dev, which unlike rtnetlink does not take the RTNL mutex: any
// user can make others wait for it for seconds, with interfaces in a user namespace.
func (ns *Namespace) Counters(index int) (Counters, error) {
	release, err := ns.hold()
	if err != nil {
		return Counters{}, err
	}
	defer release()
	var counters Counters
	err = ns.byName(index, func(name string) error {
		return ns.Do(func() (err error) {
			counters, err = countersOf(name)
			return err
		})
	})
	if err == nil || errors.Is(err, ErrNotFound) {
		return counters, err
	}
	return ns.linkCounters(index) // without /proc, or without the right to enter the namespace
}

// countersOf reads those of an interface in the namespace of the thread.
func countersOf(name string) (Counters, error) {
	file, err := os.Open("/proc/thread-self/net/dev")
	if err != nil {
		return Counters{}, err
	}
	defer func() { _ = file.Close() }() // only read from
	for line, err := range procfs.Lines(file) {
		if err != nil {
			return Counters{}, err
		}
		// A name has neither white space nor a colon (dev_valid_name).
		if before, numbers, found := bytes.Cut(line, []byte(":")); found && string(bytes.TrimSpace(before)) == name {
			return parseCounters(numbers)
		}
	}
	return Counters{}, fmt.Errorf("/proc/net/dev has no %s", Interface{Name: name})
}

// parseCounters parses what follows a name in /proc/net/dev: bytes, packets, errs, drop, fifo,
// frame, compressed and multicast received; then bytes, packets, errs, drop, fifo, colls,
// carrier and compressed sent.
func parseCounters(numbers []byte) (Counters, error) {
	fields := bytes.Fields(numbers)
	if len(fields) < 16 {
		return Counters{}, fmt.Errorf("/proc/net/dev: %d numbers, want 16", len(fields))
	}
	var c Counters
	for index, to := range map[int]*uint64{1: &c.RxPackets, 2: &c.RxErrors, 3: &c.RxDropped, 8: &c.TxBytes, 9: &c.TxPackets, 11: &c.TxDropped} {
		n, err := strconv.ParseUint(string(fields[index]), 10, 64)
		if err != nil {
			return Counters{}, fmt.Errorf("/proc/net/dev: %w", err)
		}
		*to = n
	}
	return c, nil
}

// linkCounters reads them from IFLA_STATS64.
func (ns *Namespace) linkCounters(index int) (Counters, error) {
	link, err := ns.link(index)
	if err != nil {
		return Counters{}, err
	}
	s := link.Attrs().Statistics
	if s == nil {
		return Counters{}, fmt.Errorf("interface with index %d in network namespace %d: no IFLA_STATS64", index, ns.inum)
	}
	return Counters{RxPackets: s.RxPackets, TxPackets: s.TxPackets, TxBytes: s.TxBytes, TxDropped: s.TxDropped, RxErrors: s.RxErrors, RxDropped: s.RxDropped}, nil
}
