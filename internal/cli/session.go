package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"syscall"
	"time"

	"xentrace/internal/event"
	"xentrace/internal/live"
	"xentrace/internal/output"
	"xentrace/internal/owner"
	"xentrace/internal/trace"
)

// statusInterval is how often the status line is renewed.
const statusInterval = time.Second

// A session is an attached tracer and where its findings go.
type session struct {
	in      *invocation
	tracer  Tracer
	format  output.Format
	out     *output.Stream
	packets *owner.Reader
	feed    *feed        // nil where no records are asked for
	screen  *live.Screen // nil where lines are written
	console *output.Console

	selection *selection         // what of it is shown; nil where no records are asked for
	cancel    context.CancelFunc // ends what the tracer does in the background
}

// open attaches a tracer as the flags say. It returns nil and no error if it
// was interrupted meanwhile.
func open(ctx context.Context, in *invocation, records bool) (*session, error) {
	s := &session{in: in, console: in.console()}
	ready, err := prepareReadyFile(in.readyFile)
	if err != nil {
		return nil, err
	}
	defer ready.discard()
	began := time.Now()
	if err := s.start(ctx, records); err != nil {
		if ctx.Err() != nil && errors.Is(err, context.Canceled) {
			return nil, nil
		}
		return nil, err
	}
	took := time.Since(began)
	s.screen = s.openScreen() // before the right to is given up
	if err := errors.Join(ready.create(), s.announce(ctx, took), s.dropPrivileges(ctx)); err != nil {
		defer s.cancel()
		return nil, errors.Join(err, s.tracer.Close())
	}
	s.out = output.NewStream(s.destination())
	s.packets = owner.NewReader(s.tracer.Read, s.tracer.Holders)
	if records {
		s.feed = s.newFeed()
	}
	return s, nil
}

// dropPrivileges gives up what is not needed any more. Files are open by now. An
// interrupt meanwhile is dealt with later, as any other.
func (s *session) dropPrivileges(ctx context.Context) error {
	if s.in.keepPrivileges {
		return nil
	}
	return keptPrivileges(s.tracer.DropPrivileges(context.WithoutCancel(ctx)), s.console)
}

// keptPrivileges says what it means that a binary could not give them up.
func keptPrivileges(err error, console *output.Console) error {
	if errors.Is(err, errors.ErrUnsupported) {
		console.Say("privileges are kept: a binary built with cgo cannot give them up on all of its threads, one built with CGO_ENABLED=0 can")
		return nil
	}
	return err
}

// start attaches. An interrupt ends the attempt, but not a tracer that is
// already running: that one is to be stopped in good order.
func (s *session) start(ctx context.Context, records bool) error {
	running, cancel := context.WithCancel(context.WithoutCancel(ctx))
	interrupted := context.AfterFunc(ctx, cancel)
	tracer, err := s.in.Start(running, trace.Options{
		Interfaces: s.in.interfaces,
		Backend:    event.Backend(s.in.backend),
		Records:    records,
		Drops:      event.Drops(s.in.drops),
		DropsHook:  trace.DropsHook(s.in.dropsHook),
		RingBytes:  s.in.ringBytes,
		Wait:       s.in.wait,
		Rejected:   s.in.rejected,
		Stacks:     s.in.stack,
		Probe:      s.in.probe,
		Notify:     s.console.Say,
	})
	if err != nil {
		cancel()
		return err
	}
	if !interrupted() { // the interrupt came just as it was done
		cancel()
		return errors.Join(context.Canceled, tracer.Close())
	}
	s.tracer, s.cancel = tracer, cancel
	return nil
}

// announce says what is watched and how, and chooses the format.
func (s *session) announce(ctx context.Context, took time.Duration) error {
	totals, err := s.tracer.Totals(ctx)
	if err != nil && ctx.Err() == nil {
		return fmt.Errorf("counts: %w", err)
	}
	s.format = s.in.outputFormat(&totals)
	choice := s.tracer.Choice()
	var refused []string
	for _, r := range choice.Refusals {
		refused = append(refused, string(r.Backend))
	}
	sentence := fmt.Sprintf("%s with backend %s", watched(&totals), choice.Backend)
	switch {
	case len(refused) > 0 && !s.in.verbose:
		sentence += fmt.Sprintf("; %s did not attach (-v says why)", strings.Join(refused, " and "))
	case len(refused) > 0:
		sentence += fmt.Sprintf("; %s did not attach", strings.Join(refused, " and "))
	}
	if s.in.drops == string(event.DropsAll) {
		sentence += "; drops elsewhere by " + s.in.dropsHook
	}
	s.console.Say(sentence)
	if s.in.verbose {
		for _, r := range choice.Refusals {
			s.console.Say(fmt.Sprintf("%s did not attach: %v", r.Backend, r.Err))
		}
		if choice.HoldsDriver {
			s.console.Say("this trace holds the driver's module in place while it runs: stop it, or use --backend kprobe without --rejected, to unload the driver")
		}
		s.console.Say(fmt.Sprintf("attached in %d ms; the ring buffer has %d KiB", took.Milliseconds(), s.in.ringBytes>>10))
	}
	return nil
}

// watched names the interfaces, the first few of them.
func watched(totals *event.Totals) string {
	const most = 6
	var names []string
	for i := range totals.Interfaces {
		t := &totals.Interfaces[i]
		names = append(names, fmt.Sprintf("%s (%s)", t.Name, output.DriverName(t)))
	}
	if len(names) > most {
		names = append(names[:most], fmt.Sprintf("%d more", len(names)-most))
	}
	if len(names) == 0 {
		return "watching for interfaces"
	}
	return "watching " + strings.Join(names, ", ")
}

// destination is standard output; on a terminal that also shows the status
// line, with that line kept below.
func (s *session) destination() io.Writer {
	if isTerminal(s.in.Stdout) {
		return s.console.Above(s.in.Stdout)
	}
	return s.in.Stdout
}

// wait returns when the run is over: interrupted, its time up, standard output
// closed, or reading at an end, whose error it returns with true.
func (s *session) wait(ctx context.Context, reading <-chan error) (err error, ended bool) {
	var end <-chan time.Time
	deadline := time.Now().Add(s.in.duration)
	if s.in.duration > 0 {
		timer := time.NewTimer(s.in.duration)
		defer timer.Stop()
		end = timer.C
	}
	var tick <-chan time.Time
	if s.console.HasStatus() && s.screen == nil {
		ticker := time.NewTicker(statusInterval)
		defer ticker.Stop()
		tick = ticker.C
	}
	var before event.Totals
	for {
		select {
		case <-ctx.Done():
			return nil, false
		case <-end:
			return nil, false
		case <-s.out.Failed():
			return nil, false
		case err := <-reading:
			return err, true
		case <-tick:
			before = s.showStatus(ctx, before, deadline)
		}
	}
}

// showStatus renews the status line and returns the snapshot it shows.
func (s *session) showStatus(ctx context.Context, before event.Totals, deadline time.Time) event.Totals {
	now, err := s.tracer.Totals(ctx)
	if err != nil {
		return before
	}
	left := time.Duration(0)
	if s.in.duration > 0 {
		left = time.Until(deadline)
	}
	s.console.SetStatus(output.StatusLine(&before, &now, left))
	return now
}

// end takes the final counts, writes what finish makes of them and detaches.
// failure is what went wrong before.
func (s *session) end(ctx context.Context, failure error,
	finish func(output.Format, []byte, *output.Run) []byte) (event.Totals, error) {
	defer s.cancel()
	s.console.SetStatus("")
	totals, err := s.tracer.Totals(ctx)
	if err != nil {
		err = fmt.Errorf("counts: %w", err)
	} else {
		_, _ = s.out.Write(finish(s.format, nil, s.run(&totals))) // Close tells of its failure
	}
	s.in.found = s.found(&totals)
	written := s.out.Close()
	if written != nil {
		written = fmt.Errorf("standard output: %w", written)
	}
	closed := s.tracer.Close()
	if err := errors.Join(failure, err, closed); err != nil {
		return totals, err
	}
	return totals, written
}

// ignoringPipe returns err unless it tells that standard output was closed,
// which ends a run but is no failure.
func ignoringPipe(err error) error {
	if errors.Is(err, syscall.EPIPE) {
		return nil
	}
	return err
}
