// Package session is the pipeline of a run: a source's events, led through the history
// of flows and the filter to a sink, until the run ends.
package session

import (
	"context"
	"errors"
	"fmt"
	"io"
	"runtime/debug"
	"time"

	"xentrace/internal/event"
	"xentrace/internal/filter"
	"xentrace/internal/flow"
	"xentrace/internal/owner"
	"xentrace/internal/remedy"
)

// A Source delivers events in order, and counts.
type Source interface {
	// Next waits for the next event. It returns io.EOF once the source was stopped and
	// all events were delivered.
	Next(context.Context) (event.Event, error)
	// Totals returns what was counted so far; after Stop, what was counted.
	Totals(context.Context) (event.Totals, error)
	// Stop ends the counting.
	Stop(context.Context) error
	// Close frees what the source holds.
	Close() error
}

// A Sink accepts events in order. Emit is called by one goroutine at a time; its error
// ends the run.
type Sink interface {
	Emit(event.Event) error
	// Close writes what is buffered and returns the first error of all writes.
	Close() error
}

// Tee is a sink that passes each event to several.
func Tee(sinks ...Sink) Sink { return tee(sinks) }

type tee []Sink

func (t tee) Emit(e event.Event) error {
	var failed error
	for _, s := range t {
		failed = errors.Join(failed, s.Emit(e))
	}
	return failed
}

func (t tee) Close() error {
	var failed error
	for _, s := range t {
		failed = errors.Join(failed, s.Close())
	}
	return failed
}

// Options select what runs, and until when.
type Options struct {
	Source Source
	Sink   Sink
	Flows  *flow.Table // nil: flows are not followed
	// Facts decides which remedies the summary names; may be nil.
	Facts  func(event.Device) remedy.Facts
	Filter *filter.Filter // of packets and flow events; nil shows all

	Duration time.Duration   // 0: until ctx ends
	Count    int             // ends after so many packets that passed the filter; 0: no limit
	Broken   <-chan struct{} // closed when the sink cannot write any more; may be nil

	// Interval is how often the counts since the last time are emitted as an event.Interval,
	// and at the end; 0: never.
	Interval time.Duration
	// Summarize makes the summary, of a source that knows it; nil: it is made of the totals.
	Summarize func(*event.Totals) *event.Summary

	// Warn reports what is worth knowing and ends nothing; may be nil.
	Warn func(sentence string)
	// Status is called every second with the counts and the time left, 0 without an end;
	// may be nil.
	Status func(now *event.Totals, left time.Duration)
}

const statusInterval = time.Second

const most = 10

// Result is how a run ended.
type Result struct {
	Totals event.Totals
	// Dropped: a packet that passed the filter was dropped. Without a filter that includes
	// packets whose records were lost.
	Dropped bool
}

// Run leads events from source to sink until the run ends, then stops the source, drains
// it, emits the summary and closes both. An interrupt does not cut the end short. An error
// of the sink is the last of the errors returned.
func Run(ctx context.Context, o Options) (Result, error) {
	s := &session{Options: o, pipeline: pipeline{flows: o.Flows, filter: o.Filter, sink: o.Sink, facts: o.Facts, summarize: o.Summarize, added: make(chan struct{}, 1)}}
	last := context.WithoutCancel(ctx)
	running, abandon := context.WithCancel(last)
	defer abandon()
	reading := inBackground(func() error { return s.read(running) })
	polling := inBackground(func() error { s.follow(running, o.Warn); return nil })
	counting := inBackground(func() error { s.emitIntervals(running); return nil })
	err, ended := s.wait(ctx, reading)
	stopped := o.Source.Stop(last)
	if stopped != nil {
		abandon()
	}
	if !ended {
		err = result(<-reading)
	}
	abandon()
	_ = result(<-polling) // nil
	_ = result(<-counting)
	_ = s.poll() // an error of the sink is what closing it returns
	return s.end(last, errors.Join(stopped, err))
}

// An outcome is what a goroutine returned, or the panic that ended it.
type outcome struct {
	err      error
	panicked any
}

func inBackground(do func() error) <-chan outcome {
	c := make(chan outcome, 1)
	go func() {
		var o outcome
		defer func() {
			if p := recover(); p != nil {
				o.panicked = fmt.Sprintf("%v\n%s", p, debug.Stack())
			}
			c <- o
		}()
		o.err = do()
	}()
	return c
}

// result panics in the goroutine that called Run, whose deferred calls restore the terminal.
func result(o outcome) error {
	if o.panicked != nil {
		panic(o.panicked)
	}
	return o.err
}

type session struct {
	Options
	pipeline
	counted event.Totals // when the last interval was emitted
}

// totals reads the counts, with durations as a recording has them: in milliseconds.
func (s *session) totals(ctx context.Context) (event.Totals, error) {
	totals, err := s.Source.Totals(ctx)
	totals.Duration = totals.Duration.Truncate(time.Millisecond)
	return totals, err
}

// emitIntervals emits what was counted, again and again.
func (s *session) emitIntervals(ctx context.Context) {
	if s.Interval == 0 {
		return
	}
	ticker := time.NewTicker(s.Interval)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		if totals, err := s.totals(ctx); err == nil { // the end reports it
			s.emitInterval(&totals)
		}
	}
}

func (s *session) emitInterval(totals *event.Totals) {
	interval := event.Interval{Totals: totals.Since(&s.counted)}
	s.counted = *totals
	interval.Explained = s.explain(&interval.Totals)
	s.mu.Lock()
	defer s.mu.Unlock()
	_ = s.sink.Emit(&interval) // closing the sink returns the error
	if n := interval.SuppressedRecords(); n > 0 {
		_ = s.sink.Emit(&event.Notice{Time: totals.Time, ID: event.NoticeRecordsSuppressed, Count: n})
	}
}

// read delivers events until the source is stopped and drained, Count is reached, or it
// fails. A failure of the sink ends it too: closing the sink returns that.
func (s *session) read(ctx context.Context) error {
	for s.Count == 0 || s.packets < s.Count {
		e, err := s.Source.Next(ctx)
		switch {
		case errors.Is(err, io.EOF), errors.Is(err, context.Canceled):
			return nil
		case err != nil:
			return err
		}
		if err := s.add(e); err != nil {
			return nil
		}
	}
	return nil
}

// wait returns when the run is over: interrupted, its time up, the sink broken, or
// reading at an end, whose error it returns with true.
func (s *session) wait(ctx context.Context, reading <-chan outcome) (err error, ended bool) {
	var end, tick <-chan time.Time
	deadline := time.Now().Add(s.Duration)
	if s.Duration > 0 {
		timer := time.NewTimer(s.Duration)
		defer timer.Stop()
		end = timer.C
	}
	if s.Status != nil {
		ticker := time.NewTicker(statusInterval)
		defer ticker.Stop()
		tick = ticker.C
	}
	for {
		select {
		case <-ctx.Done():
			return nil, false
		case <-end:
			return nil, false
		case <-s.Broken:
			return nil, false
		case read := <-reading:
			return result(read), true
		case <-tick:
			s.status(ctx, deadline)
		}
	}
}

func (s *session) status(ctx context.Context, deadline time.Time) {
	now, err := s.totals(ctx)
	if err != nil {
		return // the end reports it
	}
	left := time.Duration(0)
	if s.Duration > 0 {
		left = time.Until(deadline)
	}
	s.Status(&now, left)
}

// end emits the summary and closes sink and source. failure is what went wrong before.
func (s *session) end(ctx context.Context, failure error) (Result, error) {
	var result Result
	totals, err := s.totals(ctx)
	if err != nil {
		err = fmt.Errorf("counts: %w", err)
	} else {
		if s.Interval > 0 {
			s.emitInterval(&totals)
		}
		_ = s.Sink.Emit(s.summary(&totals)) // closing it returns the error
	}
	result = Result{Totals: totals, Dropped: s.anyDropped(&totals)}
	written := s.Sink.Close()
	closed := s.Source.Close()
	if err := errors.Join(failure, err, closed); err != nil {
		return result, err
	}
	return result, written
}

// A Tracer is attached to the driver: a trace.Tracer.
type Tracer interface {
	// Read waits for the next record. It returns io.EOF once the tracer was stopped and
	// all records were read.
	Read(context.Context) (event.Packet, error)
	// Holders returns the processes that hold the sockets of these inodes.
	Holders(inodes []uint64) ([]event.Holder, error)
	Totals(context.Context) (event.Totals, error)
	Stop(context.Context) error
	Close() error
}

// Live is the source of a tracer's packets, each with its owner.
func Live(t Tracer) Source { return live{t, owner.NewReader(t.Read, t.Holders)} }

type live struct {
	Tracer
	owned *owner.Reader
}

func (l live) Next(ctx context.Context) (event.Event, error) {
	packet, err := l.owned.Read(ctx)
	if err != nil {
		return nil, err
	}
	return &packet, nil
}

func (l live) Close() error {
	l.owned.Close()
	return l.Tracer.Close()
}
