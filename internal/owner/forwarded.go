package owner

import (
	"time"

	"golang.org/x/sys/unix"

	"xentrace/internal/event"
)

// A forwarded flow is one whose packets have no socket here: its sender's, if it is on this
// machine, is in another network namespace, such as a container's, and is found by the
// addresses before NAT.
type forwarded struct {
	process *event.Process // nil: no process of this machine sends it, as far as is known
	asked   time.Time      // last lookup
	used    time.Time
}

// senderOf returns the addresses of a packet's sender as its own socket has them.
func senderOf(p *event.Packet) (event.FlowKey, bool) {
	f := p.Flow
	switch {
	case p.BeforeNAT != nil:
		f = p.BeforeNAT
	case p.Inner != nil:
		f = p.Inner
	case f == nil:
		return event.FlowKey{}, false
	}
	ports := f.Source.Port() != 0 && f.Destination.Port() != 0
	return event.FlowKey{Proto: f.Proto, Source: f.Source, Destination: f.Destination},
		ports && (f.Proto == unix.IPPROTO_TCP || f.Proto == unix.IPPROTO_UDP)
}

// completeForwarded reports false if the pending lookups may find out more. Only the first
// packet of a flow waits: most of what is forwarded comes from other machines.
func (o *owners) completeForwarded(p *event.Packet, now time.Time) bool {
	key, is := senderOf(p)
	if !is || p.TCP != nil || p.Process != nil {
		return true
	}
	known := o.forwarded[key]
	if known == nil {
		return !o.pending.addFlow(key)
	}
	known.used = now
	p.Process = known.process
	if now.Sub(known.asked) >= refreshAfter {
		o.pending.addFlow(key)
	}
	return true
}

// learnForwarded keeps the last known owner of a socket that is gone.
func (o *owners) learnForwarded(key event.FlowKey, holders []event.Holder, now time.Time) {
	known := o.forwarded[key]
	if known == nil {
		if len(o.forwarded) >= maxSockets {
			o.expire(now)
		}
		known = &forwarded{used: now}
		o.forwarded[key] = known
	}
	known.asked = now
	if first := firstHolder(holders); first != nil {
		known.process, _ = o.process(&first.Task, first.UID, now)
	}
}

func firstHolder(holders []event.Holder) *event.Holder {
	var first *event.Holder
	for i := range holders {
		if h := &holders[i]; first == nil || startedBefore(&h.Task, &first.Task) {
			first = h
		}
	}
	return first
}

func (o *owners) expireForwarded(now time.Time) {
	for key, f := range o.forwarded {
		if now.Sub(f.used) >= idleTimeout {
			delete(o.forwarded, key)
		}
	}
	if len(o.forwarded) > maxSockets*3/4 {
		clear(o.forwarded)
	}
}
