package cli

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"xentrace/internal/event"
	"xentrace/internal/output"
	"xentrace/internal/report"
	"xentrace/internal/session"
)

type reportOptions struct {
	tracing
	recorded
	out string
}

func (a *app) reportCommand() *cobra.Command {
	o := &reportOptions{tracing: a.newTracing(), recorded: recorded{app: a}}
	c := &cobra.Command{
		Use: "report [PATH...] -w FILE.html [flags]", Short: "Write one HTML file about a recording, or about a live run",
		Long: `Writes one HTML file: what happened, timeline, connections, causes, advice, the
machine and its findings. The file is at most 300 kB, loads nothing from the
network and opens from disk. Paths are recordings: files or directories.
Without a path, -d TIME watches this machine for that long.`,
		Args: cobra.ArbitraryArgs,
		Example: `  xentrace report /var/log/xentrace --since 10h -w night.html
  xentrace report night.jsonl.zst --redact -w to-send.html
  xentrace report -d 30s -w now.html`,
		RunE: func(c *cobra.Command, args []string) error {
			o.setCommand(c, args)
			return o.run(c.Context(), args, c.Flags().Changed)
		},
	}
	path(c, &o.out, "write", "w", "write the page to this file; -: standard output")
	o.recorded.flags(c)
	o.durationFlag(c, "watch this machine for this long, e.g. 30s")
	interfaceFlag(c, &o.interfaces, "with -d: interface; without it, every xen-netfront interface")
	toggle(c, &o.wait, "wait", "", "with -d: wait for an interface instead of failing")
	o.backendFlag(c)
	toggle(c, &o.rejected, "rejected", "", "with -d: also packets that the backend rejected")
	word(c, &o.drops, "drops", "", "WHICH", "with -d: drops to report", string(event.DropsDriver), string(event.DropsAll))
	toggle(c, &o.stack, "stack", "", "with -d: the kernel and user stack of the sender")
	toggle(c, &o.verbose, "verbose", "v", "more details on stderr")
	readyFlag(c, &o.readyFile)
	return c
}

// liveFlags are of live runs only.
var liveFlags = []string{"interface", "wait", "backend", "rejected", "drops", "stack", "ready-file"}

func (o *reportOptions) run(ctx context.Context, paths []string, given func(flag string) bool) error {
	live := len(paths) == 0
	switch {
	case live && o.duration == 0:
		return usageError{errors.New("missing argument PATH, or -d TIME for a live run")}
	case !live && given("duration"):
		return usageError{errors.New("--duration is for a live run; drop it or the paths")}
	case o.out == "":
		return usageError{errors.New("missing --write FILE.html")}
	case live && (given("since") || given("until")):
		return usageError{errors.New("--since and --until need a recording")}
	}
	for _, flag := range liveFlags {
		if !live && given(flag) {
			return usageError{fmt.Errorf("--%s is for a live run; drop it or the paths", flag)}
		}
	}
	page, err := o.createPage(o.out, live)
	if err != nil {
		return err
	}
	defer page.discard()
	if live {
		return o.live(ctx, page)
	}
	collector, options, err := o.collect(ctx, o.redactor(), paths...)
	if err != nil {
		return o.interrupted(err)
	}
	return o.finish(page, collector, options)
}

// interrupted reports that no page was written; that is no failure.
func (o *reportOptions) interrupted(err error) error {
	if !errors.Is(err, context.Canceled) {
		return err
	}
	o.recorded.console().Say("interrupted; " + o.out + " is not written")
	return nil
}

func (o *reportOptions) finish(file *pageFile, collector *report.Collector, options report.Options) error {
	page, err := collector.Page(options)
	if err == nil {
		err = file.finish(page)
	}
	if err != nil {
		return err
	}
	if file.stdout == nil {
		o.recorded.console().Say("wrote " + file.path)
	}
	if len(options.Damage) > 0 {
		for _, damage := range options.Damage {
			o.recorded.console().Say(damage)
		}
		return errFinding
	}
	return nil
}

// live watches this machine and makes a page of that.
func (o *reportOptions) live(ctx context.Context, file *pageFile) error {
	collector := report.NewCollector()
	sink := &lockedSink{sink: redacting(collector, o.redactor())}
	o.notices = sink
	var options session.Options
	var described error
	t, err := attach(ctx, &o.tracing, true, func(t *traced) {
		options = t.followed(nil)
		var start *event.Start
		if start, described = t.describe(ctx); described == nil {
			described = sink.Emit(start) // before the first packet: nothing is read yet
		}
	})
	if t == nil {
		return err
	}
	defer t.cancel()
	options.Source, options.Sink, options.Warn = session.Live(t.tracer), sink, t.console.Say
	options.Duration, options.Interval = o.duration, liveInterval
	if t.console.HasStatus() {
		var before event.Totals
		options.Status = func(now *event.Totals, left time.Duration) {
			t.console.SetStatus(output.StatusLine(&before, now, left))
			before = *now
		}
	}
	_, err = session.Run(ctx, options)
	t.console.SetStatus("")
	if err := errors.Join(described, err); err != nil {
		return err
	}
	return o.finish(file, collector, o.options())
}

// liveInterval is how finely a live run's counts are placed in time.
const liveInterval = time.Second

// A lockedSink lets several goroutines emit.
type lockedSink struct {
	mu   sync.Mutex
	sink session.Sink
}

func (s *lockedSink) Emit(e event.Event) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.sink.Emit(e)
}

func (s *lockedSink) Close() error { return s.sink.Close() }
