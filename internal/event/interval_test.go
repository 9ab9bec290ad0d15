package event

import (
	"fmt"
	"reflect"
	"testing"
	"time"
)

func known[T any](v T) *T { return &v }

func snapshot(at int, packets, dropped uint64, gaps ...Gap) Totals {
	n := InterfaceTotals{Device: Device{"eth0", 2, 1}, Driver: "xen-netfront", Rejected: known(dropped / 2), TxDroppedDelta: known(dropped)}
	n.Packets, n.Dropped, n.Elsewhere = packets, dropped, dropped
	n.Slots[1], n.Slots[19], n.Causes[TooManySlots] = packets-dropped, dropped, dropped
	n.Reasons = map[string]uint64{"NO_SOCKET": dropped}
	n.Stuck = known(time.Duration(at) * time.Millisecond)
	return Totals{
		Time: time.Unix(int64(at), 0), Duration: time.Duration(at) * time.Second, Drops: DropsAll, Interfaces: []InterfaceTotals{n}, Events: dropped,
		Lost: Lost{Ring: dropped / 4, Recursion: known(uint64(at))}, Gaps: gaps, Missing: map[string]string{"missed": "not counted"},
		Suppressed: []Suppressed{{Dropped, TooManySlots, 3 * dropped}},
	}
}

// The intervals of a run add up to its totals.
func TestIntervalsAddUp(t *testing.T) {
	open := Gap{From: time.Unix(15, 0), Reason: GapDriverUnloaded}
	closed := open
	closed.To = time.Unix(25, 0)
	snapshots := []Totals{snapshot(10, 100, 4), snapshot(20, 250, 40, open), snapshot(30, 251, 40, closed)}
	var sum, before Totals
	for i := range snapshots {
		d := snapshots[i].Since(&before)
		if i == 1 && (d.Interfaces[0].Packets != 150 || *d.Interfaces[0].TxDroppedDelta != 36 || d.Interfaces[0].Reasons["NO_SOCKET"] != 36 ||
			d.Suppressed[0].Records != 108 || d.Interfaces[0].Slots[19] != 36 || d.Duration != 10*time.Second || d.Events != 36) {
			t.Errorf("second interval: %+v", d)
		}
		sum.Add(&d)
		before = snapshots[i]
	}
	if !reflect.DeepEqual(sum, snapshots[2]) {
		t.Errorf("sum of intervals:\n%+v\nwant\n%+v", sum, snapshots[2])
	}
}

// A count that went back, of an interface that came anew under the same index, adds nothing.
func TestIntervalOfACountThatWentBack(t *testing.T) {
	first, second := snapshot(10, 100, 4), snapshot(20, 30, 1)
	d := second.Since(&first)
	if n := d.Interfaces[0]; n.Packets != 0 || n.Dropped != 0 || *n.TxDroppedDelta != 0 || len(n.Reasons) != 0 {
		t.Errorf("%+v", n)
	}
}

// An interface that is folded into the entry of all others is not counted twice.
func TestIntervalOfAFoldedInterface(t *testing.T) {
	first := snapshot(10, 100, 4)
	second := snapshot(20, 130, 6)
	second.Interfaces[0].Device = Device{Name: "(others)"}
	d := second.Since(&first)
	if n := d.Interfaces[0]; n.Packets != 30 || n.Dropped != 2 || n.Slots[19] != 2 || n.Reasons["NO_SOCKET"] != 2 {
		t.Errorf("%d packets, %d dropped, %d of 19 slots, %v: want 30, 2, 2, 2", n.Packets, n.Dropped, n.Slots[19], n.Reasons)
	}
}

// A sum of whatever was recorded is bounded: what has no entry of its own is counted.
func TestASumIsBounded(t *testing.T) {
	const interfaces, each = 2 * mostSummed, 128
	var sum Totals
	for first := 0; first < interfaces; first += each {
		d := Totals{Missing: map[string]string{fmt.Sprint(first): "x"}}
		for i := first; i < first+each; i++ {
			n := InterfaceTotals{Device: Device{fmt.Sprint("e", i), 1 + i, 1}, Reasons: map[string]uint64{fmt.Sprint(i): 2}}
			n.Packets = 3
			d.Interfaces = append(d.Interfaces, n)
			d.Gaps = append(d.Gaps, Gap{From: time.Unix(int64(i), 0), Reason: GapSuspended})
		}
		sum.Add(&d)
	}
	reasons := uint64(0)
	for i := range sum.Interfaces {
		n := &sum.Interfaces[i]
		if len(n.Reasons) > mostReasons+1 {
			t.Errorf("%s: %d reasons", n.Name, len(n.Reasons))
		}
		for _, count := range n.Reasons {
			reasons += count
		}
	}
	if rest := sum.of(&InterfaceTotals{}); len(sum.Interfaces) != mostSummed+1 || rest == nil || rest.Name != RestName || rest.Packets != 3*(interfaces-mostSummed) {
		t.Fatalf("%d interfaces, the rest %+v", len(sum.Interfaces), rest)
	}
	if packets := sum.Sum().Packets; packets != 3*interfaces || reasons != 2*interfaces {
		t.Errorf("%d packets, %d with a reason; want %d, %d", packets, reasons, 3*interfaces, 2*interfaces)
	}
	want := fmt.Sprintf("%d more unmonitored intervals are not listed", interfaces-mostGaps)
	if len(sum.Gaps) != mostGaps || sum.Missing["gaps"] != want || len(sum.Missing) > mostMissing+1 {
		t.Errorf("%d gaps, %d missing, %q; want %q", len(sum.Gaps), len(sum.Missing), sum.Missing["gaps"], want)
	}
}

// Adding counts up allocates nothing: totals of many interfaces are read for each scrape.
func TestCountsAreAddedInPlace(t *testing.T) {
	var sum, more Counts
	more.Packets, more.Slots[3], more.Causes[1] = 2, 2, 1
	allocated := testing.AllocsPerRun(10, func() {
		total := sum // on the stack unless Each lets it escape
		total.Each(&more, Plus)
		sum = total
	})
	if allocated != 0 || sum.Packets != 22 || sum.Slots[3] != 22 || sum.Causes[1] != 11 {
		t.Errorf("%g allocations, sum %+v", allocated, sum)
	}
}

// What records show after the last interval is added to a copy of what intervals counted.
func TestUncountedRecordsAreAdded(t *testing.T) {
	eth0, eth1 := Device{"eth0", 2, 1}, Device{"eth1", 3, 1}
	delta := uint64(4)
	counted := Totals{Events: 4, Interfaces: []InterfaceTotals{{Device: eth0, Driver: "xen-netfront", TxDroppedDelta: &delta, Reasons: map[string]uint64{"X": 1}}}}
	counted.Interfaces[0].Packets, counted.Interfaces[0].Dropped = 10, 4
	var records Totals
	for _, p := range []Packet{
		{Interface: eth0, Verdict: Dropped, Cause: SGOff, Slots: 2, Limit: 18, Len: 100},
		{Interface: eth0, Verdict: Linearized, Slots: 30, Limit: 18, Len: 50},
		{Interface: eth1, Verdict: Rejected, Slots: 1, Limit: 18, Len: 7},
		{Interface: eth0, Verdict: Dropped, Layer: LayerElsewhere, Reason: "X", Limit: 18, Len: 9},
	} {
		records.AddRecord(&p)
	}
	sum := counted
	sum.AddUncounted(&records, []StartInterface{{Device: eth1, Driver: "other", Queues: 2}})
	a, b := sum.Interfaces[0], sum.Interfaces[1]
	if a.Packets != 12 || a.Bytes != 150 || a.Dropped != 5 || a.Causes[SGOff] != 1 || a.Linearized != 1 || a.OverLimit != 1 || a.Slots[30] != 1 || a.Elsewhere != 1 || a.Reasons["X"] != 2 || a.Driver != "xen-netfront" || a.TxDroppedDelta != nil {
		t.Errorf("eth0: %+v", a)
	}
	if b.Driver != "other" || b.Queues != 2 || b.Rejected == nil || *b.Rejected != 1 || sum.Events != 8 || sum.Missing["tx_dropped_delta"] == "" {
		t.Errorf("eth1: %+v; %d events, missing %q", b, sum.Events, sum.Missing)
	}
	if n := counted.Interfaces[0]; n.Packets != 10 || n.Reasons["X"] != 1 || n.TxDroppedDelta == nil || counted.Missing != nil {
		t.Errorf("what intervals counted was changed: %+v", n)
	}
}
