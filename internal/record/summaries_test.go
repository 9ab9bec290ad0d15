package record

import (
	"fmt"
	"net/netip"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"xentrace/internal/event"
)

// What a run without a summary recorded after its last interval is shown, and counted as left
// out of the counts.
func TestUnfinishedRuns(t *testing.T) {
	killed := []event.Event{started(0), packet(1, 20), interval(10, 1), packet(11, 21), packet(12, 22)}
	done := []event.Event{started(0), packet(1, 20), interval(10, 1), &event.Summary{Totals: event.Totals{Time: at(10)}}}
	young := []event.Event{started(20), packet(21, 23)}
	for name, c := range map[string]struct {
		events  []event.Event
		options ReadOptions
		packets int
		want    []Unfinished
	}{
		"killed":                    {killed, ReadOptions{}, 3, []Unfinished{{at(12), at(10), 2}}},
		"killed, a range":           {killed, ReadOptions{Since: Bound{At: at(11)}}, 2, []Unfinished{{at(12), at(10), 2}}},
		"killed, a counted range":   {killed, ReadOptions{Until: Bound{At: at(9)}}, 1, nil},
		"killed, then a young one":  {append(killed, young...), ReadOptions{}, 4, []Unfinished{{at(12), at(10), 2}, {at(21), time.Time{}, 1}}},
		"one that came to its end":  {done, ReadOptions{}, 1, nil},
		"done, and then one killed": {append(done, killed...), ReadOptions{}, 4, []Unfinished{{at(12), at(10), 2}}},
	} {
		path := write(t, filepath.Join(t.TempDir(), "x.jsonl"), linesOf(c.events...))
		lines, _, source := replay(t, c.options, path)
		packets := len(strings.Fields(slotsOf(lines)))
		got := source.Unfinished().Last
		if packets != c.packets || len(got) != len(c.want) {
			t.Errorf("%s: %d packets, %v; want %d, %v", name, packets, got, c.packets, c.want)
			continue
		}
		for i, want := range c.want {
			if g := got[i]; !g.End.Equal(want.End) || !g.Counted.Equal(want.Counted) || g.Events != want.Events {
				t.Errorf("%s: %+v, want %+v", name, g, want)
			}
		}
	}
}

// A range that is empty, or ends before it begins, is distinguished from a recording without events.
func TestRangesWithoutEvents(t *testing.T) {
	path := write(t, filepath.Join(t.TempDir(), "x.jsonl"), linesOf(started(0), packet(1, 20), interval(10, 1)))
	for name, c := range map[string]struct {
		options ReadOptions
		empty   bool
	}{
		"no range":    {ReadOptions{}, false},
		"a range":     {ReadOptions{Since: Bound{At: at(5)}}, false},
		"after it":    {ReadOptions{Since: Bound{At: at(11)}}, true},
		"before it":   {ReadOptions{Until: Bound{At: at(-1)}}, true},
		"its seconds": {ReadOptions{Since: Bound{Before: 3 * time.Second}}, false},
	} {
		_, _, source := replay(t, c.options, path)
		from, to, empty := source.Covered()
		if !from.Equal(at(0)) || !to.Equal(at(10)) || empty != c.empty {
			t.Errorf("%s: %v to %v, empty %t", name, from, to, empty)
		}
	}
	for _, o := range []ReadOptions{
		{Since: Bound{At: at(5)}, Until: Bound{At: at(4)}}, {Since: Bound{Before: time.Second}, Until: Bound{Before: 2 * time.Second}}, {Since: Bound{At: at(9)}, Until: Bound{Before: 5 * time.Second}},
	} {
		if _, err := Open(t.Context(), []string{path}, o); err == nil || !strings.Contains(err.Error(), "range ends before it begins: from ") {
			t.Errorf("%+v: %v", o, err)
		}
	}
}

// What is counted does not depend on how much of it was shown.
func TestDrain(t *testing.T) {
	path := write(t, filepath.Join(t.TempDir(), "x.jsonl"), linesOf(started(0), packet(1, 20), packet(2, 21), interval(10, 2), interval(20, 3)))
	source, err := Open(t.Context(), []string{path}, ReadOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if _, err := source.Next(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if err := source.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := source.Drain(t.Context()); err != nil {
		t.Fatal(err)
	}
	if dropped := source.Summary().Sum().Dropped; dropped != 5 {
		t.Errorf("%d dropped, want 5", dropped)
	}
}

// Of a run with more flows than are kept the worst are listed, and all are counted.
func TestManyFlows(t *testing.T) {
	const flowsOfRun = 5000
	events := []event.Event{started(0)}
	for n := range flowsOfRun {
		for _, state := range []event.FlowState{event.Stalled, event.Recovered, event.Stalled, event.Closed}[:2+2*(n%2)] {
			events = append(events, &event.FlowEvent{Time: at(1 + n/100), Flow: event.FlowHistory{
				FlowKey: event.FlowKey{Proto: 6, Source: netip.MustParseAddrPort(fmt.Sprintf("10.0.%d.%d:40000", n/250, n%250)), Destination: netip.MustParseAddrPort("10.0.0.2:443")},
				State:   state, Drops: uint64(1 + (n*7919)%flowsOfRun), First: at(n),
			}})
		}
	}
	path := write(t, filepath.Join(t.TempDir(), "x.jsonl"), linesOf(events...))
	_, _, source := replay(t, ReadOptions{}, path)
	if kept := len(source.summaries.open[0].flows.tracked); kept > 2*maxTracked {
		t.Errorf("%d flows are kept", kept)
	}
	s := source.Summary().Flows
	if got := uint64(s.FlowCounts.Flows) + s.Lost; got != flowsOfRun || s.EverStalled != flowsOfRun || s.Losing != flowsOfRun || s.Stalled != 0 {
		t.Errorf("%d flows, %d stalled once or more, %d lost packets, %d are stalled; want %d, none stalled", got, s.EverStalled, s.Losing, s.Stalled, flowsOfRun)
	}
	for i, f := range s.Flows {
		if f.Drops != uint64(flowsOfRun-i) {
			t.Errorf("flow %d has %d drops, want %d", i, f.Drops, flowsOfRun-i)
		}
	}
	if len(s.Flows) != maxFlows {
		t.Errorf("%d flows are listed, want %d", len(s.Flows), maxFlows)
	}
}
