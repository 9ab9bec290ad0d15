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

func TestClockJumps(t *testing.T) {
	const hour = time.Hour
	before := clocks{wall: 500_000 * hour, boot: 10 * hour, monotonic: 9 * hour}
	after := func(wall, boot, monotonic time.Duration) clocks {
		return clocks{before.wall + wall, before.boot + boot, before.monotonic + monotonic}
	}
	for _, test := range []struct {
		name      string
		now       clocks
		suspended time.Duration
		set       time.Duration
	}{
		{"time passes", after(hour, hour, hour), 0, 0},
		{"read one after the other", after(hour+3*time.Millisecond, hour+time.Millisecond, hour), 0, 0},
		{"slewed", after(hour+100*time.Millisecond, hour, hour), 0, 0},
		{"suspended", after(hour+time.Minute, hour+time.Minute, hour), time.Minute, 0},
		{"set forward", after(2*hour, hour, hour), 0, hour},
		{"set back", after(0, hour, hour), 0, -hour},
		{"suspended, and set by what the host's clock said", after(hour+70*time.Second, hour+time.Minute, hour), time.Minute, 10 * time.Second},
	} {
		t.Run(test.name, func(t *testing.T) {
			suspended, set := before.jumps(test.now)
			if suspended != test.suspended || set != test.set {
				t.Errorf("suspended for %v, set by %v, want %v and %v", suspended, set, test.suspended, test.set)
			}
		})
	}
}

// A suspension and a clock step are reported.
func TestClockJumpIsReported(t *testing.T) {
	var notices []event.Notice
	tracer := &Tracer{options: Options{Notify: func(n event.Notice) { notices = append(notices, n) }}}
	tracer.clockStepped(clocks{wall: 100 * time.Second}, clocks{wall: 145 * time.Second, boot: 45 * time.Second, monotonic: 5 * time.Second})
	all := tracer.gaps.list()
	if len(all) != 1 || all[0] != (event.Gap{From: time.Unix(105, 0), To: time.Unix(145, 0), Reason: event.GapSuspended}) {
		t.Errorf("gaps %+v, want one of the 40 s up to 145", all)
	}
	if len(notices) != 1 || notices[0].ID != event.NoticeSuspended || notices[0].DurationMS != 40_000 || notices[0].Time.IsZero() {
		t.Errorf("notices %+v, want one of the suspension", notices)
	}
	tracer.clockStepped(clocks{}, clocks{wall: time.Hour})
	if len(tracer.gaps.list()) != 1 || len(notices) != 2 || notices[1].ID != event.NoticeClockStep || notices[1].StepMS != 3_600_000 {
		t.Errorf("%d unmonitored intervals, notices %+v: want a step of the clock and no interval", len(tracer.gaps.list()), notices)
	}
}

// The clock is the one that records are stamped with.
func TestWallTime(t *testing.T) {
	var clock kernelClock
	for range 3 {
		now := readClocks()
		if got := clock.wallTime(uint64(now.boot)); got.Sub(time.Unix(0, int64(now.wall))).Abs() > 50*time.Millisecond {
			t.Errorf("wall time %v of a moment at %v", got, time.Unix(0, int64(now.wall)))
		}
	}
}
