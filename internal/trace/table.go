package trace

import (
	"fmt"

	"github.com/cilium/ebpf"

	"xentrace/bpf"
	"xentrace/internal/netdev"
)

// How the BPF programs search their table of interfaces; see bpf/maps.h.
const (
	interfaceProbes = 8
	interfaceShift  = 24
	interfaceHash   = 0x9e3779b1
)

// removedNetNS marks an entry whose interface is gone: unlike an empty one it
// does not end a search.
const removedNetNS = 1

// interfaceTable is the BPF programs' table of registered interfaces: open addressing in
// an array, which costs a packet less than a hash map.
type interfaceTable struct {
	table *ebpf.Map
}

func (t interfaceTable) entries(key deviceKey) [interfaceProbes]uint32 {
	hash := (uint32(key.index) ^ key.netns<<8) * interfaceHash >> interfaceShift
	var entries [interfaceProbes]uint32
	for i := range entries {
		entries[i] = (hash + uint32(i)) % t.table.MaxEntries()
	}
	return entries
}

func (t interfaceTable) insert(key deviceKey, slot uint32, netfront bool) error {
	for _, entryIndex := range t.entries(key) {
		var entry bpf.XentraceInterface
		if err := t.table.Lookup(entryIndex, &entry); err != nil {
			return fmt.Errorf("table of interfaces: %w", err)
		}
		if entry.Ifindex != 0 {
			continue
		}
		// A program may read an entry while it is written, and must not find the key
		// before the rest.
		entry = bpf.XentraceInterface{Netns: removedNetNS, Index: slot}
		if netfront {
			entry.Netfront = 1
		}
		if err := t.table.Put(entryIndex, entry); err != nil {
			return fmt.Errorf("table of interfaces: %w", err)
		}
		entry.Ifindex, entry.Netns = uint32(key.index), key.netns
		if err := t.table.Put(entryIndex, entry); err != nil {
			return fmt.Errorf("table of interfaces: %w", err)
		}
		return nil
	}
	return fmt.Errorf("table of interfaces: no entry is free for another one")
}

func (t interfaceTable) remove(key deviceKey) error {
	for _, entryIndex := range t.entries(key) {
		var entry bpf.XentraceInterface
		if err := t.table.Lookup(entryIndex, &entry); err != nil {
			return fmt.Errorf("table of interfaces: %w", err)
		}
		if entry.Ifindex != uint32(key.index) || entry.Netns != key.netns {
			continue
		}
		if err := t.table.Put(entryIndex, bpf.XentraceInterface{Netns: removedNetNS}); err != nil {
			return fmt.Errorf("table of interfaces: %w", err)
		}
	}
	return nil
}

// RegisterInterface makes the BPF programs count an interface at an index of its own;
// the table is the map named interfaces.
func RegisterInterface(table *ebpf.Map, i netdev.Interface, index uint32) error {
	return interfaceTable{table}.insert(deviceKey{i.Index, i.Namespace}, index, i.IsNetfront())
}

// UnregisterInterface ends that.
func UnregisterInterface(table *ebpf.Map, i netdev.Interface) error {
	return interfaceTable{table}.remove(deviceKey{i.Index, i.Namespace})
}
