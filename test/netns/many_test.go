package netns

import (
	"net/netip"
	"strings"
	"testing"
	"time"
)

// Of two thousand connections fifty hang: those are named, no other, and the tracer
// stays small and leaves the CPU alone.
func TestManyConnections(t *testing.T) {
	const connections, troubled, measured = 2000, 50, 5 * time.Second
	l := newLab(t)
	queueOf(t)
	sink := netip.MustParseAddrPort(l.discard(farAddress.Addr()))
	all := make([]*connection, connections)
	for i := range all {
		all[i] = l.connect("tcp4", sink)
	}
	watch := watchAll(t)
	resident, dropped := watch.Resident(), droppedBy(t, l.near)
	l.shrink(narrow)
	want := make(map[int]bool)
	for _, c := range all[:troubled] {
		c.write(much)
		want[c.port()] = true
	}
	watch.Tells(`"event":"stalled"`, troubled)
	cpu, began := watch.CPU(), time.Now()
	for i := troubled; time.Since(began) < measured; i++ {
		all[troubled+i%(connections-troubled)].write(little)
		time.Sleep(time.Millisecond)
	}
	share := float64(watch.CPU()-cpu) / float64(time.Since(began))
	grown := watch.Resident() - resident
	t.Logf("%.2f %% of a CPU, %d KiB resident before and %d more after", 100*share, resident, grown)
	if share > 0.1 || grown > 16<<10 {
		t.Errorf("%.1f %% of a CPU, %d KiB more than before: want less than 10 %%, 16 MiB", 100*share, grown)
	}
	for _, c := range all {
		must(t, c.conn.SetLinger(0))
		must(t, c.conn.Close())
	}
	watch.Tells(`"event":"closed"`, troubled)
	dropped = droppedBy(t, l.near) - dropped
	output := watch.Stop()
	events := make(map[string]int)
	var drops uint64
	for i := range output.Flows {
		f := &output.Flows[i]
		events[f.Event]++
		if !want[f.Flow.Sport] {
			t.Fatalf("%s: it is none of the %d that hang", f, troubled)
		}
		if f.Event == "closed" {
			drops += f.Drops
		}
	}
	if events["stalled"] != troubled || events["closed"] != troubled || len(output.Flows) != 2*troubled {
		t.Errorf("events %v, want each of %d to stall once and to be closed", events, troubled)
	}
	if drops != dropped || *output.Summary.FlowsStalled != troubled || *output.Summary.Lost.Flows != 0 {
		t.Errorf("%d drops of the flows, %d stalled, %d lost: the interface dropped %d", drops, *output.Summary.FlowsStalled, *output.Summary.Lost.Flows, dropped)
	}
	if n := strings.Count(output.Stdout, `"type":"flow"`); n != len(output.Flows) {
		t.Errorf("%d lines of flows, %d read", n, len(output.Flows))
	}
}
