package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"time"

	"xentrace/internal/event"
	"xentrace/internal/filter"
	"xentrace/internal/flow"
	"xentrace/internal/live"
	"xentrace/internal/session"
)

// wantsScreen reports whether a whole screen is asked for and can be had. Where there is
// no terminal for one, it reports that lines are printed instead.
func (in *watchOptions) wantsScreen() (bool, error) {
	if !in.live {
		return false, nil
	}
	if in.format != "text" {
		return false, usageError{fmt.Errorf("--live and -o %s exclude each other", in.format)}
	}
	if terminal := in.Getenv("TERM"); !isTerminal(in.Stdout) || terminal == "" || terminal == "dumb" {
		in.console().Say("--live needs a terminal on stdout and TERM set; printing lines instead")
		return false, nil
	}
	return true, nil
}

// A screen is a sink: what happens is shown on a whole screen, the summary in lines below.
type screen struct {
	t     *traced
	live  *live.Screen
	lines *stream
	stop  context.CancelFunc
	done  chan struct{}
	err   error  // why it ended; valid once done is closed
	own   func() // sentences go to standard error again
	over  bool
}

// openScreen prepares the screen: before the right to open the terminal is given up. Without it the run continues in lines.
func (t *traced) openScreen(flows *flow.Table, filter *filter.Filter) *screen {
	in := t.in
	terminal, _ := in.Stdout.(*os.File)
	options := live.Options{
		Terminal: terminal, Backend: t.tracer.Choice().Backend,
		Colour: in.coloured(in.color, in.Stdout), Blocks: in.blocks(),
		Snapshot: func(ctx context.Context) (live.Snapshot, error) { return t.snapshot(ctx, flows, filter) },
	}
	if in.duration > 0 {
		options.Until = time.Now().Add(t.wait.rest(in.duration))
	}
	opened, err := live.Open(options)
	if err != nil {
		t.console.Say("--live: " + err.Error() + "; printing lines instead")
		return nil
	}
	return &screen{t: t, live: opened}
}

func (t *traced) snapshot(ctx context.Context, flows *flow.Table, filter *filter.Filter) (live.Snapshot, error) {
	totals, err := t.tracer.Totals(ctx)
	if err != nil {
		return live.Snapshot{}, err
	}
	all := flows.Snapshot(time.Now())
	counts := flows.Counts()
	shown := live.Snapshot{Totals: totals, Stalled: counts.Stalled, FlowsLost: counts.Lost}
	shown.Flows = slices.DeleteFunc(all, func(f event.FlowHistory) bool { return !filter.MatchOf(&f.Packet, f.Process) })
	shown.LeftOut = len(all) - len(shown.Flows)
	return shown, nil
}

// show shows the screen until ctx ends. When it ends by itself, by a key or because the
// terminal is gone, so does the run.
func (s *screen) show(ctx context.Context, lines *stream) session.Sink {
	ctx, s.stop = context.WithCancel(ctx)
	s.lines, s.done, s.own = lines, make(chan struct{}), s.t.console.Divert(s.live.Say)
	go func() {
		s.err = s.live.Run(ctx)
		close(s.done)
		if ctx.Err() == nil {
			s.t.in.interrupt()
		}
	}()
	return s
}

// Emit shows an event; the summary is written where the screen was.
func (s *screen) Emit(e event.Event) error {
	if _, end := e.(*event.Summary); end {
		s.end()
		return s.lines.Emit(e)
	}
	s.live.Emit(e)
	return nil
}

// Close returns why the screen had ended before, and the error of the summary.
func (s *screen) Close() error {
	s.end()
	return errors.Join(s.err, s.lines.Close())
}

func (s *screen) end() {
	s.stop()
	<-s.done
	if !s.over {
		s.over = true
		s.own()
	}
}
