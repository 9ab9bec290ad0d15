package cli

import (
	"context"
	"fmt"
	"strings"
	"time"

	"xentrace/internal/event"
	"xentrace/internal/fix"
	"xentrace/internal/trace"
)

// watchWindows is how many times drops may go on before they are said to: data
// that was put together before the change is still to be sent.
const watchWindows = 4

// A dropWatch counts drops before and after a change.
type dropWatch struct {
	f      *fixing
	tracer Tracer // nil where the interfaces' own counters are read
	why    string // why there is no tracer
	cancel context.CancelFunc
	idents []fix.Identity
	first  window

	changed         []fix.Identity // interfaces to probe
	unprobed        string         // why some were not, in sentences
	pauseDiscarding func()
}

// A window is what was counted in a stretch of time.
type window struct {
	packets, dropped uint64
	causes           [event.NumCauses]uint64
}

// newDropWatch attaches the tracer, if there is something to watch for and it can.
func (f *fixing) newDropWatch(ctx context.Context, plan *fix.Plan) *dropWatch {
	w := &dropWatch{f: f, cancel: func() {}, pauseDiscarding: func() {}, idents: plan.Identities(), changed: plan.Changed()}
	if f.watch == 0 {
		return w
	}
	running, cancel := context.WithCancel(context.WithoutCancel(ctx))
	options := trace.Options{Interfaces: f.interfaces, Backend: event.Auto}
	if !f.noProbe && len(w.changed) > 0 {
		options.Records, options.Probe, options.Rejected = true, true, true
		options.Drops, options.DropsHook = event.DropsAll, trace.DropsTracepoint
	}
	tracer, err := f.Start(running, options)
	if err != nil {
		cancel()
		w.why = err.Error()
		return w
	}
	w.tracer, w.cancel = tracer, cancel
	if options.Records {
		w.discard()
	}
	return w
}

// discard reads the records that nobody waits for, so that there is room for a probe's,
// until pauseDiscarding is called.
func (w *dropWatch) discard() {
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

func (w *dropWatch) close() {
	w.pauseDiscarding()
	if w.tracer != nil {
		_ = w.tracer.Close() // what it counted has been told
	}
	w.cancel()
}

// before watches before the change.
func (w *dropWatch) before(ctx context.Context) (err error) {
	if w.f.watch == 0 {
		return nil
	}
	if w.why != "" {
		w.f.say("The tracer cannot watch here (%s): the interfaces' own counters are read instead.", w.why)
	}
	w.f.say("Watching for drops for %v before anything is changed.", w.f.watch)
	w.first, err = w.window(ctx)
	return err
}

// after watches after the change and tells whether drops have ended.
func (w *dropWatch) after(ctx context.Context) (ended bool) {
	if w.f.watch == 0 {
		return true
	}
	between := window{}
	for n := range watchWindows {
		last, err := w.window(ctx)
		if err != nil {
			w.tell(fix.Failed, "Whether drops have ended is not known: "+err.Error()+".")
			return false
		}
		quiet := last.packets+last.dropped == 0 && w.first.dropped+between.dropped > 0
		switch {
		case last.dropped == 0 && !quiet:
			w.tell(fix.Verified, w.ended(last, between))
			return true
		case n < watchWindows-1:
			between.dropped += last.dropped
			continue
		case quiet:
			w.tell(fix.Applied, fmt.Sprintf("Whether drops have ended is not known: nothing was sent in the last %v. Before the change: %s.", w.f.watch, w.first))
			return true
		}
		w.tell(fix.Failed, fmt.Sprintf("Packets are still dropped: %s in the last %v. What was applied stays. xentrace watch shows each packet.", last, w.f.watch))
	}
	return false
}

// ended is the good news.
func (w *dropWatch) ended(last, between window) string {
	time := w.f.watch
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
		text += " But nothing was sent in that time, so that this shows little."
	}
	return text
}

func (w *dropWatch) tell(status fix.Status, message string) {
	w.f.tell(fix.Step{Name: "watch", Status: status, Message: message + w.unprobed})
}

// window counts for as long as the flags say. An interrupt ends it.
func (w *dropWatch) window(ctx context.Context) (window, error) {
	began, err := w.count(ctx)
	if err != nil {
		return window{}, err
	}
	timer := time.NewTimer(w.f.watch)
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

// count returns what was counted so far.
func (w *dropWatch) count(ctx context.Context) (window, error) {
	if w.tracer == nil {
		packets, dropped, err := w.f.fixer.Counters(ctx, w.idents)
		return window{packets: packets, dropped: dropped}, err
	}
	totals, err := w.tracer.Totals(ctx)
	counted := window{}
	for n := range totals.Interfaces {
		t := &totals.Interfaces[n]
		counted.packets += t.Packets
		counted.dropped += t.Dropped
		for cause, dropped := range t.Causes {
			counted.causes[cause] += dropped
		}
	}
	return counted, err
}

// String says how many packets were dropped, and why.
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
