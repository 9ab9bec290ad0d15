package trace

import (
	"time"

	"golang.org/x/sys/unix"
)

// clockInterval is how long an offset is used before it is taken again: the
// wall clock may be set, or slewed, while the tracer runs.
const clockInterval = time.Second

// kernelClock turns the kernel's CLOCK_MONOTONIC, in which records are
// stamped, into wall time.
type kernelClock struct {
	offset time.Duration // of the wall clock, as Unix time, from the monotonic clock
	taken  uint64        // monotonic
}

// wallTime returns the wall time of a moment on the monotonic clock.
func (c *kernelClock) wallTime(monotonic uint64) time.Time {
	if c.taken == 0 || monotonic > c.taken+uint64(clockInterval) {
		c.take()
	}
	return time.Unix(0, int64(monotonic)+int64(c.offset))
}

func (c *kernelClock) take() {
	var monotonic, wall unix.Timespec
	// Neither clock can be missing, and a wrong clock id is a mistake of ours.
	if unix.ClockGettime(unix.CLOCK_MONOTONIC, &monotonic) != nil ||
		unix.ClockGettime(unix.CLOCK_REALTIME, &wall) != nil {
		return
	}
	c.taken = uint64(monotonic.Nano())
	c.offset = time.Duration(wall.Nano() - monotonic.Nano())
}
