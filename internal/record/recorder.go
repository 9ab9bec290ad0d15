package record

import (
	"bytes"
	"errors"
	"fmt"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"xentrace/internal/event"
	"xentrace/internal/output"
)

// A Store keeps lines: [Create] and [OpenDirectory] open one.
type Store interface {
	// write stores whole lines, which are on disk when it returns; start is the first line
	// of a file.
	write(lines []byte, start func(segment int) []byte) error
	close() error
}

const (
	// flushInterval is how long a line waits at most before it is written.
	flushInterval = 500 * time.Millisecond

	retryInterval = time.Second // while writing is paused

	// maxPending bounds the lines that wait for the disk: what comes then is counted.
	maxPending = 8 << 20

	// closeTimeout is how long Close waits for a disk that does not answer.
	closeTimeout = 5 * time.Second

	// maxWrite bounds the lines of one write, and so of a frame.
	maxWrite = 256 << 10
)

// A Recorder is a sink that writes events to a store in the background, so that a disk that
// is slow, full or gone delays nothing. Emit may be called by several goroutines.
type Recorder struct {
	store  Store
	notify func(event.Notice)
	queued chan struct{} // holds one value if something was queued since it was read
	stop   chan struct{}
	done   chan struct{}

	patience time.Duration // of Close

	mu      sync.Mutex
	start   *event.Start
	pending []byte
	held    *event.Interval // intervals that found no space, added up
	lost    uint64          // lines that found no space
	err     error           // of the last write; nil if it succeeded

	spare  []byte
	begun  bool      // the first line is written
	paused time.Time // since when writes fail; zero: they do not
}

// NewRecorder returns a recorder; notify is called when writing pauses or resumes.
// Nothing is written before Begin.
func NewRecorder(store Store, notify func(event.Notice)) *Recorder {
	return &Recorder{
		store: store, notify: notify, patience: closeTimeout,
		queued: make(chan struct{}, 1), stop: make(chan struct{}), done: make(chan struct{}),
	}
}

// Begin starts writing: start is the first line of the recording, and with a time of its own
// of every segment. What was emitted before follows it.
func (r *Recorder) Begin(start *event.Start) {
	r.mu.Lock()
	r.start = start
	r.mu.Unlock()
	go r.run()
}

// Emit queues one event.
func (r *Recorder) Emit(e event.Event) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if i, isInterval := e.(*event.Interval); isInterval {
		r.addInterval(i)
		return nil
	}
	if len(r.pending) >= maxPending {
		r.lost++
		return nil
	}
	r.queue(e)
	return nil
}

// queue has a line written within flushInterval. Without one the recorder does not wake up.
func (r *Recorder) queue(e event.Event) {
	r.pending = output.Recording{}.Append(r.pending, e)
	select {
	case r.queued <- struct{}{}:
	default:
	}
}

// addInterval queues an interval; without space it is kept, so that counts stay whole.
func (r *Recorder) addInterval(i *event.Interval) {
	if r.held != nil {
		r.held.Add(&i.Totals)
		r.held.Explained = addExplained(r.held.Explained, i.Explained)
		i = r.held
	}
	if len(r.pending) >= maxPending {
		held := *i
		r.held = &held
		return
	}
	r.held = nil
	r.queue(i)
}

func (r *Recorder) run() {
	defer close(r.done)
	for {
		delay := retryInterval
		if r.flush() { // the start is written at once
			delay = flushInterval
			select {
			case <-r.stop:
				r.flush()
				return
			case <-r.queued:
			}
		}
		select {
		case <-r.stop:
			r.flush()
			return
		case <-time.After(delay):
		}
	}
}

// flush writes what is queued and reports whether that succeeded.
func (r *Recorder) flush() bool {
	r.mu.Lock()
	lines, lost := r.pending, r.lost
	idle := len(lines) == 0 && r.err == nil && r.begun
	if !idle {
		r.pending, r.lost = r.spare[:0], 0
	}
	r.mu.Unlock()
	if idle {
		return true
	}
	rest, err := r.write(lines)
	if err == nil && !r.paused.IsZero() {
		err = r.store.write(output.Recording{}.Append(nil, r.resumed(lost)), r.startLine)
	}
	r.mu.Lock()
	r.err = err
	if err != nil {
		r.pending, r.lost = append(bytes.Clone(rest), r.pending...), r.lost+lost
	}
	r.spare = lines
	r.mu.Unlock()
	r.report(err, lost)
	return err == nil
}

// write writes lines, some at a time, and returns what is left after an error.
func (r *Recorder) write(lines []byte) (rest []byte, err error) {
	for len(lines) > 0 || !r.begun {
		n := len(lines)
		if n > maxWrite {
			n = bytes.LastIndexByte(lines[:maxWrite], '\n') + 1
			if n == 0 { // one long line
				n = bytes.IndexByte(lines, '\n') + 1
			}
		}
		if err := r.store.write(lines[:n], r.startLine); err != nil {
			return lines, err
		}
		lines, r.begun = lines[n:], true
	}
	return nil, nil
}

func (r *Recorder) report(err error, lost uint64) {
	switch {
	case err != nil && r.paused.IsZero():
		r.paused = time.Now()
		r.notify(event.Notice{Time: r.paused, ID: event.NoticeRecordingPaused, Reason: err.Error()})
	case err == nil && !r.paused.IsZero():
		r.notify(*r.resumed(lost))
		r.paused = time.Time{}
	}
}

func (r *Recorder) resumed(lost uint64) *event.Notice {
	return &event.Notice{Time: time.Now(), ID: event.NoticeRecordingResumed, DurationMS: time.Since(r.paused).Milliseconds(), Count: lost}
}

func (r *Recorder) startLine(segment int) []byte {
	r.mu.Lock()
	start := *r.start
	r.mu.Unlock()
	if start.Segment = segment; segment > 1 {
		start.Time, start.Uptime = time.Now(), Uptime()
	}
	return output.Recording{}.AppendStart(nil, &start)
}

// Close writes what is queued and closes the store. It returns why the last lines could not
// be written.
func (r *Recorder) Close() error {
	r.mu.Lock()
	begun := r.start != nil
	r.mu.Unlock()
	if begun {
		close(r.stop)
		select {
		case <-r.done:
		case <-time.After(r.patience):
			return errors.New("recording: the disk does not answer; what was not written yet is lost")
		}
	}
	err := r.err
	if closed := r.store.close(); err == nil {
		err = closed
	}
	if err != nil {
		return fmt.Errorf("recording: %w", err)
	}
	return nil
}

// Uptime is the time since boot, suspended time included (CLOCK_BOOTTIME).
func Uptime() time.Duration {
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &now); err != nil {
		return 0 // the kernel has it since 2.6.39
	}
	return time.Duration(now.Nano())
}
