package report

import (
	"strings"
	"testing"
	"time"

	"xentrace/internal/event"
)

// Counts stay whole whatever the times are: none, before the first, years away.
func TestStrangeTimes(t *testing.T) {
	at := func(when time.Time) *event.Packet { return packetOf(when, 1, 1) }
	backwards := intervalOf(midnight.Add(-time.Hour), 100, 0)
	backwards.Duration = -time.Second
	long := intervalOf(midnight, 100, 0)
	long.Duration = 100 * 365 * day
	events := []event.Event{
		at(midnight), at(midnight.Add(-time.Hour)), at(time.Time{}), at(time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC)), at(time.Date(1, 1, 1, 0, 0, 1, 0, time.UTC)),
		backwards, long, intervalOf(midnight.Add(10*time.Second), 100, 5),
		&event.Notice{ID: event.NoticeSuspended, DurationMS: 1 << 62}, &event.Notice{Time: midnight, ID: event.NoticeDriverUnloaded},
		&event.FlowEvent{}, stalledOf(midnight, at(midnight), 2, event.Recovered, -time.Hour), stalledOf(midnight, at(midnight), 2, event.Stalled, 1<<62),
	}
	c := collected(t, events)
	var packets, dropped uint64
	for b := range pageBuckets {
		packets += c.timeline.counts[packetSeries][b]
		dropped += c.timeline.counts[causeSeries+series(event.TooManySlots)][b]
	}
	if packets != 300 || dropped != 5 {
		t.Errorf("%d packets, %d drops on the timeline, want 300 and 5", packets, dropped)
	}
	if _, err := c.Page(optionsOf()); err != nil {
		t.Error(err)
	}
}

// What is spread over buckets adds up, before and after they become wider.
func TestSpreading(t *testing.T) {
	l := newTimeline()
	for i := range 2000 {
		from := midnight.Add(time.Duration(i) * 7 * time.Second)
		l.spread(packetSeries, from, from.Add(7*time.Second), uint64(i%5))
	}
	l.spread(packetSeries, midnight.Add(-40*time.Hour), midnight.Add(-39*time.Hour), 777)
	var sum uint64
	for _, n := range l.counts[packetSeries] {
		sum += n
	}
	if want := uint64(4000 + 777); sum != want || l.sums[packetSeries] != want {
		t.Errorf("%d in buckets, %d in all, want %d", sum, l.sums[packetSeries], want)
	}
	if l.width != 16*time.Minute {
		t.Errorf("buckets of %v for 44 hours", l.width)
	}
}

// Records and counters of the same packets count once; records after the last counters
// count, too.
func TestRecordsAndCounters(t *testing.T) {
	events := []event.Event{
		packetOf(midnight.Add(time.Second), 1, 1), packetOf(midnight.Add(2*time.Second), 1, 1),
		intervalOf(midnight.Add(10*time.Second), 100, 5), // 3 of them have no record
		packetOf(midnight.Add(11*time.Second), 1, 1),
	}
	c := collected(t, events)
	if n := c.timeline.allDropped(); n != 6 {
		t.Errorf("%d drops, want 6", n)
	}
	k := c.table.ranked()[0]
	if k.drops() != 3 || k.resent != 2 {
		t.Errorf("connection with %d drops, %d retransmissions, want 3 and 2", k.drops(), k.resent)
	}
}

func TestShares(t *testing.T) {
	for _, test := range []struct {
		part, whole uint64
		want        string
	}{{6, 6, "100 %"}, {0, 6, "0 %"}, {1200, 26_110_182, "0.0046 %"}, {999, 1000, "100 %"}, {123, 1000, "12 %"}, {1, 100, "1 %"}, {1, 30, "3.3 %"}} {
		if got := share(test.part, test.whole); got != test.want {
			t.Errorf("%d of %d is %s, want %s", test.part, test.whole, got, test.want)
		}
	}
}

// Connections beyond what is kept are counted, and the worst stay.
func TestManyConnections(t *testing.T) {
	var events []event.Event
	for i := range mostConnections + 500 {
		p := packetOf(midnight.Add(time.Duration(i)*time.Millisecond), i, 1)
		events = append(events, p)
		if i == 3 {
			events = append(events, stalledOf(p.Time, p, 2, event.Stalled, time.Second))
		}
	}
	c := collected(t, events)
	if n := uint64(len(c.table.all)) + c.table.evicted; n != mostConnections+500 || len(c.table.all) > mostConnections {
		t.Errorf("%d connections kept, %d in all", len(c.table.all), n)
	}
	if worst := c.table.ranked()[0]; worst.Source.Port() != 32768+3 {
		t.Errorf("the worst is %s", worst.name())
	}
}

// The end of a stall shows that it began before the first event; one that no event names is
// in the summary.
func TestStallsWithoutTheirBeginning(t *testing.T) {
	p, other := packetOf(midnight, 1, 1), packetOf(midnight, 2, 1)
	recovered := stalledOf(midnight.Add(time.Minute), p, 9, event.Recovered, 90*time.Second)
	still := stalledOf(midnight.Add(2*time.Minute), other, 9, event.Stalled, 30*time.Second)
	c := collected(t, []event.Event{recovered, &event.Summary{
		Totals: event.Totals{Time: midnight.Add(2 * time.Minute)}, Flows: &event.FlowSummary{Flows: []event.FlowHistory{recovered.Flow, still.Flow}},
	}})
	ranked := c.table.ranked()
	if len(ranked) != 2 || c.stalls != 2 || ranked[0].stalledFor != 30*time.Second || ranked[1].stalledFor != 90*time.Second {
		t.Fatalf("%d connections, %d stalls", len(ranked), c.stalls)
	}
	if ranked[0].stalledSince.IsZero() || !ranked[1].stalledSince.IsZero() || c.stalledNow() != 1 {
		t.Error("the wrong one is stalled at the end")
	}
}

// A stall ends with what was recorded of it: the next run may be an hour later.
func TestStallEndsWithItsRun(t *testing.T) {
	p := packetOf(midnight, 1, 1)
	stalled := stalledOf(midnight.Add(10*time.Second), p, 9, event.Stalled, 10*time.Second)
	c := collected(t, []event.Event{p, stalled, packetOf(midnight.Add(14*time.Second), 1, 1), &event.Start{Time: midnight.Add(time.Hour), BootID: "next"}, packetOf(midnight.Add(time.Hour+time.Second), 2, 1),
		&event.Summary{Totals: event.Totals{Time: midnight.Add(time.Hour + time.Second)}, Flows: &event.FlowSummary{Flows: []event.FlowHistory{stalled.Flow}}}})
	k := c.table.ranked()[0]
	if k.stalledFor != 14*time.Second || !k.stalledSince.IsZero() || c.stalledNow() != 0 {
		t.Errorf("stalled for %v, since %v; %d stalled at the end", k.stalledFor, k.stalledSince, c.stalledNow())
	}
}

// Unmonitored intervals come from gaps and notices; what both report counts once.
func TestUnmonitored(t *testing.T) {
	i := intervalOf(midnight.Add(time.Hour), 100, 0)
	i.Gaps = []event.Gap{{From: midnight.Add(10 * time.Minute), To: midnight.Add(20 * time.Minute), Reason: event.GapDriverUnloaded}}
	later := startOf(midnight.Add(3 * time.Hour))
	c := collected(t, []event.Event{
		startOf(midnight), &event.Notice{Time: midnight.Add(10 * time.Minute), ID: event.NoticeDriverUnloaded},
		&event.Notice{Time: midnight.Add(20 * time.Minute), ID: event.NoticeDriverReloaded, DurationMS: 600_000},
		i, &event.Notice{Time: midnight.Add(50 * time.Minute), ID: event.NoticeSuspended, DurationMS: 60_000},
		later, &event.Notice{Time: later.Time.Add(time.Minute), ID: event.NoticeUnmonitored, Reason: "hook gone"}, &event.Notice{Time: later.Time.Add(2 * time.Minute), ID: event.NoticeWaiting},
	})
	var got []string
	for _, s := range c.spans.sorted() {
		got = append(got, s.from.Sub(midnight).String()+" "+s.to.Sub(midnight).String()+" "+s.why)
	}
	want := []string{
		"10m0s 20m0s " + whyUnloaded, "49m0s 50m0s " + whySuspended, "1h0m0s 3h0m0s " + whyStopped, "3h1m0s 3h2m0s packets were not counted: hook gone",
	}
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	if d := c.spans.length(); d != 2*time.Hour+12*time.Minute {
		t.Errorf("%v in all", d)
	}
}
