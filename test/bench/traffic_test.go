package bench

import (
	"fmt"
	"strings"
	"testing"

	"xentrace/test/tool"
)

// The packets are what the benchmarks say they are: so many, of so many slots.
func TestTraffic(t *testing.T) {
	const packets = 10 * clones
	for _, kind := range []struct {
		name string
		make func(*lab) traffic
	}{
		{"flood", newFlood},
		{"mirrored", newMirrored},
		{"tcp", newTCPFragments},
	} {
		t.Run(kind.name, func(t *testing.T) {
			l := newLab(t)
			sender := newSender(l, kind.make(l))
			traffic := sender.kinds[0]
			run := tool.Start(t, xentrace, "hist", "-d", "0", "-i", "near", "-o", "json")
			if _, err := sender.reading(traffic, packets); err != nil {
				t.Fatal(err)
			}
			output := run.Stop()
			counted := output.Only(t)
			// A small head may straddle a page boundary: one slot more, and that for all
			// packets where every head comes from the same place.
			of := counted.Slots[traffic.slots] + counted.Slots[traffic.slots+1]
			if of != packets || counted.Packets != packets {
				t.Errorf("slots %v: want %d packets of %d slots, or one more", counted.Slots, packets, traffic.slots)
			}
		})
	}
}

// The script counts what xentrace counts.
func TestScript(t *testing.T) {
	const packets = 10 * clones
	l := newLab(t)
	sender := newSender(l, newMirrored(l))
	detach := attachBpftrace(t, l.ifindex)
	if _, err := sender.reading(sender.kinds[0], packets); err != nil {
		t.Fatal(err)
	}
	output := detach()
	counted := 0
	for slots := manyFrags + 1; slots <= manyFrags+2; slots++ { // the head may straddle a page boundary
		var n int
		if _, rest, found := strings.Cut(output, fmt.Sprintf("@slots[%d]: ", slots)); found {
			if _, err := fmt.Sscan(rest, &n); err != nil {
				t.Fatal(err)
			}
		}
		counted += n
	}
	if counted != packets {
		t.Errorf("it printed %q, want %d packets of %d slots, or one more", output, packets, manyFrags+1)
	}
}
