package output

import (
	"strings"
	"testing"

	"xentrace/internal/event"
)

func TestClosingCounts(t *testing.T) {
	for _, test := range []struct {
		packets, events, ring uint64
		want                  string
	}{
		{1, 1, 0, "1 packet seen, 1 event, 0 lost (ring 0, recursion 0, missed 0)\n"},
		{0, 3100, 0, "0 packets seen, 3,100 events, 0 lost (ring 0, recursion 0, missed 0)\n"},
		{2, 0, 3100, "3,100 records lost because the ring buffer was full: use a larger --ring-size\n2 packets seen, 0 events, 3,100 lost (ring 3,100, recursion 0, missed 0)\n"},
	} {
		none := uint64(0)
		totals := event.Totals{Events: test.events, Lost: event.Lost{Ring: test.ring, Recursion: &none, Missed: &none}, Interfaces: make([]event.InterfaceTotals, 1)}
		totals.Interfaces[0].Packets = test.packets
		if got := string(appendClosing(nil, &totals, 120)); got != test.want {
			t.Errorf("%q, want %q", got, test.want)
		}
	}
}

// Flows that are not listed are counted.
func TestFlowsNotListed(t *testing.T) {
	s := &event.FlowSummary{FlowCounts: event.FlowCounts{EverStalled: 12, Stalled: 3}, Flows: make([]event.FlowHistory, 10), Losing: 1500}
	if got := flowsNote(s); !strings.HasSuffix(got, "; worst 10 of 1,500") {
		t.Errorf("%q", got)
	}
	if s.Losing = 10; !strings.HasSuffix(flowsNote(s), "; worst first") {
		t.Errorf("all are listed: %q", flowsNote(s))
	}
}
