package cli

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"xentrace/internal/event"
	"xentrace/internal/filter"
	"xentrace/internal/output"
	"xentrace/internal/record"
	"xentrace/internal/session"
)

type replayOptions struct {
	*app
	writing
	filter       filter.Filter
	since, until record.Bound
	stack        bool
	count        int
}

func (a *app) replayCommand() *cobra.Command {
	o := &replayOptions{app: a, writing: newWriting()}
	c := &cobra.Command{
		Use: "replay [flags] PATH...", Short: "Show a recording as watch would have shown it",
		Long: `Prints recordings as the run that wrote them did: files, segments and
directories of xentrace record, several merged by time. Filters select what is
printed. The summary counts the range that is read, in steps of 10 s. Needs no
root and no Xen. Exits 1 if a part cannot be read.`,
		Args: recordings,
		Example: `  xentrace replay /var/log/xentrace --since 10m     the last 10 minutes
  xentrace replay a.jsonl.zst b.jsonl.zst -o json   two, merged by time
  xentrace replay --since 2026-11-27T02:10 --until 2026-11-27T02:20 a.jsonl`,
		RunE: func(c *cobra.Command, paths []string) error { return o.run(c.Context(), paths) },
	}
	parsed(c, &o.since, "since", "", "TIME", "", "from this time, or this long before the end (2026-11-27T02:10, 10m)", parseBound)
	parsed(c, &o.until, "until", "", "TIME", "", "until this time, or this long before the end", parseBound)
	toggle(c, &o.stack, "stack", "", "show the recorded stacks")
	filterFlags(c, &o.filter)
	parsed(c, &o.count, "count", "", "N", "", "stop after this many packets", parseCount)
	o.writing.flags(c, "also show stacks, and notices of the run")
	return c
}

// recordings accepts at least one path.
func recordings(_ *cobra.Command, args []string) error {
	switch {
	case len(args) == 0:
		return usageError{errors.New("missing argument PATH: a recording, or a directory of xentrace record")}
	case len(args) > maxRecordings:
		return usageError{fmt.Errorf("%d paths: at most %d", len(args), maxRecordings)}
	}
	return nil
}

// maxRecordings bounds how many are read at once: each takes a file descriptor and memory.
const maxRecordings = 256

// timeLayouts are how a time may be written, without a zone in local time.
var timeLayouts = [...]string{time.RFC3339Nano, "2006-01-02T15:04:05", "2006-01-02 15:04:05", "2006-01-02T15:04", "2006-01-02 15:04", "2006-01-02"}

func parseBound(text string) (record.Bound, error) {
	if d, err := parseAge(text); err == nil && d > 0 {
		return record.Bound{Before: d}, nil
	}
	for _, layout := range timeLayouts {
		if at, err := time.ParseInLocation(layout, text, time.Local); err == nil {
			return record.Bound{At: at}, nil
		}
	}
	return record.Bound{}, errors.New("not a time such as 2026-11-27T02:10, nor a duration such as 10m or 2d")
}

func (o *replayOptions) run(ctx context.Context, paths []string) error {
	console := o.console()
	source, err := record.Open(ctx, paths, record.ReadOptions{Since: o.since, Until: o.until, Damaged: func(d record.Damage) {
		console.Say("damaged: " + d.String())
	}})
	if err != nil {
		return usageError{err}
	}
	text := &output.Text{}
	out := output.NewStream(o.stdout())
	sink := &replayed{Lines: output.NewJSON(out), Stream: out, text: nil, console: console}
	if !o.json() {
		text = o.System.text(&o.writing, o.verbose || o.stack)
		sink.Lines, sink.text = output.NewText(out, text), text
	}
	_, err = session.Run(ctx, session.Options{
		Source: source, Sink: sink, Filter: &o.filter, Count: o.count, Broken: out.Failed(),
		Summarize: func(*event.Totals) *event.Summary {
			text.Histogram = source.Histogram()
			summary := *source.Summary()
			return &summary
		},
	})
	if n := source.Damages(); err == nil && n > 0 {
		console.Say(fmt.Sprintf("%d damaged parts; everything else was shown", n))
		return errFinding
	}
	return err
}

// replayed is the sink of a replay: notices are sentences on standard error, as in the run.
type replayed struct {
	*output.Lines
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
	return r.Lines.Emit(e)
}
