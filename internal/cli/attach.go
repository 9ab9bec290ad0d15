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
	"xentrace/internal/facts"
	"xentrace/internal/filter"
	"xentrace/internal/flow"
	"xentrace/internal/output"
	"xentrace/internal/record"
	"xentrace/internal/session"
	"xentrace/internal/trace"
)

type traced struct {
	in      *tracing
	tracer  Tracer
	console *output.Console
	totals  event.Totals  // at the start: names the interfaces
	took    time.Duration // to attach
	wait    wait
	cancel  context.CancelFunc // ends what the tracer does in the background

	recorder *record.Recorder // nil: nothing is recorded
}

// attach starts a tracer as the flags ask, announces it, and drops privileges once prepare,
// which may be nil, has opened what needs them. It returns nil and no error if it was
// interrupted meanwhile.
func attach(ctx context.Context, in *tracing, records bool, prepare func(*traced)) (*traced, error) {
	t := &traced{in: in, console: in.console()}
	ready, err := prepareReadyFile(in.readyFile)
	if err != nil {
		return nil, err
	}
	defer ready.discard()
	if t.recorder, err = in.recording.open(in.user, t.notifyOfRecording); err != nil {
		return nil, err
	}
	if err := t.start(ctx, records); err != nil {
		t.stopRecording()
		if ctx.Err() != nil && errors.Is(err, context.Canceled) {
			return nil, nil
		}
		return nil, err
	}
	if prepare != nil {
		prepare(t)
	}
	if err := errors.Join(t.begin(ctx), ready.create(), t.announce(ctx), t.dropPrivileges(ctx)); err != nil {
		defer t.cancel()
		t.stopRecording()
		return nil, errors.Join(err, t.tracer.Close())
	}
	return t, nil
}

// notify writes a notice to standard error, to the recording and to who else wants it.
func (t *traced) notify(n event.Notice) {
	t.notifyOfRecording(n)
	if t.recorder != nil {
		_ = t.recorder.Emit(&n) // it never fails
	}
}

// notifyOfRecording is notify for what the recording itself knows.
func (t *traced) notifyOfRecording(n event.Notice) {
	t.console.Notify(n)
	if t.in.notices != nil {
		_ = t.in.notices.Emit(&n) // its Close returns the error
	}
}

// stopRecording ends a recording of a run that did not start.
func (t *traced) stopRecording() {
	if t.recorder != nil {
		_ = t.recorder.Close() // why the run did not start is reported
	}
}

// start attaches. An interrupt ends the attempt, but not a tracer that is already
// running: that one is to be stopped in good order.
func (t *traced) start(ctx context.Context, records bool) error {
	began := time.Now()
	running, cancel := context.WithCancel(context.WithoutCancel(ctx))
	interrupted := context.AfterFunc(ctx, cancel)
	in := t.in
	t.wait = wait{limit: in.limit, giveUp: cancel}
	tracer, err := in.Start(running, trace.Options{
		Interfaces: in.interfaces,
		Backend:    event.Backend(in.backend),
		BTF:        in.btf,
		Records:    records,
		Drops:      event.Drops(in.drops),
		DropsHook:  trace.DropsHook(in.dropsHook),
		RingBytes:  in.ringBytes,
		Wait:       in.wait,
		Rejected:   in.rejected,
		Stacks:     in.stack,
		Probe:      in.probe,
		Writes:     in.recording.dir,
		Serves:     in.serves,
		Reads:      in.reads,
		Snap:       in.recording.snap,
		Rate:       in.recording.rate,
		Notify:     t.wait.notify(t.notify),
	})
	if late := t.wait.end(); late != nil {
		err = late
	}
	if err == nil && !interrupted() { // the interrupt came just as it was done
		err = context.Canceled
	}
	if err != nil {
		cancel()
		if tracer != nil {
			err = errors.Join(err, tracer.Close())
		}
		return err
	}
	t.tracer, t.cancel, t.took = tracer, cancel, time.Since(began)
	return nil
}

// dropPrivileges drops what is not needed any more. Files are open by now. An
// interrupt meanwhile is dealt with later, as any other.
func (t *traced) dropPrivileges(ctx context.Context) error {
	return keptPrivileges(t.tracer.DropPrivileges(context.WithoutCancel(ctx), t.in.user, t.in.keep...), t.console)
}

// keptPrivileges reports that this binary cannot drop them.
func keptPrivileges(err error, console *output.Console) error {
	if errors.Is(err, errors.ErrUnsupported) {
		console.Say("privileges are kept: a cgo binary cannot drop them on all threads; build with CGO_ENABLED=0")
		return nil
	}
	return err
}

func (t *traced) announce(ctx context.Context) (err error) {
	if t.totals, err = t.tracer.Totals(ctx); err != nil && ctx.Err() == nil {
		return fmt.Errorf("counts: %w", err)
	}
	choice, verbose := t.tracer.Choice(), t.in.verbose
	var refused []string
	for _, r := range choice.Refusals {
		refused = append(refused, string(r.Backend))
	}
	sentence := fmt.Sprintf("%s with backend %s", watched(&t.totals), choice.Backend)
	switch {
	case len(refused) > 0 && !verbose && !t.totals.AnyNetfront():
	case len(refused) > 0 && !verbose: // which costs more per packet of the driver
		sentence += fmt.Sprintf("; %s did not attach (-v shows why)", strings.Join(refused, " and "))
	case len(refused) > 0:
		sentence += fmt.Sprintf("; %s did not attach", strings.Join(refused, " and "))
	}
	if t.in.drops == string(event.DropsAll) {
		sentence += "; drops elsewhere by " + t.in.dropsHook
	}
	t.console.Say(sentence)
	if !verbose {
		return nil
	}
	for _, r := range choice.Refusals {
		t.console.Say(fmt.Sprintf("%s did not attach: %v", r.Backend, r.Err))
	}
	if choice.HoldsDriver {
		t.console.Say("the driver's module cannot be unloaded during this trace; to unload it, stop the trace or use --backend kprobe without --rejected")
	}
	t.console.Say(fmt.Sprintf("attached in %d ms; the ring buffer has %d KiB", t.took.Milliseconds(), t.in.ringBytes>>10))
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

// stdout is standard output; on a terminal that also shows the status line, with that
// line kept below.
func (t *traced) stdout() io.Writer {
	if isTerminal(t.in.Stdout) {
		return t.console.Above(t.in.stdout())
	}
	return t.in.stdout()
}

type stream struct {
	emitter
	*output.Stream
}

type emitter interface{ Emit(event.Event) error }

// stream returns the sink that --output asks for; histogram as hist ends.
func (t *traced) stream(histogram bool) *stream {
	out := output.NewStream(t.stdout())
	if t.in.format == formatPcapng {
		return &stream{t.capture(out), out}
	}
	return &stream{t.in.lines(out, histogram, &t.totals), out}
}

// run leads what the tracer reads to standard output, or the screen, until the end.
func (t *traced) run(ctx context.Context, out *stream, screen *screen, options session.Options) (session.Result, error) {
	defer t.cancel()
	options.Source, options.Sink = session.Live(t.tracer), out
	options.Duration, options.Count = t.wait.rest(t.in.duration), t.in.count
	options.Broken, options.Warn = out.Failed(), t.console.Say
	switch {
	case screen != nil:
		options.Sink = screen.show(ctx, out)
		defer screen.end() // a panic too leaves the terminal restored
	case t.console.HasStatus():
		var before event.Totals
		options.Status = func(now *event.Totals, left time.Duration) {
			t.console.SetStatus(output.StatusLine(&before, now, left))
			before = *now
		}
		defer t.console.SetStatus("")
	}
	t.recorded(&options)
	return session.Run(ctx, options)
}

// ignoringPipe returns err unless it means that standard output was closed,
// which ends a run but is no failure.
func ignoringPipe(err error) error {
	if errors.Is(err, syscall.EPIPE) {
		return nil
	}
	return err
}

// followed is what watch leads records through: the history of flows, and the filters.
func (t *traced) followed(filter *filter.Filter) session.Options {
	table := flow.NewTable(0, t.tracer.Connections())
	machine := &facts.Cache{}
	table.Ask(machine.Of)
	return session.Options{Flows: table, Filter: filter, Facts: machine.Of}
}
