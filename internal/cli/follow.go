package cli

import (
	"context"
	"errors"
	"io"

	"xentrace/internal/event"
	"xentrace/internal/flow"
	"xentrace/internal/output"
)

// follow is a whole run of a command that traces: attach, read until the end,
// stop, read what is left, write what finish makes of the final counts, detach.
// It returns those counts.
//
// The tracer is read also where no records are asked for: what it learns of
// interfaces may come the same way.
func follow(ctx context.Context, in *invocation, records bool,
	finish func(output.Format, []byte, *output.Run) []byte) (event.Totals, error) {
	s, err := open(ctx, in, records)
	if s == nil {
		return event.Totals{}, err
	}
	last := context.WithoutCancel(ctx) // an interrupt does not cut the end short
	reader, abandon := context.WithCancel(last)
	defer abandon()
	reading := make(chan error, 1)
	go func() { reading <- s.read(reader) }()
	polled := s.poll(reader)

	display := s.show(ctx)
	err, ended := s.wait(ctx, reading)
	left := display.close()
	stopped := s.tracer.Stop(last)
	if stopped != nil {
		abandon()
	}
	if !ended {
		err = <-reading
	}
	abandon()
	<-polled
	if s.feed != nil {
		_ = s.feed.poll() // of standard output, whose stream tells of it
	}
	s.packets.Close()
	return s.end(last, errors.Join(left, stopped, err), finish)
}

// poll asks how the flows stand until ctx ends; then the channel is closed.
func (s *session) poll(ctx context.Context) <-chan struct{} {
	done := make(chan struct{})
	if s.feed == nil {
		close(done)
		return done
	}
	go func() {
		defer close(done)
		s.feed.run(ctx)
	}()
	return done
}

// mostFlows is how many flows the summary names.
const mostFlows = 10

// run is what there is to tell at the end.
func (s *session) run(totals *event.Totals) *output.Run {
	run := &output.Run{Totals: totals}
	if s.selection != nil {
		run.Filter, run.LeftOut = s.selection.filter.Flags(), s.selection.leftOut
	}
	if s.feed != nil {
		summary := s.feed.table.Summary(totals.Time, mostFlows)
		run.Flows = &summary
	}
	return run
}

// newFeed leads records through a table of flows, and then the filters, to the
// screen or standard output.
func (s *session) newFeed() *feed {
	var to sink = &lines{format: s.format, out: s.out}
	if s.screen != nil {
		to = shown{s.screen}
	}
	s.selection = &selection{sink: to, filter: &s.in.filter}
	table := flow.NewTable(0, s.tracer.Connections())
	table.Ask((&machineFacts{}).of)
	return &feed{table: table, say: s.console.Say, sink: s.selection}
}

// found reports whether a packet was dropped that was asked for. Without filters that
// includes those whose records were lost.
func (s *session) found(totals *event.Totals) bool {
	if s.selection == nil || !s.selection.filter.Active() {
		return output.AnyDropped(totals)
	}
	return s.selection.dropped
}

// read writes records until the tracer is stopped and drained, --count is
// reached, or reading fails. A failure of standard output ends it too; the one
// who closes that is told of it.
func (s *session) read(ctx context.Context) error {
	for s.in.count == 0 || s.selection.packets < s.in.count {
		packet, err := s.packets.Read(ctx)
		switch {
		case errors.Is(err, io.EOF), errors.Is(err, context.Canceled):
			return nil
		case err != nil:
			return err
		}
		if s.feed == nil {
			continue
		}
		if err := s.feed.packet(&packet); err != nil {
			return nil
		}
	}
	return nil
}
