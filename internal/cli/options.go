package cli

import (
	"time"

	"github.com/spf13/cobra"

	"xentrace/internal/event"
	"xentrace/internal/kernel"
	"xentrace/internal/session"
	"xentrace/internal/trace"
)

type writing struct {
	format  string
	formats []string // what it can be
	color   string
	verbose bool
}

func newWriting() writing {
	return writing{format: "text", formats: []string{"text", "json"}, color: "auto"}
}

func (w *writing) json() bool { return w.format == "json" }

// flags defines -o, --color and -v; verbose is the help of the latter.
func (w *writing) flags(c *cobra.Command, verbose string) {
	word(c, &w.format, "output", "o", "FORMAT", "output format", w.formats...)
	colorFlag(c, w)
	if verbose != "" {
		toggle(c, &w.verbose, "verbose", "v", verbose)
	}
}

func colorFlag(c *cobra.Command, w *writing) {
	word(c, &w.color, "color", "", "WHEN", "when to use color: auto (terminals only), always, never", "auto", "always", "never")
}

type tracing struct {
	*app
	writing
	interfaces []string
	wait       bool
	duration   time.Duration // 0: until interrupted
	limit      time.Duration // the duration, if it was given: bounds the wait too
	backend    string
	btf        string
	rejected   bool
	readyFile  string

	drops     string
	dropsHook string
	stack     bool
	ringBytes int
	count     int // of packets, or of probes; 0 for no limit
	recording recording
	notices   session.Sink // is given notices; may be nil

	serves bool            // accepts connections
	reads  []string        // directories that it reads once attached
	found  []event.Finding // of check, where it ran already

	probe bool // for SetProbe

	user kernel.User         // to become once attached
	keep []kernel.Capability // that the command itself needs afterwards
}

func (a *app) newTracing() tracing {
	return tracing{
		app: a, writing: newWriting(), backend: string(event.Auto),
		drops: string(event.DropsDriver), dropsHook: string(trace.DropsTracepoint), ringBytes: trace.DefaultRing(),
		user: kernel.Nobody,
	}
}

func (t *tracing) flags(c *cobra.Command) {
	t.traceFlags(c)
	t.outputFlags(c)
}

// traceFlags choose what is traced.
func (t *tracing) traceFlags(c *cobra.Command) {
	interfaceFlag(c, &t.interfaces, "interface in this network namespace; without it, every xen-netfront interface")
	toggle(c, &t.wait, "wait", "", "wait for an interface instead of failing")
	t.durationFlag(c, "stop after this time, e.g. 30s; 0: never")
	t.backendFlag(c)
	toggle(c, &t.rejected, "rejected", "", "also report packets that the backend rejected")
}

func (t *tracing) durationFlag(c *cobra.Command, usage string) {
	initial := ""
	if t.duration > 0 {
		initial = t.duration.String()
	}
	parsed(c, &t.duration, "duration", "d", "TIME", initial, usage, func(text string) (d time.Duration, err error) {
		d, err = parseDuration(text)
		t.limit = d
		return d, err
	})
}

func (t *tracing) backendFlag(c *cobra.Command) {
	btfFlag(c, &t.btf)
	word(c, &t.backend, "backend", "", "NAME", "how to attach", "auto", "fentry", "kprobe", "tracepoint")
}

func btfFlag(c *cobra.Command, to *string) {
	path(c, to, "btf", "", "read the kernel's types from this vmlinux or BTF")
}

func (t *tracing) outputFlags(c *cobra.Command) {
	t.writing.flags(c, "more details on stderr")
	readyFlag(c, &t.readyFile)
	userFlag(c, &t.user)
}

func readyFlag(c *cobra.Command, to *string) {
	path(c, to, "ready-file", "", "create this file once every hook is attached")
}
