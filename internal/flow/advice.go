package flow

import (
	"time"

	"xentrace/internal/event"
	"xentrace/internal/remedy"
	"xentrace/internal/verdict"
)

// adviceAge is how old the advice for a flow gets while nothing but time has passed: the
// machine may have been changed meanwhile.
const adviceAge = time.Second

// An advice is which drop the advice for a flow goes by. Finding it takes 10 µs, so it is
// found when somebody asks for it, not at each drop.
type advice struct {
	open   bool // a drop was not considered yet
	by     advisedBy
	bySeen time.Time // the drop
}

// advisedBy is what decides the advice, besides the machine and the segment.
type advisedBy struct {
	stalled bool
	layer   event.Layer
	cause   event.Cause
	reason  string
	device  event.Device
}

// due notes that the flow's last packet was dropped.
func (a *advice) due(f *event.FlowHistory) {
	p := &f.Packet
	by := advisedBy{f.State == event.Stalled, p.Layer, p.Cause, p.Reason, p.Interface}
	if by == a.by && p.Time.Sub(a.bySeen) < adviceAge {
		return
	}
	a.open, a.by, a.bySeen = true, by, p.Time
}

// settle finds the advice, best first: for a stalled flow by the facts about the machine and
// the segment. The flow's last packet is a dropped one if it is due.
func (a *advice) settle(f *event.FlowHistory, ask func(event.Device) remedy.Facts) {
	if !a.open {
		return
	}
	a.open = false
	p := &f.Packet
	facts := remedy.Facts{Interface: p.Interface.Name}
	if ask != nil {
		facts = ask(p.Interface)
	}
	if !a.by.stalled || p.Layer == event.LayerElsewhere {
		f.Advice = remedy.For(facts, verdict.OfPacket(p).Remedies...)
		return
	}
	facts.RecutFits = verdict.RecutFits(p)
	f.Advice = verdict.ForStall(facts, p.Cause)
}
