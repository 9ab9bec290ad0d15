package trace

import (
	"fmt"

	"github.com/cilium/ebpf"

	"xentrace/bpf"
)

// How the kernel side searches its table of interfaces; see bpf/maps.h.
const (
	interfaceProbes = 8
	interfaceShift  = 24
	interfaceHash   = 0x9e3779b1
)

// removedNetNS marks a place whose interface is gone: unlike an empty one it
// does not end a search.
const removedNetNS = 1

// interfaceTable is the kernel side's table of registered interfaces: open
// addressing in an array, so that the programs which every packet runs look up
// no hash map.
type interfaceTable struct {
	table *ebpf.Map
}

func (t interfaceTable) places(key deviceKey) [interfaceProbes]uint32 {
	hash := (uint32(key.index) ^ key.netns<<8) * interfaceHash >> interfaceShift
	var places [interfaceProbes]uint32
	for i := range places {
		places[i] = (hash + uint32(i)) % t.table.MaxEntries()
	}
	return places
}

// insert makes the kernel side count the interface at this place.
func (t interfaceTable) insert(key deviceKey, slot uint32, netfront bool) error {
	for _, place := range t.places(key) {
		var entry bpf.XentraceInterface
		if err := t.table.Lookup(place, &entry); err != nil {
			return fmt.Errorf("table of interfaces: %w", err)
		}
		if entry.Ifindex != 0 {
			continue
		}
		// The kernel side may read an entry while it is written: it must not
		// find the key before what belongs to it.
		entry = bpf.XentraceInterface{Netns: removedNetNS, Index: slot}
		if netfront {
			entry.Netfront = 1
		}
		if err := t.table.Put(place, entry); err != nil {
			return fmt.Errorf("table of interfaces: %w", err)
		}
		entry.Ifindex, entry.Netns = uint32(key.index), key.netns
		if err := t.table.Put(place, entry); err != nil {
			return fmt.Errorf("table of interfaces: %w", err)
		}
		return nil
	}
	return fmt.Errorf("table of interfaces: no place for another one")
}

// remove takes the interface out of the table.
func (t interfaceTable) remove(key deviceKey) error {
	for _, place := range t.places(key) {
		var entry bpf.XentraceInterface
		if err := t.table.Lookup(place, &entry); err != nil {
			return fmt.Errorf("table of interfaces: %w", err)
		}
		if entry.Ifindex != uint32(key.index) || entry.Netns != key.netns {
			continue
		}
		if err := t.table.Put(place, bpf.XentraceInterface{Netns: removedNetNS}); err != nil {
			return fmt.Errorf("table of interfaces: %w", err)
		}
	}
	return nil
}
