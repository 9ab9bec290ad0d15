package session

import (
	"context"
	"fmt"
	"sync"
	"time"

	"xentrace/internal/event"
	"xentrace/internal/filter"
	"xentrace/internal/flow"
	"xentrace/internal/remedy"
	"xentrace/internal/verdict"
)

// A pipeline leads packets through the history of flows and the filter to the sink.
// Counts and histories include every packet; the filter chooses what is shown.
type pipeline struct {
	flows  *flow.Table                     // may be nil
	filter *filter.Filter                  // may be nil
	facts  func(event.Device) remedy.Facts // may be nil

	summarize func(*event.Totals) *event.Summary // nil: of the totals

	mu   sync.Mutex // of the sink, and of the order
	sink Sink

	added chan struct{} // holds one value if a packet came since it was read

	packets int    // that passed the filter; the reading goroutine's
	dropped bool   // one of them was dropped
	leftOut uint64 // packets and flow events that did not pass
}

// add leads one event through.
func (p *pipeline) add(e event.Event) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	packet, isPacket := e.(*event.Packet)
	if change, isFlow := e.(*event.FlowEvent); isFlow { // of a recording
		return p.emitFlows([]event.FlowEvent{*change})
	}
	if !isPacket {
		return p.sink.Emit(e)
	}
	var changes []event.FlowEvent
	if p.flows != nil {
		changes = p.flows.Add(packet)
		select {
		case p.added <- struct{}{}:
		default:
		}
	}
	if p.filter != nil && !p.filter.Match(packet) {
		p.leftOut++
		return p.emitFlows(changes)
	}
	p.packets++
	p.dropped = p.dropped || packet.Verdict == event.Dropped
	if err := p.sink.Emit(packet); err != nil {
		return err
	}
	return p.emitFlows(changes)
}

// emitFlows emits changes of flows; the filter judges a flow by its last packet.
func (p *pipeline) emitFlows(changes []event.FlowEvent) error {
	for i := range changes {
		f := &changes[i].Flow
		if p.filter != nil && !p.filter.MatchOf(&f.Packet, f.Process) {
			p.leftOut++
			continue
		}
		if err := p.sink.Emit(&changes[i]); err != nil {
			return err
		}
	}
	return nil
}

// poll reads the state of the flows from the kernel.
func (p *pipeline) poll() error {
	if p.flows == nil {
		return nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.emitFlows(p.flows.Poll(time.Now()))
}

// follow polls while there are connections to follow, until ctx ends. Without any it waits
// for a packet: a quiet run does not wake up.
func (p *pipeline) follow(ctx context.Context, warn func(string)) {
	if p.flows == nil {
		return
	}
	for {
		for p.flows.Following() {
			select {
			case <-ctx.Done():
				return
			case <-time.After(flow.PollInterval):
			}
			if err := p.poll(); err != nil {
				return // closing the sink returns it
			}
			if err := p.flows.Err(); err != nil && warn != nil {
				warn(fmt.Sprintf("state of some connections after a drop is unknown: %v", err))
				warn = nil
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-p.added:
		}
	}
}

// explain adds the meaning of each count, and the remedies.
func (p *pipeline) explain(totals *event.Totals) []event.Explanation {
	facts := p.facts
	if facts == nil {
		facts = func(d event.Device) remedy.Facts { return remedy.Facts{Interface: d.Name} }
	}
	return verdict.Explain(totals, facts)
}

func (p *pipeline) summary(totals *event.Totals) *event.Summary {
	summary := &event.Summary{Totals: *totals}
	if p.summarize != nil {
		summary = p.summarize(totals)
	} else {
		summary.Explained = p.explain(totals)
	}
	if p.filter != nil && (p.filter.Active() || p.summarize == nil) {
		summary.Filter, summary.LeftOut = p.filter.Flags(), p.leftOut
	}
	if p.flows != nil {
		flows := p.flows.Summary(totals.Time, most)
		summary.Flows = &flows
	}
	return summary
}

func (p *pipeline) anyDropped(totals *event.Totals) bool {
	if p.filter == nil || !p.filter.Active() {
		return totals.AnyDropped()
	}
	return p.dropped
}
