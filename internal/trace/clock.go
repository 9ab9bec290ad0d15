package trace

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"xentrace/internal/event"

	"golang.org/x/sys/unix"
)

// clockInterval is how long an offset is used before it is taken again: the
// wall clock may be set, or slewed, while the tracer runs.
const clockInterval = time.Second

// kernelClock turns the kernel's CLOCK_BOOTTIME, in which records are stamped,
// into wall time. Unlike CLOCK_MONOTONIC it goes on while the machine is suspended,
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
		_ = unix.ClockGettime(id, &now) // none can be missing, and a wrong id is a mistake of ours
		return time.Duration(now.Nano())
	}
	return clocks{read(unix.CLOCK_REALTIME), read(unix.CLOCK_BOOTTIME), read(unix.CLOCK_MONOTONIC)}
}

// leastLeap is what is told of: less is what reading three clocks one after the
// other, or a daemon that keeps the time, may make.
const leastLeap = 200 * time.Millisecond

// leaps returns what lies between two readings that is not the passing of time:
// how long the machine was suspended, and by how much the wall clock was set.
func (c clocks) leaps(later clocks) (suspended, set time.Duration) {
	suspended = later.boot - later.monotonic - (c.boot - c.monotonic)
	set = later.wall - later.boot - (c.wall - c.boot)
	if suspended < leastLeap {
		suspended = 0
	}
	if set.Abs() < leastLeap {
		set = 0
	}
	return suspended, set
}

// followClock tells of leaps of the wall clock until ctx ends.
func (t *Tracer) followClock(ctx context.Context) error {
	timer, err := leapTimer()
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
			t.leapt(before, now)
			before = now
		}
	})
	return nil
}

// leapTimer makes a timer that is never up, whose read fails with ECANCELED whenever
// the wall clock leaps.
func leapTimer() (*os.File, error) {
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

// leapt tells what made the wall clock leap.
func (t *Tracer) leapt(before, now clocks) {
	suspended, set := before.leaps(now)
	if suspended > 0 {
		// As the wall clock has it now: had it been set as well, nothing tells when.
		to := time.Unix(0, int64(now.wall))
		t.gaps.add(event.Gap{From: to.Add(-suspended), To: to, Reason: event.GapSuspended})
		t.notify(event.Notice{ID: event.NoticeSuspended, DurationMS: suspended.Milliseconds()})
	}
	if set != 0 {
		t.notify(event.Notice{ID: event.NoticeClockStep, StepMS: set.Milliseconds()})
	}
}
