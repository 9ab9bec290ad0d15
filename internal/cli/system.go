package cli

import (
	"context"
	"io"
	"os"
	"strconv"
	"strings"

	"golang.org/x/term"

	"xentrace/internal/check"
	"xentrace/internal/congestion"
	"xentrace/internal/event"
	"xentrace/internal/fix"
	"xentrace/internal/flow"
	"xentrace/internal/output"
	"xentrace/internal/probe"
	"xentrace/internal/trace"
)

// A Tracer is attached to the driver and counts until it is stopped.
type Tracer interface {
	// Choice tells the backend that attached, and why the better ones did not.
	Choice() trace.Choice
	// Read waits for the next record. It returns io.EOF once the tracer was
	// stopped and all records were read.
	Read(context.Context) (event.Packet, error)
	// Holders returns the processes that hold the sockets of these inodes.
	Holders(inodes []uint64) ([]event.Holder, error)
	// Totals returns what was counted so far; after Stop, what was counted.
	Totals(context.Context) (event.Totals, error)
	// Connections tells how the connections stand whose packets were read; nil where
	// nothing can tell.
	Connections() flow.Kernel
	// SetProbe has every packet of the socket with this cookie told of.
	SetProbe(cookie uint64) error
	// MissingAnswers says why the backend's answers are not seen, if they are not.
	MissingAnswers() string
	// DropPrivileges gives up what the process does not need any more.
	DropPrivileges(context.Context) error
	// Stop ends the counting.
	Stop(context.Context) error
	// Close detaches every hook.
	Close() error
}

// Build is what the linker and the compiler know of this binary.
type Build struct {
	Version string // "" where the module's own version is to be told
	Commit  string // "" where the one recorded by the Go tool is to be told
	Clang   string // what compiled the BPF objects
}

// A System is what a command line runs in. Tests put their own in place.
type System struct {
	Stdout io.Writer
	Stderr io.Writer
	Getenv func(string) string
	Build  Build

	// Start attaches a tracer; it returns once every hook is attached.
	Start func(context.Context, trace.Options) (Tracer, error)

	// Measure attaches what congestion measures with.
	Measure func(context.Context, congestion.Options) (Meter, error)

	// Machine is where check reads its facts.
	Machine func() (check.Source, error)

	// Probe makes the probe that fix verifies with: out of the interface with this index
	// in the caller's network namespace, whose inode number is given, too.
	Probe func(ctx context.Context, tracer probe.Tracer, namespace uint32, index int) (event.Probe, error)

	// Changeable is what fix changes; Root is where it writes files, "" being /.
	Changeable func() (fix.Machine, error)
	Root       string
}

func (s System) print(text string) error {
	_, err := io.WriteString(s.Stdout, text)
	return err
}

func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// columns returns how wide w is now: as its terminal says, else COLUMNS, else
// fallback.
func (s System) columns(w io.Writer, fallback int) int {
	if f, ok := w.(*os.File); ok {
		if width, _, err := term.GetSize(int(f.Fd())); err == nil && width > 0 {
			return width
		}
	}
	if width, err := strconv.Atoi(s.Getenv("COLUMNS")); err == nil && width > 0 {
		return width
	}
	return fallback
}

// coloured tells whether to write colours to w. --color always and never beat
// what NO_COLOR and TERM say.
func (s System) coloured(mode string, w io.Writer) bool {
	switch mode {
	case "always":
		return true
	case "never":
		return false
	}
	return isTerminal(w) && s.Getenv("NO_COLOR") == "" && s.Getenv("TERM") != "dumb"
}

// blocks tells whether the locale has block characters: any in UTF-8.
func (s System) blocks() bool {
	for _, name := range []string{"LC_ALL", "LC_CTYPE", "LANG"} {
		if locale := s.Getenv(name); locale != "" {
			locale = strings.ToUpper(locale)
			return strings.Contains(locale, "UTF-8") || strings.Contains(locale, "UTF8")
		}
	}
	return false
}

func (t *tracing) lines(out io.Writer, histogram bool, totals *event.Totals) *output.Lines {
	if t.json() {
		return output.NewJSON(out)
	}
	text := &output.Text{
		Width:     func() int { return t.columns(t.Stdout, output.DefaultWidth) },
		Whole:     !isTerminal(t.Stdout),
		Color:     t.coloured(t.color, t.Stdout),
		Blocks:    t.blocks(),
		Stacks:    t.verbose || t.stack,
		Histogram: histogram,
	}
	for i := range totals.Interfaces {
		text.WidenTo(totals.Interfaces[i].Name)
	}
	return output.NewText(out, text)
}

// reportSink returns the sink of commands that report once. evidence is shown of findings that
// are OK too; short is the form that congestion --watch has.
func (s System) reportSink(w *writing, evidence, short bool) *output.Lines {
	if w.json() {
		return output.NewJSON(s.Stdout)
	}
	return output.NewText(s.Stdout, &output.Text{
		Width: func() int { return s.columns(s.Stdout, reportWidth) }, Color: s.coloured(w.color, s.Stdout),
		Blocks: s.blocks(), Evidence: evidence, Short: short,
	})
}

// console returns standard error, with a status line where it is a terminal that can erase a
// line.
func (s System) console() *output.Console {
	if !isTerminal(s.Stderr) || s.Getenv("TERM") == "dumb" {
		return output.NewConsole(s.Stderr, nil)
	}
	return output.NewConsole(s.Stderr, func() int { return s.columns(s.Stderr, output.DefaultWidth) })
}
