package fix

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"xentrace/internal/event"
	"xentrace/internal/kernel"
	"xentrace/internal/netdev"
	"xentrace/internal/probe"
	"xentrace/internal/trace"
	"xentrace/internal/verdict"
)

// watchWindows is how many times drops may go on before they are said to: data
// that was put together before the change is still to be sent.
const watchWindows = 4

// A Tracer counts drops and sees probes.
type Tracer interface {
	probe.Tracer
	Totals(context.Context) (event.Totals, error)
	DropPrivileges(context.Context, kernel.User, ...kernel.Capability) error
	Close() error
}

// A Verifier counts drops before and after the changes, and probes each changed interface.
type Verifier struct {
	Fixer      *Fixer
	Interfaces []string      // as named by the user
	Watch      time.Duration // how long to count before, and at least after; 0: not at all
	NoProbe    bool

	// Start attaches a tracer.
	Start func(context.Context, trace.Options) (Tracer, error)
	// Probe probes out of the interface with this index in the caller's network namespace,
	// whose inode number is given too; smallHead is [probe.SmallHeadSize].
	Probe func(ctx context.Context, tracer probe.Tracer, netns uint32, index, smallHead int) (event.Probe, error)
	// Say prints a sentence.
	Say func(format string, args ...any)

	tracer Tracer // nil where the interfaces' own counters are read
	why    string // why there is no tracer
	cancel context.CancelFunc
	idents []Identity
	first  window

	concluded event.FixStep // of the watch; without a message if there is none

	changed         []Identity // interfaces to probe
	unprobed        string     // why some were not, in sentences
	confined        bool
	pauseDiscarding func()
}

type window struct {
	packets, dropped uint64
	causes           [event.NumCauses]uint64
}

// Attach attaches the tracer, if there is something to watch for and it can.
func (w *Verifier) Attach(ctx context.Context, plan *Plan) {
	w.cancel, w.pauseDiscarding, w.idents, w.changed = func() {}, func() {}, plan.Identities(), plan.Changed()
	if w.Watch == 0 {
		return
	}
	running, cancel := context.WithCancel(context.WithoutCancel(ctx))
	options := trace.Options{Interfaces: w.Interfaces, Backend: event.Auto}
	if !w.NoProbe && len(w.changed) > 0 {
		options.Records, options.Probe, options.Rejected = true, true, true
		options.Drops, options.DropsHook = event.DropsAll, trace.DropsTracepoint
	}
	tracer, err := w.Start(running, options)
	if err != nil {
		cancel()
		w.why = err.Error()
		return
	}
	w.tracer, w.cancel = tracer, cancel
	if options.Records {
		w.discard()
	}
}

// discard reads the records that nobody waits for, so that there is room for a probe's,
// until pauseDiscarding is called.
func (w *Verifier) discard() {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		for ctx.Err() == nil {
			if _, err := w.tracer.Read(ctx); err != nil {
				return // who probes meets it, too
			}
		}
	}()
	w.pauseDiscarding = func() {
		cancel()
		<-done
	}
}

// Close detaches.
func (w *Verifier) Close() {
	w.pauseDiscarding()
	if w.tracer != nil {
		_ = w.tracer.Close() // what it counted has been reported
	}
	w.cancel()
}

// Before watches before the change.
func (w *Verifier) Before(ctx context.Context) (err error) {
	if w.Watch == 0 {
		return nil
	}
	if w.why != "" {
		w.Say("The tracer cannot watch here (%s): the interfaces' own counters are read instead.", w.why)
	}
	w.Say("Watching for drops for %v before anything is changed.", w.Watch)
	w.first, err = w.window(ctx)
	return err
}

// After watches after the change and returns whether drops have ended. If ctx ends it
// concludes nothing.
func (w *Verifier) After(ctx context.Context) (ended bool) {
	if w.Watch == 0 {
		return true
	}
	between := window{}
	for n := range watchWindows {
		last, err := w.window(ctx)
		if ctx.Err() != nil {
			return false
		}
		if err != nil {
			w.conclude(event.Failed, "Whether drops have ended is not known: "+err.Error()+".")
			return false
		}
		quiet := last.packets+last.dropped == 0 && w.first.dropped+between.dropped > 0
		switch {
		case last.dropped == 0 && !quiet:
			w.conclude(event.Verified, w.ended(last, between))
			return true
		case n < watchWindows-1:
			between.dropped += last.dropped
			continue
		case quiet:
			w.conclude(event.Applied, fmt.Sprintf("Whether drops have ended is not known: nothing was sent in the last %v. Before the change: %s.", w.Watch, w.first))
			return true
		}
		w.conclude(event.Failed, fmt.Sprintf("Packets are still dropped: %s in the last %v. What was applied stays. xentrace watch shows each packet.", last, w.Watch))
	}
	return false
}

func (w *Verifier) ended(last, between window) string {
	time := w.Watch
	var text string
	switch {
	case w.first.dropped == 0 && between.dropped == 0:
		text = fmt.Sprintf("No packet was dropped, neither in the %v before (%d sent) nor in the %v after (%d sent).", time, w.first.packets, time, last.packets)
	default:
		text = fmt.Sprintf("The drops have ended: %s in the %v before, none of %d in the last %v.", w.first, time, last.packets, time)
	}
	if between.dropped > 0 {
		text += fmt.Sprintf(" In between %d more were dropped, made before the change.", between.dropped)
	}
	if last.packets == 0 {
		text += " Nothing was sent in that time, so this proves little."
	}
	return text
}

func (w *Verifier) conclude(status event.FixStatus, message string) {
	w.concluded = event.FixStep{Name: "watch", Status: status, Message: message}
}

// Report reports what After concluded, and why what Probes did not probe was not.
func (w *Verifier) Report() {
	if step := w.concluded; step.Message != "" {
		step.Message += w.unprobed
		w.Fixer.Emit(step)
	}
}

func (w *Verifier) window(ctx context.Context) (window, error) {
	began, err := w.count(ctx)
	if err != nil {
		return window{}, err
	}
	timer := time.NewTimer(w.Watch)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
		return window{}, ctx.Err()
	}
	ended, err := w.count(ctx)
	if err != nil {
		return window{}, err
	}
	ended.packets -= began.packets
	ended.dropped -= began.dropped
	for cause := range ended.causes {
		ended.causes[cause] -= began.causes[cause]
	}
	return ended, nil
}

func (w *Verifier) count(ctx context.Context) (window, error) {
	if w.tracer == nil {
		packets, dropped, err := w.Fixer.Counters(ctx, w.idents)
		return window{packets: packets, dropped: dropped}, err
	}
	totals, err := w.tracer.Totals(ctx)
	sum := totals.Sum()
	return window{sum.Packets, sum.Dropped, sum.Causes}, err
}

// String reports how many packets were dropped, and why.
func (w window) String() string {
	text := fmt.Sprintf("%d of %d packets dropped", w.dropped, w.packets)
	var causes []string
	for _, cause := range event.Causes() {
		if n := w.causes[cause]; n > 0 {
			causes = append(causes, fmt.Sprintf("%s %d", cause, n))
		}
	}
	if len(causes) > 0 {
		text += " (" + strings.Join(causes, ", ") + ")"
	}
	return text
}

// Probes makes one probe out of each interface that was changed, to its own default
// gateway, and reports what each found. Where none could be made, Report has the reason. It comes
// last: it drops the privileges that Undo needs.
func (w *Verifier) Probes(ctx context.Context) (lost bool) {
	switch {
	case w.Watch == 0 || w.NoProbe || len(w.changed) == 0:
		return false
	case w.tracer == nil:
		w.unprobed = " No probe was made, since the tracer cannot watch it."
		return false
	}
	w.pauseDiscarding()
	defer w.discard()
	// All that takes a privilege is done: a probe is sent without, as xentrace probe does.
	smallHead := probe.SmallHeadSize()
	err := w.tracer.DropPrivileges(context.WithoutCancel(ctx), kernel.Nobody)
	if err != nil && !errors.Is(err, errors.ErrUnsupported) {
		w.unprobed = " No probe was made, since the privileges that it does not need could not be given up: " + err.Error() + "."
		return false
	}
	w.confined = err == nil
	for _, i := range w.changed {
		lost = w.probe(ctx, i, smallHead) || lost
	}
	return lost
}

// Confined reports that Probes has dropped the privileges.
func (w *Verifier) Confined() bool { return w.confined }

func (w *Verifier) probe(ctx context.Context, i Identity, smallHead int) (lost bool) {
	result, err := w.Probe(ctx, w.tracer, i.NetNS, i.Index, smallHead)
	name := netdev.Interface{Name: i.Name}.String()
	switch {
	case ctx.Err() != nil:
		return false
	case err != nil:
		w.unprobed += fmt.Sprintf(" No probe was made out of %s: %s.", name, strings.TrimPrefix(err.Error(), trace.ErrCannotRun.Error()+": "))
		return false
	case !result.Seen && !w.withinLimit(&result):
		w.unprobed += fmt.Sprintf(" A probe out of %s shows nothing: %s.", name, result.Unseen)
		return false
	}
	status, message := w.judgeProbe(&result)
	w.Fixer.Emit(event.FixStep{Name: "probe", Interface: i.Name, NetNS: i.NetNS, Status: status, Message: message})
	return result.Lost()
}

// withinLimit reports that no datagram over the limit can be made here any more, as
// single pages are to bring about.
func (w *Verifier) withinLimit(r *event.Probe) bool {
	return !r.ScatterGatherOff && !r.Reached && (r.Seen || r.SinglePages) && w.Fixer.SinglePages()
}

func (w *Verifier) judgeProbe(r *event.Probe) (event.FixStatus, string) {
	var made string
	if r.Seen && r.Flow != nil {
		made = fmt.Sprintf("A datagram to the default gateway, %s, had %s (the limit is %d). ", r.Flow.Destination.Addr(), verdict.Count(r.Slots, "slot"), r.Limit)
	}
	switch {
	case r.Lost():
		return event.Failed, made + verdict.ProbeSentence(r) + " What was applied stays."
	case w.withinLimit(r):
		return event.Verified, fmt.Sprintf("In %d attempts no datagram of more than %d slots could be made: new page fragments are single pages, so copied data stays within the limit.", r.Attempts, r.Limit)
	case !r.Reached:
		return event.Applied, made + verdict.ProbeSentence(r)
	}
	return event.Verified, made + verdict.ProbeSentence(r)
}
