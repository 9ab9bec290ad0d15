package trace

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"xentrace/internal/event"
)

// maxGaps bounds the unmonitored intervals that are kept; beyond that the last one is
// extended to the end of the latest.
const maxGaps = 1000

// gaps are the unmonitored intervals in the order in which they began. Its methods may be
// called from several goroutines.
type gaps struct {
	mu  sync.Mutex
	all []event.Gap
}

// begin begins an unmonitored interval, unless one of that reason is open.
func (g *gaps) begin(reason event.GapReason, from time.Time) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.open(reason) == nil {
		g.append(event.Gap{From: from, Reason: reason})
	}
}

func (g *gaps) end(reason event.GapReason, to time.Time) (event.Gap, bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	gap := g.open(reason)
	if gap == nil {
		return event.Gap{}, false
	}
	gap.To = to
	return *gap, true
}

func (g *gaps) add(gap event.Gap) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.append(gap)
}

// list returns a copy.
func (g *gaps) list() []event.Gap {
	g.mu.Lock()
	defer g.mu.Unlock()
	return append([]event.Gap(nil), g.all...)
}

func (g *gaps) open(reason event.GapReason) *event.Gap {
	for i := range g.all {
		if g.all[i].Reason == reason && g.all[i].To.IsZero() {
			return &g.all[i]
		}
	}
	return nil
}

func (g *gaps) append(gap event.Gap) {
	if len(g.all) == maxGaps {
		last := &g.all[maxGaps-1]
		last.To, last.Reason = gap.To, gap.Reason
		return
	}
	g.all = append(g.all, gap)
}

// clockInterval is how long an offset is used before it is taken again: the
// wall clock may be set, or slewed, while the tracer runs.
const clockInterval = time.Second

// kernelClock turns the kernel's CLOCK_BOOTTIME, in which records are stamped,
// into wall time. Unlike CLOCK_MONOTONIC it advances while the machine is suspended,
// as the wall clock does.
type kernelClock struct {
	offset time.Duration // of the wall clock, as Unix time, from CLOCK_BOOTTIME
	taken  uint64        // CLOCK_BOOTTIME
}

// wallTime returns the wall time of a moment on CLOCK_BOOTTIME.
func (c *kernelClock) wallTime(moment uint64) time.Time {
	if c.taken == 0 || moment > c.taken+uint64(clockInterval) {
		now := readClocks()
		c.taken, c.offset = uint64(now.boot), now.wall-now.boot
	}
	return time.Unix(0, int64(moment)+int64(c.offset))
}

// clocks are the kernel's at one moment, each since its own beginning.
type clocks struct{ wall, boot, monotonic time.Duration }

func readClocks() clocks {
	read := func(id int32) time.Duration {
		var now unix.Timespec
		_ = unix.ClockGettime(id, &now) // fails only for an unknown clock
		return time.Duration(now.Nano())
	}
	return clocks{read(unix.CLOCK_REALTIME), read(unix.CLOCK_BOOTTIME), read(unix.CLOCK_MONOTONIC)}
}

// minClockStep is the least that is reported: reading three clocks in turn, or an NTP
// daemon, makes smaller ones.
const minClockStep = 200 * time.Millisecond

// jumps returns how long the machine was suspended between two readings, and by how much
// the wall clock was set.
func (c clocks) jumps(later clocks) (suspended, set time.Duration) {
	suspended = later.boot - later.monotonic - (c.boot - c.monotonic)
	set = later.wall - later.boot - (c.wall - c.boot)
	if suspended < minClockStep {
		suspended = 0
	}
	if set.Abs() < minClockStep {
		set = 0
	}
	return suspended, set
}

// followClock reports jumps of the wall clock until ctx ends.
func (t *Tracer) followClock(ctx context.Context) error {
	timer, err := clockStepTimer()
	if err != nil {
		return err
	}
	before := readClocks()
	t.following.Go(func() {
		defer timer.Close()
		// A deadline in the past makes a waiting read return.
		stop := context.AfterFunc(ctx, func() { _ = timer.SetReadDeadline(time.Unix(1, 0)) })
		defer stop()
		for {
			if _, err := timer.Read(make([]byte, 8)); !errors.Is(err, unix.ECANCELED) {
				return
			}
			now := readClocks()
			t.clockStepped(before, now)
			before = now
		}
	})
	return nil
}

// clockStepTimer makes a timer that never expires, whose read fails with ECANCELED when
// the wall clock jumps.
func clockStepTimer() (*os.File, error) {
	fd, err := unix.TimerfdCreate(unix.CLOCK_REALTIME, unix.TFD_NONBLOCK|unix.TFD_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("timer: %w", err)
	}
	never := unix.ItimerSpec{Value: unix.NsecToTimespec(1<<63 - 1)}
	if err := unix.TimerfdSettime(fd, unix.TFD_TIMER_ABSTIME|unix.TFD_TIMER_CANCEL_ON_SET, &never, nil); err != nil {
		return nil, errors.Join(fmt.Errorf("timer: %w", err), unix.Close(fd))
	}
	return os.NewFile(uintptr(fd), "timer"), nil
}

// clockStepped reports why the wall clock jumped.
func (t *Tracer) clockStepped(before, now clocks) {
	suspended, set := before.jumps(now)
	if suspended > 0 {
		// In terms of the wall clock now; if it was set as well, when is unknown.
		to := time.Unix(0, int64(now.wall))
		t.gaps.add(event.Gap{From: to.Add(-suspended), To: to, Reason: event.GapSuspended})
		t.notify(event.Notice{ID: event.NoticeSuspended, DurationMS: suspended.Milliseconds()})
	}
	if set != 0 {
		t.notify(event.Notice{ID: event.NoticeClockStep, StepMS: set.Milliseconds()})
	}
}
