// Package live is watch on a whole screen: what is counted always in sight, below it
// the flows that have trouble and the last events. A model knows what is to be seen
// and what keys do; a screen has the terminal, and gives it back whatever happens.
package live

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"time"

	"github.com/gdamore/tcell/v3"
	"golang.org/x/sys/unix"

	"xentrace/internal/event"
)

// Options select what a screen shows, and where.
type Options struct {
	Terminal *os.File // one that is a terminal
	Backend  event.Backend
	Until    time.Time // when the run ends; zero if it does not
	Colour   bool
	Blocks   bool // draw with characters that plain ASCII does not have
	// Snapshot returns what was counted so far.
	Snapshot func(context.Context) (Snapshot, error)
}

const (
	// drawInterval is the least time between two drawings; what changes meanwhile
	// shares one.
	drawInterval = 200 * time.Millisecond
	// countInterval is how often counts are read.
	countInterval = 500 * time.Millisecond
)

// A Screen shows a trace. Emit and Say may be called at any time, from any
// goroutine, and do not wait for the terminal.
type Screen struct {
	options Options
	model   model
	term    *terminal
	cells   tcell.Screen
	signals chan os.Signal // that the terminal hung up, or this process was continued

	shown   []line // what is on the terminal
	columns int    // it was drawn for
	rows    int
	drawn   time.Time
	counted time.Time
}

// Open prepares a screen; the terminal is left as it is until Run. It needs the right to
// open the terminal, which may be another user's: that of whoever became root on it.
func Open(o Options) (*Screen, error) {
	file, err := reopen(o.Terminal)
	if err != nil {
		return nil, fmt.Errorf("terminal: %w", err)
	}
	s := &Screen{options: o, term: &terminal{file: file}}
	s.model = model{backend: o.Backend, until: o.Until, blocks: o.Blocks, now: time.Now}
	return s, nil
}

// Emit notes an event.
func (s *Screen) Emit(e event.Event) {
	switch e := e.(type) {
	case *event.Packet:
		s.model.log.packet(e)
	case *event.FlowEvent:
		s.model.log.change(e)
	}
}

// Say notes a sentence.
func (s *Screen) Say(sentence string) { s.model.log.say(time.Now(), sentence) }

// Run shows the trace until the user ends it, ctx is done, or the terminal is gone;
// only the last is an error. It leaves the terminal as it found it.
func (s *Screen) Run(ctx context.Context) error {
	if err := s.take(); err != nil {
		return err
	}
	defer s.cells.Fini() // restores and closes the terminal
	// A terminal that accepts no output does not delay the end.
	defer context.AfterFunc(ctx, func() { _ = s.term.file.SetWriteDeadline(time.Now().Add(patience)) })()

	s.signals = make(chan os.Signal, 4)
	signal.Notify(s.signals, unix.SIGHUP, unix.SIGCONT)
	defer signal.Stop(s.signals)
	ticker := time.NewTicker(drawInterval)
	defer ticker.Stop()
	for {
		s.refresh(ctx)
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		case event := <-s.cells.EventQ():
			if over, err := s.handle(event); over || err != nil {
				return err
			}
		case sig := <-s.signals:
			if sig == unix.SIGHUP {
				return nil
			}
			if err := s.retake(); err != nil {
				return err
			}
		}
	}
}

func (s *Screen) take() error {
	colours := tcell.OptColors(0)
	if s.options.Colour {
		colours = 8
	}
	cells, err := tcell.NewTerminfoScreenFromTty(s.term, colours, tcell.OptNegotiation(false))
	if err == nil {
		err = cells.Init()
	}
	if err != nil {
		return errors.Join(fmt.Errorf("terminal: %w", err), s.term.Stop(), s.term.Close())
	}
	s.cells = cells
	return nil
}

func (s *Screen) handle(event tcell.Event) (over bool, err error) {
	switch event := event.(type) {
	case *tcell.EventError:
		return false, fmt.Errorf("terminal: %w", event)
	case *tcell.EventKey:
		switch k := keyOf(event); k {
		case keyQuit:
			return true, nil
		case keySuspend:
			return false, s.suspend()
		case keyRedraw:
			s.cells.Sync()
		case keyPause:
			s.model.press(k)
			s.counted = time.Time{} // show what was counted meanwhile
		default:
			s.model.press(k)
		}
	}
	return false, nil
}

// suspend gives the terminal back and stops this process group, as ^Z does elsewhere,
// until it is continued. SIGTSTP must not be one that this process ever listened for:
// the Go runtime would keep its handler, and nothing would stop.
func (s *Screen) suspend() error {
	if err := s.cells.Suspend(); err != nil {
		return err
	}
	_ = unix.Kill(0, unix.SIGTSTP)
	// The kernel does not stop an orphaned process group.
	select {
	case sig := <-s.signals:
		if sig == unix.SIGHUP {
			s.signals <- sig
		}
	case <-time.After(time.Second):
	}
	return s.retake()
}

// retake sets up the terminal again after this process was stopped and continued: whoever
// had the terminal meanwhile left it as they liked.
func (s *Screen) retake() error {
	if err := s.cells.Suspend(); err != nil {
		return err
	}
	s.shown, s.counted = nil, time.Time{}
	return s.cells.Resume()
}

// refresh reads the counts and draws, unless that was only just done.
func (s *Screen) refresh(ctx context.Context) {
	now := time.Now()
	if now.Sub(s.counted) >= countInterval {
		if snapshot, err := s.options.Snapshot(ctx); err == nil {
			s.model.update(snapshot)
		}
		s.counted = now
	}
	if now.Sub(s.drawn) >= drawInterval {
		s.draw()
	}
}

// draw shows what changed; nothing is sent to the terminal if nothing did.
func (s *Screen) draw() {
	columns, rows := s.cells.Size()
	frame := s.model.frame(columns, rows)
	if columns == s.columns && rows == s.rows && slices.EqualFunc(frame, s.shown, slices.Equal) {
		return
	}
	for y, l := range frame {
		x := 0
		for _, part := range l {
			s.cells.PutStrStyled(x, y, part.text, part.tone.style())
			x += width(part.text)
		}
		s.cells.FillArea(x, y, columns-x, 1, ' ', tcell.StyleDefault)
	}
	s.cells.Show()
	s.shown, s.columns, s.rows, s.drawn = frame, columns, rows, time.Now()
}

func (t tone) style() tcell.Style {
	style := tcell.StyleDefault.Bold(t.bold).Reverse(t.reverse)
	if t.colour != 0 {
		const firstForeground = 30
		style = style.Foreground(tcell.PaletteColor(t.colour - firstForeground))
	}
	return style
}
