package flow

import (
	"time"

	"golang.org/x/sys/unix"

	"xentrace/internal/event"
)

// Of a connection without a socket here, such as a forwarded one, only the headers of packets
// that were dropped are seen: what is retransmitted is not acknowledged yet. It is stalled if the
// same sequence number is dropped again and nothing higher was dropped in between, which would be
// new data, or the rest of what was in flight.

const (
	// minRepeat is the least time between retransmissions: what comes faster is a copy of the
	// packet, as a bridge makes them.
	minRepeat = time.Millisecond

	// The timer for retransmissions doubles each time, up to 2 min (TCP_RTO_MAX). When none was
	// dropped for quietTimes the last interval, one passed or the sender gave up.
	quietTimes = 4
	minQuiet   = 3 * time.Second
	maxQuiet   = 5 * time.Minute
)

// isInferred reports whether the state of a packet's connection is known from headers alone.
func (h *history) isInferred(p *event.Packet) bool {
	f := flowOf(p)
	return p.TCP == nil && (h.flow.TCP == nil || h.flow.Inferred) && f.Proto == unix.IPPROTO_TCP && f.SeqKnown && f.SeqLength != 0
}

// infer records a drop of such a connection.
func (h *history) infer(p *event.Packet) []event.FlowEvent {
	f, seq := &h.flow, flowOf(p).Seq
	if f.TCP == nil {
		f.TCP, f.Inferred = &event.FlowTCP{}, true
	}
	d, repeated := h.dropped.noteAlone(seq, p.Time)
	f.TCP.Seq, f.TCP.SameSeq = seq, d.times
	if f.State == event.Stalled {
		if seq == h.stalledAt && repeated {
			h.repeat, h.repeated = p.Time.Sub(h.repeated), p.Time
		}
		return nil
	}
	f.State = event.Troubled
	if !repeated || d.still < 2 {
		return nil
	}
	f.State, f.StalledSince, h.stalledAt = event.Stalled, d.since, seq
	h.repeat, h.repeated = p.Time.Sub(d.since), p.Time
	f.Stalls++
	h.advice.due(f)
	return []event.FlowEvent{h.event(p.Time)}
}

// goesOn ends a stall that was inferred when its sequence number is not dropped any more.
func (h *history) goesOn(now time.Time) []event.FlowEvent {
	quiet := min(max(quietTimes*h.repeat, minQuiet), maxQuiet)
	if h.flow.State != event.Stalled || !h.flow.Inferred || now.Sub(h.repeated) < quiet {
		return nil
	}
	h.flow.State, h.flow.StalledFor = event.Recovered, h.repeated.Sub(h.flow.StalledSince).Truncate(time.Millisecond)
	h.dropped = nil
	return []event.FlowEvent{h.event(now)}
}

// noteAlone counts a sequence number that was dropped, and reports whether this is a
// retransmission of it. What is lower begins anew.
func (s *droppedSeqs) noteAlone(seq uint32, at time.Time) (d droppedSeq, repeated bool) {
	for i := range *s {
		switch known := &(*s)[i]; {
		case after(seq, known.seq):
			known.still = 0
		case seq == known.seq && at.Sub(known.last) < minRepeat:
			return *known, false
		}
	}
	d = s.note(seq, 0, at)
	return d, d.times > 1
}
