package trace

import (
	"reflect"
	"testing"
	"time"

	"xentrace/internal/event"
)

func TestGaps(t *testing.T) {
	at := func(seconds int) time.Time { return time.Unix(int64(seconds), 0) }
	var g gaps
	if _, open := g.end(event.GapDriverUnloaded, at(1)); open {
		t.Error("a gap ended that never began")
	}
	g.begin(event.GapDriverUnloaded, at(10))
	g.begin(event.GapDriverUnloaded, at(11)) // it is open already
	g.add(event.Gap{From: at(12), To: at(14), Reason: event.GapSuspended})
	if gap, open := g.end(event.GapDriverUnloaded, at(20)); !open || gap.From != at(10) || gap.To != at(20) {
		t.Errorf("gap %+v, open %v, want one from 10 to 20", gap, open)
	}
	g.begin(event.GapDriverUnloaded, at(30))
	want := []event.Gap{
		{From: at(10), To: at(20), Reason: event.GapDriverUnloaded},
		{From: at(12), To: at(14), Reason: event.GapSuspended},
		{From: at(30), To: time.Time{}, Reason: event.GapDriverUnloaded},
	}
	got := g.list()
	if !reflect.DeepEqual(got, want) {
		t.Errorf("gaps %+v, want %+v", got, want)
	}
	got[0].From = at(0)
	if g.list()[0].From != at(10) {
		t.Error("the list is not a copy")
	}
}

// More gaps than are remembered one by one: the last one takes in the rest.
func TestGapsAreBounded(t *testing.T) {
	var g gaps
	const n = maxGaps + 500
	for i := range n {
		g.begin(event.GapDriverUnloaded, time.Unix(int64(10*i), 0))
		if _, open := g.end(event.GapDriverUnloaded, time.Unix(int64(10*i+5), 0)); !open {
			t.Fatalf("gap %d was not open", i)
		}
	}
	all := g.list()
	last := all[len(all)-1]
	if len(all) != maxGaps || last.From != time.Unix(10*(maxGaps-1), 0) || last.To != time.Unix(10*(n-1)+5, 0) {
		t.Errorf("%d gaps, the last one %+v, want %d and the last to end with the latest", len(all), last, maxGaps)
	}
}
