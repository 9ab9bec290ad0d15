// Package output turns events into text and JSON. Text and JSON are sinks: they write
// whole lines to a writer; Stream writes in the background, Console to standard error.
package output

import (
	"fmt"
	"io"
	"sync"
	"time"

	"xentrace/internal/event"
)

// A Lines is a sink that writes each event as lines.
type Lines struct {
	out    io.Writer
	append func(b []byte, e event.Event) []byte
	buffer []byte
}

// NewJSON returns a sink that writes one object a line.
func NewJSON(out io.Writer) *Lines { return &Lines{out: out, append: JSON{}.Append} }

// NewText returns a sink that writes for people.
func NewText(out io.Writer, t *Text) *Lines { return &Lines{out: out, append: t.Append} }

// Emit writes the lines of one event.
func (l *Lines) Emit(e event.Event) error {
	l.buffer = l.append(l.buffer[:0], e)
	if len(l.buffer) == 0 {
		return nil
	}
	_, err := l.out.Write(l.buffer)
	return err
}

// Append appends the line of an event, or the lines of one that is several objects.
func (j JSON) Append(b []byte, e event.Event) []byte {
	switch e := e.(type) {
	case *event.Packet:
		return j.AppendPacket(b, e)
	case *event.FlowEvent:
		return j.AppendFlow(b, e)
	case *event.Summary:
		return j.AppendSummary(b, e)
	case *event.Report:
		return j.AppendReport(b, e)
	case *event.Probe:
		return j.AppendProbe(b, e)
	case *event.Probes:
		return b // each was a line
	case *event.FixStep:
		return j.AppendFix(b, e)
	case *event.Congestion:
		return j.AppendCongestion(b, e)
	case *event.Start, *event.Interval, *event.Notice:
		return b // only in recordings
	}
	panic(fmt.Sprintf("event of type %s has no JSON", e.Type()))
}

// Append appends the lines of an event.
func (t *Text) Append(b []byte, e event.Event) []byte {
	switch e := e.(type) {
	case *event.Packet:
		return t.AppendPacket(b, e)
	case *event.FlowEvent:
		return t.AppendFlow(b, e)
	case *event.Summary:
		if t.Histogram {
			return t.AppendHistogram(b, e)
		}
		return t.AppendSummary(b, e)
	case *event.Report:
		return t.AppendReport(b, e)
	case *event.Probe:
		return t.AppendProbe(b, e)
	case *event.Probes:
		return t.AppendProbeEnd(b, e)
	case *event.FixStep:
		return t.AppendFix(b, e)
	case *event.Congestion:
		if t.Short {
			return t.AppendCongestionShort(b, e)
		}
		return t.AppendCongestion(b, e)
	case *event.Start, *event.Interval, *event.Notice:
		return b // only in recordings
	}
	panic(fmt.Sprintf("event of type %s has no text", e.Type()))
}

const (
	// writeInterval is the minimum time between two writes of a Stream while little is
	// queued. A single record is written at once; in a storm the records of one
	// interval share a write.
	writeInterval = 20 * time.Millisecond

	writeEarly = 256 << 10 // bytes queued that end the interval
	writeMost  = 1 << 20   // bytes queued that make Write block
)

// A Stream writes lines in the background, so that the reader of the ring does
// not wait for a write per record. Lines stay whole and in order.
type Stream struct {
	w      io.Writer
	ready  chan struct{} // something is queued, or the stream was closed
	urgent chan struct{} // writeEarly bytes are queued, or the stream was closed
	done   chan struct{} // closed when the writer has ended
	failed chan struct{} // closed at the first error

	mu      sync.Mutex
	room    sync.Cond // waiting was emptied, or there is an error
	waiting []byte
	closed  bool
	err     error
}

// NewStream returns a Stream that writes to w until it is closed.
func NewStream(w io.Writer) *Stream {
	s := &Stream{
		w:      w,
		ready:  make(chan struct{}, 1),
		urgent: make(chan struct{}, 1),
		done:   make(chan struct{}),
		failed: make(chan struct{}),
	}
	s.room.L = &s.mu
	go s.run()
	return s
}

// Write queues lines, which must be whole. It blocks only while more than 1 MiB is
// queued, and returns the error of an earlier write.
func (s *Stream) Write(lines []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for len(s.waiting) >= writeMost && s.err == nil {
		s.room.Wait()
	}
	if s.err != nil {
		return 0, s.err
	}
	s.waiting = append(s.waiting, lines...)
	notify(s.ready)
	if len(s.waiting) >= writeEarly {
		notify(s.urgent)
	}
	return len(lines), nil
}

// Failed is closed when a write has failed; Close then returns the error.
func (s *Stream) Failed() <-chan struct{} { return s.failed }

// Close writes what is queued and returns the first error of all writes. The
// underlying writer stays open.
func (s *Stream) Close() error {
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	notify(s.ready)
	notify(s.urgent)
	<-s.done
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.err
}

func notify(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

func (s *Stream) run() {
	defer close(s.done)
	var last time.Time
	var spare []byte
	pause := time.NewTimer(0)
	defer pause.Stop()
	for range s.ready {
		if wait := writeInterval - time.Since(last); wait > 0 {
			pause.Reset(wait)
			select {
			case <-pause.C:
			case <-s.urgent:
			}
		}
		lines, closed := s.take(spare)
		if len(lines) > 0 {
			if _, err := s.w.Write(lines); err != nil {
				s.fail(err)
				return
			}
		}
		if closed {
			return
		}
		last, spare = time.Now(), lines[:0]
	}
}

// take returns what is queued, and leaves an empty buffer.
func (s *Stream) take(empty []byte) (lines []byte, closed bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	lines, s.waiting = s.waiting, empty
	s.room.Broadcast()
	return lines, s.closed
}

func (s *Stream) fail(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.err = err
	s.room.Broadcast()
	close(s.failed)
}
