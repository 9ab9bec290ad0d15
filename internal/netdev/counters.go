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

// CountersOf reads the counters of several interfaces in one pass. It leaves out those that
// were renamed or deleted meanwhile, and all where /proc cannot be read: [Namespace.Counters]
// reads these.
func (ns *Namespace) CountersOf(indexes []int) map[int]Counters {
	release, err := ns.hold()
	if err != nil {
		return nil
	}
	defer release()
	named := make(map[string]int, len(indexes))
	for _, index := range indexes {
		if name, err := nameOf(ns.control, index); err == nil {
			named[name] = index
		}
	}
	read := make(map[int]Counters, len(named))
	err = ns.Do(func() error {
		return eachCounters(func(name string) bool { _, is := named[name]; return is }, func(name string, c Counters) bool {
			read[named[name]] = c
			return len(read) < len(named)
		})
	})
	if err != nil {
		return nil
	}
	for name, index := range named {
		if now, err := indexOf(ns.control, name); err != nil || now != index {
			delete(read, index)
		}
	}
	return read
}

// countersOf reads those of an interface in the namespace of the thread.
func countersOf(name string) (Counters, error) {
	var counters *Counters
	err := eachCounters(func(other string) bool { return other == name }, func(_ string, c Counters) bool {
		counters = &c
		return false
	})
	if err == nil && counters == nil {
		err = fmt.Errorf("/proc/net/dev has no %s", Interface{Name: name})
	}
	if err != nil {
		return Counters{}, err
	}
	return *counters, nil
}

// eachCounters yields the counters of the wanted interfaces in the namespace of the thread, as
// long as yield returns true.
func eachCounters(wanted func(name string) bool, yield func(name string, c Counters) bool) error {
	file, err := os.Open("/proc/thread-self/net/dev")
	if err != nil {
		return err
	}
	defer func() { _ = file.Close() }() // only read from
	for line, err := range procfs.Lines(file) {
		if err != nil {
			return err
		}
		// A name has neither white space nor a colon (dev_valid_name).
		before, numbers, found := bytes.Cut(line, []byte(":"))
		name := string(bytes.TrimSpace(before))
		if !found || !wanted(name) {
			continue
		}
		c, err := parseCounters(numbers)
		if err != nil || !yield(name, c) {
			return err
		}
	}
	return nil
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
