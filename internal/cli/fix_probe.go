package cli

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"xentrace/internal/fix"
	"xentrace/internal/netdev"
	"xentrace/internal/output"
	"xentrace/internal/probe"
	"xentrace/internal/trace"
)

// probes makes one probe out of each interface that was changed, to its own default
// gateway, and tells what each found. Where none could be made, after says why, in what
// it tells of the watch.
func (w *dropWatch) probes(ctx context.Context) (lost bool) {
	switch {
	case w.f.watch == 0 || w.f.noProbe || len(w.changed) == 0:
		return false
	case w.tracer == nil:
		w.unprobed = " No probe was made, since the tracer cannot watch it."
		return false
	}
	w.pauseDiscarding()
	defer w.discard()
	// All that takes a privilege is done: a probe is sent without, as xentrace probe does.
	if err := w.tracer.DropPrivileges(context.WithoutCancel(ctx)); err != nil && !errors.Is(err, errors.ErrUnsupported) {
		w.unprobed = " No probe was made, since the privileges that it does not need could not be given up: " + err.Error() + "."
		return false
	}
	for _, i := range w.changed {
		lost = w.probe(ctx, i) || lost
	}
	return lost
}

// probe makes one probe and tells what it found.
func (w *dropWatch) probe(ctx context.Context, i fix.Identity) (lost bool) {
	result, err := w.f.Probe(ctx, w.tracer, i.NetNS, i.Index)
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
	w.f.tell(fix.Step{Name: "probe", Interface: i.Name, NetNS: i.NetNS, Status: status, Message: message})
	return result.Lost()
}

// withinLimit tells that no datagram over the limit can be made here any more, as
// single pages are to bring about.
func (w *dropWatch) withinLimit(r *probe.Result) bool {
	return !r.ScatterGatherOff && !r.Reached && (r.Seen || r.SinglePages) && w.f.fixer.SinglePages()
}

// judgeProbe says what a probe that was made tells of the change.
func (w *dropWatch) judgeProbe(r *probe.Result) (fix.Status, string) {
	var made string
	if r.Seen && r.Flow != nil {
		made = fmt.Sprintf("A datagram to the default gateway, %s, had %s (the limit is %d). ", r.Flow.Destination.Addr(), output.Count(r.Slots, "slot"), r.Limit)
	}
	switch {
	case r.Lost():
		return fix.Failed, made + output.ProbeMessage(r) + " What was applied stays."
	case w.withinLimit(r):
		return fix.Verified, fmt.Sprintf("In %d attempts no datagram of more than %d slots could be made: new page fragments are single pages, so copied data stays within the limit.", r.Attempts, r.Limit)
	case !r.Reached:
		return fix.Applied, made + output.ProbeMessage(r)
	}
	return fix.Verified, made + output.ProbeMessage(r)
}
