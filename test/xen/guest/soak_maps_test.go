//go:build xenlab

package guest

import (
	"errors"
	"os"
	"testing"

	"github.com/cilium/ebpf"
)

// mapIDs are the BPF maps there are.
func mapIDs(t *testing.T) map[ebpf.MapID]bool {
	t.Helper()
	ids := make(map[ebpf.MapID]bool)
	for id := ebpf.MapID(0); ; {
		var err error
		if id, err = ebpf.MapGetNextID(id); errors.Is(err, os.ErrNotExist) {
			return ids
		} else if err != nil {
			t.Fatal(err)
		}
		ids[id] = true
	}
}

// newMaps opens the maps that were not there before, the tracer's, of which a varying
// number of entries is in use.
func newMaps(t *testing.T, before map[ebpf.MapID]bool) []*ebpf.Map {
	t.Helper()
	var maps []*ebpf.Map
	for id := range mapIDs(t) {
		m, err := ebpf.NewMapFromID(id)
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		switch m.Type() {
		case ebpf.Array, ebpf.Hash, ebpf.LRUHash:
			if !before[id] && m.MaxEntries() > 1 {
				maps = append(maps, m)
				t.Cleanup(func() { _ = m.Close() })
				continue
			}
		}
		_ = m.Close()
	}
	if len(maps) == 0 {
		t.Fatal("the tracer has no map with several entries")
	}
	return maps
}

// inUse counts the entries of each map that hold something, by name, and checks that each
// has room: one that is full loses something.
func inUse(t *testing.T, maps []*ebpf.Map) map[string]int {
	t.Helper()
	used := make(map[string]int)
	for _, m := range maps {
		info, err := m.Info()
		if err != nil {
			t.Fatal(err)
		}
		n := entries(t, m)
		if used[info.Name] += n; n >= int(m.MaxEntries()) {
			t.Errorf("map %s is full with %d entries", info.Name, n)
		}
	}
	return used
}

// entries counts a map's entries that are not all zeroes, as those of an array are that
// is not in use.
func entries(t *testing.T, m *ebpf.Map) (n int) {
	t.Helper()
	var key, value []byte
	all := m.Iterate()
	for all.Next(&key, &value) {
		for _, b := range value {
			if b != 0 {
				n++
				break
			}
		}
	}
	if err := all.Err(); err != nil {
		t.Fatal(err)
	}
	return n
}
