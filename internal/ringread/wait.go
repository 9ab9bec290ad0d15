package ringread

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"os"
	"sync"
	"time"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

// A waiter waits for a ring buffer's wake-up, or another's.
type waiter struct {
	file *ebpf.Map
	fds  [2]unix.PollFd // of wait

	mu     sync.Mutex
	event  int // an eventfd, readable after wake
	closed bool
}

func newWaiter(file *ebpf.Map) (*waiter, error) {
	event, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		return nil, fmt.Errorf("eventfd: %w", err)
	}
	return &waiter{file: file, event: event}, nil
}

// wait returns nil once the ring buffer has records.
func (w *waiter) wait(deadline time.Time) error {
	for {
		w.fds = [...]unix.PollFd{{Fd: int32(w.file.FD()), Events: unix.POLLIN}, {Fd: int32(w.event), Events: unix.POLLIN}}
		n, err := unix.Poll(w.fds[:], until(deadline))
		switch {
		case errors.Is(err, unix.EINTR):
		case err != nil:
			return fmt.Errorf("poll: %w", err)
		case w.fds[1].Revents != 0:
			return w.woken()
		case n > 0:
			return nil
		case !deadline.IsZero() && !time.Now().Before(deadline):
			return os.ErrDeadlineExceeded
		}
	}
}

// until returns the time to a deadline in ms, rounded up; -1 for ever.
func until(deadline time.Time) int {
	if deadline.IsZero() {
		return -1
	}
	left := time.Until(deadline)
	return int(min(max(left+time.Millisecond-1, 0)/time.Millisecond, math.MaxInt32))
}

func (w *waiter) woken() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed {
		return os.ErrClosed // the event stays readable
	}
	if _, err := unix.Read(w.event, make([]byte, 8)); err != nil {
		return fmt.Errorf("eventfd: %w", err)
	}
	return ErrFlushed
}

func (w *waiter) wake() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed {
		return os.ErrClosed
	}
	return w.post()
}

func (w *waiter) post() error {
	if _, err := unix.Write(w.event, binary.NativeEndian.AppendUint64(nil, 1)); err != nil {
		return fmt.Errorf("eventfd: %w", err)
	}
	return nil
}

// close wakes the one that waits for good. It reports false if that was done before.
func (w *waiter) close() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed {
		return false
	}
	w.closed = true
	_ = w.post() // an eventfd takes more than 2^63 posts
	return true
}

// free must be called once nobody waits.
func (w *waiter) free() error { return unix.Close(w.event) }
