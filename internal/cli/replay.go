package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"xentrace/internal/event"
	"xentrace/internal/filter"
	"xentrace/internal/output"
	"xentrace/internal/pcapng"
	"xentrace/internal/record"
	"xentrace/internal/session"
)

type replayOptions struct {
	recorded
	writing
	filter filter.Filter
	stack  bool
	count  int
}

func (a *app) replayCommand() *cobra.Command {
	o := &replayOptions{recorded: recorded{app: a}, writing: newWriting()}
	o.formats = append(o.formats, formatPcapng)
	c := &cobra.Command{
		Use: "replay [flags] PATH... [EXPRESSION]", Short: "Show a recording as watch would have shown it",
		Long: `Prints what the run that wrote a recording printed. PATH is a file, a segment or
a directory of xentrace record; several are merged by time. Filters and
EXPRESSION, a pcap filter, select what is printed. The summary counts the range,
in steps of 10 s. Needs no root, no Xen. Exits 1 if a part cannot be read.`,
		Args: cobra.ArbitraryArgs,
		Example: `  xentrace replay ` + defaultDir + ` --since 10m      the last 10 minutes
  xentrace replay a.jsonl.zst b.jsonl -o json        two, merged by time
  xentrace replay night.jsonl.zst -o pcapng > night.pcapng`,
		RunE: func(c *cobra.Command, args []string) error { return o.run(c.Context(), args) },
	}
	o.recorded.flags(c)
	toggle(c, &o.stack, "stack", "", "show the recorded stacks")
	filterFlags(c, &o.filter)
	parsed(c, &o.count, "count", "", "N", "", "stop after this many packets", parseCount)
	o.writing.flags(c, "more details: stacks")
	return c
}

// maxRecordings bounds how many are read at once: each takes a file descriptor and memory.
const maxRecordings = 256

// paths are the leading arguments; those behind them are the filter expression. A word that
// is neither a file nor looks like one begins it.
func (o *replayOptions) paths(args []string) ([]string, error) {
	n := 0
	for n < len(args) {
		_, err := os.Stat(args[n])
		looks := !strings.ContainsAny(args[n], " \t") && strings.ContainsRune(args[n], '/') || strings.HasSuffix(args[n], ".jsonl") || strings.HasSuffix(args[n], ".zst")
		if n > 0 && err != nil && !looks {
			break
		}
		n++
	}
	switch {
	case n == 0:
		return nil, usageError{errors.New("missing argument PATH: a recording, or a directory of xentrace record")}
	case n > maxRecordings:
		return nil, usageError{fmt.Errorf("%d paths: at most %d", n, maxRecordings)}
	}
	return args[:n], compileExpression(&o.filter, args[n:])
}

func (o *replayOptions) run(ctx context.Context, args []string) error {
	paths, err := o.paths(args)
	if err == nil {
		err = o.refuseTerminal(&o.writing)
	}
	if err != nil {
		return err
	}
	console := o.console()
	damages := 0
	source, err := record.Open(ctx, paths, record.ReadOptions{Since: o.since, Until: o.until, Damaged: func(d record.Damage) {
		if damages++; damages <= mostDamage || o.verbose {
			console.Say("damaged: " + o.shown(d.Path, d.String()))
		}
	}})
	if err != nil {
		return ofPath(err)
	}
	out := output.NewStream(o.stdout())
	sink, text := o.sink(out, console)
	_, err = session.Run(ctx, session.Options{
		Source: source, Sink: redacting(sink, o.redactor()), Filter: &o.filter, Count: o.count, Broken: out.Failed(),
		Summarize: func(*event.Totals) *event.Summary {
			if o.count > 0 {
				reading, stop := unlessBroken(ctx, out.Failed())
				_ = source.Drain(reading) // interrupted: the counts are of what was read
				stop()
			}
			text.Histogram = source.Histogram()
			summary := *source.Summary()
			explainRecorded(&summary, source.Unfinished())
			return &summary
		},
	})
	for _, sentence := range unfinishedSentences(source.Unfinished(), time.Local) {
		console.Say(sentence)
	}
	if err != nil {
		return err
	}
	return o.sayWhatIsMissing(source, console)
}

// sink is what shows the events; text is its style, which JSON and pcapng do not use.
func (o *replayOptions) sink(out *output.Stream, console *output.Console) (*replayed, *output.Text) {
	sink := &replayed{emitter: output.NewJSON(out), Stream: out, console: console}
	text := &output.Text{}
	switch o.format {
	case formatPcapng:
		sink.emitter = pcapng.New(out, nil)
	case "text":
		text = o.text(&o.writing, o.verbose || o.stack)
		sink.emitter, sink.text = o.packets(out, text, false), text
	}
	return sink, text
}

// unlessBroken is ctx until nobody reads the output any more.
func unlessBroken(ctx context.Context, broken <-chan struct{}) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(ctx)
	go func() {
		select {
		case <-broken:
			cancel()
		case <-ctx.Done():
		}
	}()
	return ctx, cancel
}

// sayWhatIsMissing reports an empty range, and what could not be read, which is a finding.
func (o *replayOptions) sayWhatIsMissing(source *record.Source, console *output.Console) error {
	from, to, empty := source.Covered()
	if empty && !from.IsZero() {
		console.Say(nothingInRange(from, to, time.Local))
	}
	n := source.Damages()
	if n == 0 {
		return nil
	}
	rest := "everything else was shown"
	if from.IsZero() {
		rest = "nothing can be read; is it a recording?"
	}
	if n > mostDamage && !o.verbose {
		rest += fmt.Sprintf(" (-v lists all, not only the first %d)", mostDamage)
	}
	console.Say(fmt.Sprintf("damaged parts: %d; %s", n, rest))
	return errFinding
}

// replayed is the sink of a replay: notices are sentences on standard error, as in the run.
type replayed struct {
	emitter
	*output.Stream
	text    *output.Text // nil: JSON
	console *output.Console
}

// Emit shows an event.
func (r *replayed) Emit(e event.Event) error {
	switch e := e.(type) {
	case *event.Start:
		for i := range e.Interfaces {
			if r.text != nil {
				r.text.WidenTo(e.Interfaces[i].Name)
			}
		}
	case *event.Notice:
		r.console.Notify(*e)
	}
	return r.emitter.Emit(e)
}
