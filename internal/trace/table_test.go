package trace

import (
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/rlimit"

	"xentrace/bpf"
	"xentrace/internal/event"
	"xentrace/test/need"
)

// newTable makes the BPF programs' table of interfaces, empty.
func newTable(t *testing.T) interfaceTable {
	t.Helper()
	need.Root(t, "to make BPF maps")
	if err := rlimit.RemoveMemlock(); err != nil {
		t.Fatal(err)
	}
	spec, err := bpf.LoadXentrace()
	if err != nil {
		t.Fatal(err)
	}
	table, err := ebpf.NewMap(spec.Maps[bpf.XentraceMapInterfaces])
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = table.Close() })
	return interfaceTable{table}
}

// find searches as the BPF programs do: an empty entry ends the search.
func (t interfaceTable) find(test *testing.T, key deviceKey) (bpf.XentraceInterface, bool) {
	test.Helper()
	for _, entryIndex := range t.entries(key) {
		var entry bpf.XentraceInterface
		if err := t.table.Lookup(entryIndex, &entry); err != nil {
			test.Fatal(err)
		}
		if entry.Ifindex == uint32(key.index) && entry.Netns == key.netns {
			return entry, true
		}
		if entry.Ifindex == 0 && entry.Netns == 0 {
			break
		}
	}
	return bpf.XentraceInterface{}, false
}

// As many interfaces as are counted separately find an entry each, and are found after
// others have gone.
func TestInterfaceTable(t *testing.T) {
	table := newTable(t)
	const netns, interfaces = 4026531840, 64
	for i := range interfaces {
		if err := table.insert(deviceKey{i + 2, netns + uint32(i%3)}, uint32(i+1), i%2 == 0); err != nil {
			t.Fatalf("interface %d: %v", i, err)
		}
	}
	for i := range interfaces / 2 {
		if err := table.remove(deviceKey{2*i + 2, netns + uint32(2*i%3)}); err != nil {
			t.Fatal(err)
		}
	}
	for i := range interfaces {
		entry, found := table.find(t, deviceKey{i + 2, netns + uint32(i%3)})
		if want := i%2 == 1; found != want {
			t.Fatalf("interface %d: found %v, want %v", i, found, want)
		}
		if found && (entry.Index != uint32(i+1) || entry.Netfront != 0) {
			t.Errorf("interface %d: index %d of the counters, netfront %d: want %d and 0", i, entry.Index, entry.Netfront, i+1)
		}
	}
	if err := table.insert(deviceKey{2, netns}, 7, true); err != nil {
		t.Fatal(err)
	}
	if entry, found := table.find(t, deviceKey{2, netns}); !found || entry.Index != 7 || entry.Netfront != 1 {
		t.Errorf("an interface that came again: %+v, found %v", entry, found)
	}
}

// Interfaces that come and go by the thousand do not use the table up.
func TestInterfaceTableIsReused(t *testing.T) {
	table := newTable(t)
	for i := range 5000 {
		key := deviceKey{i + 2, 4026531840}
		if err := table.insert(key, 1, true); err != nil {
			t.Fatalf("interface %d: %v", i, err)
		}
		if _, found := table.find(t, key); !found {
			t.Fatalf("interface %d is not found", i)
		}
		if err := table.remove(key); err != nil {
			t.Fatal(err)
		}
	}
}

func TestCountsDifference(t *testing.T) {
	before := counts{Counts: event.Counts{Packets: 3, Bytes: 100, Dropped: 1}}
	before.Causes[event.SGOff], before.Slots[2] = 1, 3
	now := counts{Counts: event.Counts{Packets: 10, Bytes: 900, Dropped: 4, Linearized: 2}}
	now.Causes[event.SGOff], now.Slots[2], now.Slots[27] = 4, 8, 2
	difference := now.minus(&before)
	want := counts{Counts: event.Counts{Packets: 7, Bytes: 800, Dropped: 3, Linearized: 2}}
	want.Causes[event.SGOff], want.Slots[2], want.Slots[27] = 3, 5, 2
	if difference != want {
		t.Errorf("difference %d packets, %d bytes, %d dropped, causes %v", difference.Packets, difference.Bytes, difference.Dropped, difference.Causes)
	}
	before.add(&difference)
	if before != now {
		t.Error("what was taken away, added again, is not the same")
	}
}
