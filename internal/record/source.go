package record

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"xentrace/internal/event"
)

// A Bound is one end of a range of time: a moment, or a duration before the end of the
// recording. The zero Bound is none.
type Bound struct {
	At     time.Time
	Before time.Duration
}

func (b Bound) set() bool { return !b.At.IsZero() || b.Before > 0 }

// moment is the bound in a recording that ends then.
func (b Bound) moment(end time.Time) time.Time {
	if b.Before > 0 {
		return end.Add(-b.Before)
	}
	return b.At
}

// ReadOptions choose what is read.
type ReadOptions struct {
	Since, Until Bound
	// Damaged is called with each part that cannot be read; may be nil.
	Damaged func(Damage)
	// Hash has Files return what was read.
	Hash bool
}

// A Source reads recordings, several at once merged by time. It is a session's source: its
// events are those of the recordings, in order, and Summary is what they counted.
type Source struct {
	recordings   []*recording
	digests      []*digest // of all files, if they are hashed
	since, until time.Time // zero: no bound
	damaged      func(Damage)
	boots        boots

	stopping func()          // of Stop
	stopped  <-chan struct{} // closed by it

	mu        sync.Mutex
	summaries summaries
	damages   int
	from, to  time.Time // of all events that were read, in the range or not
	any       bool      // one of them, other than a start or a summary, is in the range
}

// A recording is one of those that are merged: the segments of a directory, or a file.
type recording struct {
	stream *stream
	head   event.Event // read and not yet handed over; nil: none
	key    time.Time   // of head: orders it among all
	clock  clock
	ended  bool
}

// Open opens recordings: files, and directories of segments. Its errors name the path.
func Open(ctx context.Context, paths []string, o ReadOptions) (*Source, error) {
	stopped := make(chan struct{})
	s := &Source{damaged: o.Damaged, boots: boots{known: make(map[string]boot)}, stopped: stopped, stopping: sync.OnceFunc(func() { close(stopped) })}
	var all [][]file
	for _, path := range paths {
		files, err := filesOf(path)
		if err != nil {
			return nil, err
		}
		all = append(all, files)
	}
	if o.Since.set() || o.Until.set() {
		var end time.Time
		if o.Since.Before > 0 || o.Until.Before > 0 {
			var err error
			if end, err = endOf(ctx, all); err != nil {
				return nil, err
			}
		}
		s.since, s.until = o.Since.moment(end), o.Until.moment(end)
		if !s.until.IsZero() && s.since.After(s.until) {
			return nil, fmt.Errorf("range ends before it begins: from %s to %s", stamp(s.since), stamp(s.until))
		}
		s.summaries.ranged = true
	}
	for _, files := range all {
		if o.Hash {
			s.digests = append(s.digests, digestsOf(files)...)
		}
		s.recordings = append(s.recordings, &recording{stream: openStream(ctx, files)})
	}
	return s, nil
}

func stamp(at time.Time) string { return at.Local().Format("2006-01-02 15:04:05") }

// endOf returns the time of the last event of recordings; of a directory only the last two
// segments are read for it: the last may hold nothing yet.
func endOf(ctx context.Context, all [][]file) (time.Time, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var end time.Time
	for _, files := range all {
		if err := readableTwice(files); err != nil {
			return end, err
		}
		var c clock
		last := openStream(ctx, files[max(len(files)-2, 0):])
		for {
			i, err := last.next(ctx, nil)
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				return end, err
			}
			if at := timeOf(i.event); at.After(end) {
				end = at
			}
			c.observe(i.event)
		}
	}
	return end, nil
}

// Next returns the next event in the range.
func (s *Source) Next(ctx context.Context) (event.Event, error) {
	for {
		select {
		case <-s.stopped:
			return nil, io.EOF
		default:
		}
		e, shown, err := s.take(ctx, s.stopped)
		if err != nil {
			return nil, err
		}
		if shown {
			return e, nil
		}
	}
}

// Drain counts what is left, though Next was called for only some of it.
func (s *Source) Drain(ctx context.Context) error {
	for {
		_, _, err := s.take(ctx, nil)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// take counts the next event, and reports whether it is to be shown. It returns io.EOF once
// stopped is closed.
func (s *Source) take(ctx context.Context, stopped <-chan struct{}) (e event.Event, shown bool, err error) {
	r, err := s.first(ctx, stopped)
	if err != nil {
		return nil, false, err
	}
	e, key := r.head, r.key
	r.head = nil
	within := s.inRange(e, key)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.cover(e, within)
	if !within {
		s.summaries.pass(r, e)
		return e, false, nil
	}
	return e, s.summaries.add(r, e), nil
}

// cover notes an event that was read.
func (s *Source) cover(e event.Event, within bool) {
	at := timeOf(e)
	if s.from.IsZero() || at.Before(s.from) {
		s.from = at
	}
	if at.After(s.to) {
		s.to = at
	}
	switch e.(type) {
	case *event.Start, *event.Summary:
	default:
		s.any = s.any || within
	}
}

// Covered returns the times of the first and the last event that were read, zero if there
// was none. empty reports that none of them is in the range, if there is one.
func (s *Source) Covered() (from, to time.Time, empty bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.from, s.to, s.summaries.ranged && !s.any
}

// first returns the recording whose next event is the earliest.
func (s *Source) first(ctx context.Context, stopped <-chan struct{}) (*recording, error) {
	var first *recording
	for _, r := range s.recordings {
		if err := s.advance(ctx, stopped, r); err != nil {
			return nil, err
		}
		if r.head != nil && (first == nil || r.key.Before(first.key)) {
			first = r
		}
	}
	if first == nil {
		return nil, io.EOF
	}
	return first, nil
}

// advance reads the next event of a recording, if it is not there yet.
func (s *Source) advance(ctx context.Context, stopped <-chan struct{}, r *recording) error {
	for r.head == nil && !r.ended {
		i, err := r.stream.next(ctx, stopped)
		switch {
		case errors.Is(err, errStopped):
			return io.EOF
		case errors.Is(err, io.EOF):
			r.ended = true
		case err != nil:
			return err
		case i.damage != nil:
			s.report(*i.damage)
		default:
			r.clock.observe(i.event)
			if start, isStart := i.event.(*event.Start); isStart {
				s.align(r, start)
			}
			r.head, r.key = i.event, r.clock.steady(timeOf(i.event))
		}
	}
	return nil
}

// align places a run on the time line of its boot, which the wall clock may have left.
func (s *Source) align(r *recording, start *event.Start) {
	if start.BootID == "" {
		return
	}
	first := s.boots.of(start)
	r.clock.offset = first.wall.Add(start.Uptime - first.uptime).Sub(start.Time)
}

func (s *Source) report(d Damage) {
	s.mu.Lock()
	s.damages++
	s.mu.Unlock()
	if s.damaged != nil {
		s.damaged(d)
	}
}

// Damages returns how many parts could not be read so far.
func (s *Source) Damages() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.damages
}

// inRange reports whether an event is in the range, by the wall clock or by a clock that was
// never set. An interval is if a part of it is; what describes a run always is.
func (s *Source) inRange(e event.Event, key time.Time) bool {
	began := time.Duration(0)
	switch e := e.(type) {
	case *event.Start:
		return true
	case *event.Interval:
		began = e.Duration
	case *event.Summary:
		return true
	}
	within := func(at time.Time) bool {
		return (s.since.IsZero() || !at.Before(s.since)) && (s.until.IsZero() || !at.Add(-began).After(s.until))
	}
	return within(timeOf(e)) || within(key)
}

// Totals returns what was counted so far in the range.
func (s *Source) Totals(context.Context) (event.Totals, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.summaries.summary().Totals, nil
}

// Summary returns what was counted in the range: as recorded of a whole run, else the sum
// of the intervals.
func (s *Source) Summary() *event.Summary {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.summaries.summary()
}

// Stop has Next return io.EOF, also where it waits for a file.
func (s *Source) Stop(context.Context) error {
	s.stopping()
	return nil
}

// Close does nothing: reading ends with the context of Open.
func (s *Source) Close() error { return nil }

// A clock follows how the wall clock of a run was set.
type clock struct {
	stepped time.Duration // by how much in all
	offset  time.Duration // to the time line of the boot
}

func (c *clock) observe(e event.Event) {
	switch e := e.(type) {
	case *event.Start:
		*c = clock{}
	case *event.Notice:
		if e.ID == event.NoticeClockStep {
			c.stepped += time.Duration(e.StepMS) * time.Millisecond
		}
	}
}

// steady is a time as a clock that was never set would show it.
func (c *clock) steady(at time.Time) time.Time { return at.Add(c.offset - c.stepped) }

func timeOf(e event.Event) time.Time {
	switch e := e.(type) {
	case *event.Packet:
		return e.Time
	case *event.FlowEvent:
		return e.Time
	case *event.Notice:
		return e.Time
	case *event.Interval:
		return e.Time
	case *event.Summary:
		return e.Time
	case *event.Start:
		return e.Time
	}
	return time.Time{}
}

// errNothing reports that a path holds no recording.
func errNothing(path string) error {
	return fmt.Errorf("recording %s: no segment in this directory; xentrace record --dir writes them", path)
}
