package trace

import (
	"testing"
	"time"

	"xentrace/internal/event"
)

func TestLeaps(t *testing.T) {
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
			suspended, set := before.leaps(test.now)
			if suspended != test.suspended || set != test.set {
				t.Errorf("suspended for %v, set by %v, want %v and %v", suspended, set, test.suspended, test.set)
			}
		})
	}
}

// What is told of a suspension, and when it was.
func TestLeapIsTold(t *testing.T) {
	var told []event.Notice
	tracer := &Tracer{options: Options{Notify: func(n event.Notice) { told = append(told, n) }}}
	tracer.leapt(clocks{wall: 100 * time.Second}, clocks{wall: 145 * time.Second, boot: 45 * time.Second, monotonic: 5 * time.Second})
	all := tracer.gaps.list()
	if len(all) != 1 || all[0] != (event.Gap{From: time.Unix(105, 0), To: time.Unix(145, 0), Reason: event.GapSuspended}) {
		t.Errorf("gaps %+v, want one of the 40 s up to 145", all)
	}
	if len(told) != 1 || told[0].ID != event.NoticeSuspended || told[0].DurationMS != 40_000 || told[0].Time.IsZero() {
		t.Errorf("notices %+v, want one of the suspension", told)
	}
	tracer.leapt(clocks{}, clocks{wall: time.Hour})
	if len(tracer.gaps.list()) != 1 || len(told) != 2 || told[1].ID != event.NoticeClockStep || told[1].StepMS != 3_600_000 {
		t.Errorf("%d unmonitored intervals, notices %+v: want a step of the clock and no interval", len(tracer.gaps.list()), told)
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
