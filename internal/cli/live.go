package cli

import (
	"context"
	"errors"
	"os"
	"slices"
	"time"

	"xentrace/internal/event"
	"xentrace/internal/live"
)

// wantsScreen tells whether a whole screen is asked for and can be had. Where there is
// no terminal for one, it says that lines are written.
func (in *invocation) wantsScreen() (bool, error) {
	if !in.live {
		return false, nil
	}
	if in.format == "json" {
		return false, usageError{errors.New("watch: --live: shows text on a terminal, and -o json writes lines for programs; leave out one of them")}
	}
	if terminal := in.Getenv("TERM"); !isTerminal(in.Stdout) || terminal == "" || terminal == "dumb" {
		in.console().Say("--live needs a terminal on standard output that TERM says can move its cursor: going on in lines")
		return false, nil
	}
	return true, nil
}

// A display is a screen while it is shown.
type display struct {
	screen   *live.Screen
	stop     context.CancelFunc
	done     chan struct{}
	err      error  // why it ended; valid once done is closed
	undivert func() // has sentences go to standard error again
}

// openScreen prepares the screen, if one is wanted. Without it the run goes on in lines.
func (s *session) openScreen() *live.Screen {
	if !s.in.live {
		return nil
	}
	terminal, _ := s.in.Stdout.(*os.File)
	options := live.Options{
		Terminal: terminal, Backend: s.tracer.Choice().Backend,
		Colour: s.in.coloured(s.in.color, s.in.Stdout), Blocks: s.in.blocks(),
		Snapshot: s.snapshot,
	}
	if s.in.duration > 0 {
		options.Until = time.Now().Add(s.in.duration)
	}
	screen, err := live.Open(options)
	if err != nil {
		s.console.Say("--live: " + err.Error() + ": going on in lines")
		return nil
	}
	return screen
}

// snapshot is what was counted, and how the flows stand that pass the filters.
func (s *session) snapshot(ctx context.Context) (live.Snapshot, error) {
	totals, err := s.tracer.Totals(ctx)
	if err != nil {
		return live.Snapshot{}, err
	}
	flows := s.feed.table.Snapshot(time.Now())
	counts := s.feed.table.Counts()
	shown := live.Snapshot{Totals: totals, Stalled: counts.Stalled, FlowsLost: counts.Lost}
	shown.Flows = slices.DeleteFunc(flows, func(f event.FlowHistory) bool { return !s.in.filter.MatchOf(&f.Packet, f.Process) })
	shown.LeftOut = len(flows) - len(shown.Flows)
	return shown, nil
}

// show shows the screen, if there is one, until ctx ends. When it ends by itself, as
// the user has it or because the terminal is gone, so does the run.
func (s *session) show(ctx context.Context) *display {
	if s.screen == nil {
		return nil
	}
	ctx, stop := context.WithCancel(ctx)
	d := &display{screen: s.screen, stop: stop, done: make(chan struct{}), undivert: s.console.Divert(s.screen.Say)}
	go func() {
		d.err = d.screen.Run(ctx)
		close(d.done)
		if ctx.Err() == nil {
			s.in.interrupt()
		}
	}()
	return d
}

// close ends the screen, and returns why it had ended before.
func (d *display) close() error {
	if d == nil {
		return nil
	}
	d.stop()
	<-d.done
	d.undivert()
	return d.err
}

// shown is a sink that shows.
type shown struct{ screen *live.Screen }

func (s shown) packet(p *event.Packet) error {
	s.screen.Packet(p)
	return nil
}

func (s shown) event(e *event.FlowEvent) error {
	s.screen.Change(e)
	return nil
}
