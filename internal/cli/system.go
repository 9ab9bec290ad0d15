package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
	"golang.org/x/term"

	"xentrace/bpf"
	"xentrace/internal/check"
	"xentrace/internal/congestion"
	"xentrace/internal/event"
	"xentrace/internal/exporter/feed"
	"xentrace/internal/fix"
	"xentrace/internal/flow"
	"xentrace/internal/kernel"
	"xentrace/internal/learn"
	"xentrace/internal/netfront"
	"xentrace/internal/output"
	"xentrace/internal/probe"
	"xentrace/internal/trace"
)

// A Tracer is attached to the driver and counts until it is stopped.
type Tracer interface {
	// Choice shows the backend that attached, and why the better ones did not.
	Choice() trace.Choice
	// Read waits for the next record. It returns io.EOF once the tracer was
	// stopped and all records were read.
	Read(context.Context) (event.Packet, error)
	// Holders returns the processes that hold sockets.
	Holders(event.Wanted) ([]event.Holder, error)
	// Totals returns what was counted so far; after Stop, what was counted.
	Totals(context.Context) (event.Totals, error)
	// Connections reads the state of connections whose packets were read; nil where
	// nothing can show.
	Connections() flow.Kernel
	// SetProbe has every packet of the socket with this cookie reported.
	SetProbe(cookie uint64) error
	// Hooks returns how many hooks are attached, and how many should be and are not.
	Hooks() (attached, missing int)
	// MissingAnswers returns why TX responses are not seen; empty if they are.
	MissingAnswers() string
	// DriverCode waits for what the driver's code shows, which the tracer reads in any case.
	DriverCode(context.Context) (netfront.Answer, error)
	// SharedInfo is what the kernel keeps at the end of every head.
	SharedInfo() (kernel.SharedInfo, error)
	// DropPrivileges becomes the user and drops all privileges that neither the tracer nor
	// the caller needs, who names its own.
	DropPrivileges(context.Context, kernel.User, ...kernel.Capability) error
	// Stop ends the counting.
	Stop(context.Context) error
	// Close detaches every hook.
	Close() error
}

// Build is what the linker and the compiler know of this binary.
type Build struct {
	Version string // "" for the module's own version
	Commit  string // "" for the one recorded by the Go tool
	Clang   string // what compiled the BPF objects
}

// A System is what a command line runs in. Tests use their own.
type System struct {
	Stdout io.Writer
	Stderr io.Writer
	Getenv func(string) string
	Build  Build

	// Start attaches a tracer; it returns once every hook is attached.
	Start func(context.Context, trace.Options) (Tracer, error)

	// Measure attaches what congestion measures with.
	Measure func(context.Context, congestion.Options) (Meter, error)

	// Learn finds where members lie in the kernel's structures; begun is called before it
	// begins, and its error ends it.
	Learn func(ctx context.Context, begun func() error) (learn.Layout, error)

	// Export listens as the options ask, for xentrace-exporter.
	Export func(context.Context, feed.Options) (Exporter, error)

	// Machine is where check reads its facts.
	Machine func() (check.Source, error)

	// Probe makes the probe that fix verifies with: out of the interface with this index
	// in the caller's network namespace, whose inode number is given, too; smallHead is [probe.SmallHeadSize].
	Probe func(ctx context.Context, tracer probe.Tracer, namespace uint32, index, smallHead int) (event.Probe, error)

	// Changeable is what fix changes; Root is where it writes files, "" being /.
	Changeable func() (fix.Machine, error)
	Root       string

	ended <-chan struct{} // closed once the command is interrupted
	grace time.Duration   // of a blocked write after that; 0: writeGrace
}

// Running returns the System of this process on the running kernel. Version and commit are
// what the linker set; where it set none, what the Go tool recorded is printed.
func Running(version, commit string) System {
	return System{
		Stdout: os.Stdout, Stderr: os.Stderr, Getenv: os.Getenv,
		Build:   Build{Version: version, Commit: commit, Clang: bpf.ClangVersion},
		Machine: check.Running,
		Start: func(ctx context.Context, options trace.Options) (Tracer, error) {
			tracer, err := trace.Start(ctx, options)
			if err != nil {
				return nil, err
			}
			return attached{tracer}, nil
		},
		Measure: func(ctx context.Context, options congestion.Options) (Meter, error) {
			meter, err := congestion.Start(ctx, options)
			if err != nil {
				return nil, err
			}
			return meter.NewReader(), nil
		},
		Learn: trace.Learn,
	}
}

type attached struct{ *trace.Tracer }

func (a attached) Connections() flow.Kernel { return a.Tracer.Connections() }

func (s System) print(text string) error {
	_, err := io.WriteString(s.stdout(), text)
	return err
}

// stdout is standard output with the error of a write explained, the same by every command.
func (s System) stdout() io.Writer { return explainedWriter{s.abandoning(s.Stdout)} }

type explainedWriter struct{ io.Writer }

func (w explainedWriter) Write(b []byte) (int, error) {
	n, err := w.Writer.Write(b)
	var failure *fs.PathError
	if errors.As(err, &failure) {
		err = failure.Err
	}
	if err != nil {
		err = fmt.Errorf("cannot write to stdout: %w", err)
	}
	return n, err
}

func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// columns returns how wide w is now: its terminal, else COLUMNS, else
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

// coloured reports whether to write colours to w. --color always and never beat
// NO_COLOR and TERM.
func (s System) coloured(mode string, w io.Writer) bool {
	switch mode {
	case "always":
		return true
	case "never":
		return false
	}
	return isTerminal(w) && s.Getenv("NO_COLOR") == "" && s.Getenv("TERM") != "dumb"
}

// blocks reports whether the locale has block characters: any in UTF-8.
func (s System) blocks() bool {
	for _, name := range []string{"LC_ALL", "LC_CTYPE", "LANG"} {
		if locale := s.Getenv(name); locale != "" {
			locale = strings.ToUpper(locale)
			return strings.Contains(locale, "UTF-8") || strings.Contains(locale, "UTF8")
		}
	}
	return false
}

// lines is the sink of watch and hist.
func (t *tracing) lines(out io.Writer, histogram bool, totals *event.Totals) emitter {
	if t.json() {
		return output.NewJSON(out)
	}
	text := t.text(&t.writing, t.verbose || t.stack)
	text.Histogram = histogram
	for i := range totals.Interfaces {
		text.WidenTo(totals.Interfaces[i].Name)
	}
	return t.packets(out, text, true)
}

// packets is the sink of text with packets in it. On a terminal repeats of a packet become a line,
// unless whole stacks are asked for, which differ.
func (s System) packets(out io.Writer, text *output.Text, live bool) emitter {
	if isTerminal(s.Stdout) && !text.Stacks {
		return output.NewRepeats(out, text, live)
	}
	return output.NewText(out, text)
}

// text writes events as they come, whole lines where standard output is no terminal.
func (s System) text(w *writing, stacks bool) *output.Text {
	return &output.Text{
		Width: func() int { return s.columns(s.Stdout, output.DefaultWidth) }, Whole: !isTerminal(s.Stdout),
		Color: s.coloured(w.color, s.Stdout), Blocks: s.blocks(), Stacks: stacks,
	}
}

// reportSink returns the sink of commands that report once. evidence is shown of findings that
// are OK too; short is the form that congestion --watch has.
func (s System) reportSink(w *writing, evidence, short bool) *output.Lines {
	if w.json() {
		return output.NewJSON(s.stdout())
	}
	return output.NewText(s.stdout(), &output.Text{
		Width: func() int { return s.columns(s.Stdout, reportWidth) }, Color: s.coloured(w.color, s.Stdout),
		Blocks: s.blocks(), Evidence: evidence, Short: short,
	})
}

// console returns standard error, with a status line where it is a terminal that can erase a
// line.
func (s System) console() *output.Console {
	if onJournal(s.Stderr, s.Getenv) {
		return output.NewJournal(s.abandoning(s.Stderr))
	}
	if !isTerminal(s.Stderr) || s.Getenv("TERM") == "dumb" {
		return output.NewConsole(s.abandoning(s.Stderr), nil)
	}
	return output.NewConsole(s.abandoning(s.Stderr), func() int { return s.columns(s.Stderr, output.DefaultWidth) })
}

// onJournal reports whether systemd reads w for its journal: JOURNAL_STREAM names the file.
func onJournal(w io.Writer, getenv func(string) string) bool {
	f, isFile := w.(*os.File)
	var stat unix.Stat_t
	if stream := getenv("JOURNAL_STREAM"); isFile && stream != "" && unix.Fstat(int(f.Fd()), &stat) == nil {
		return stream == fmt.Sprintf("%d:%d", stat.Dev, stat.Ino)
	}
	return false
}
