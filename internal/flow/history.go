package flow

import (
	"container/list"
	"maps"
	"slices"
	"time"

	"xentrace/internal/event"
	"xentrace/internal/remedy"
	"xentrace/internal/verdict"
)

// States of include/net/tcp_states.h in which a socket that sends a packet shows
// nothing of a connection: it has none, or none any more.
const (
	tcpClose  = 7
	tcpListen = 10
)

type history struct {
	flow      event.FlowHistory
	dropped   droppedSeqs
	advice    advice
	layout    verdict.Layout
	facts     func(event.Device) remedy.Facts // nil: nothing is known of the machine
	stalledAt uint32                          // sequence number
	repeat    time.Duration                   // between the last two drops of it, where that is inferred
	repeated  time.Time                       // the last of them
	total     uint32                          // total_retrans when last read
	base      uint32                          // total_retrans at the first drop
	based     bool                            // base is known
	socket    *event.Socket                   // that the kernel is asked about; nil if it is not

	user        uint32 // whose share of the table it takes
	address     uint64 // of the last packet's socket, 0 if unknown
	counted     bool   // as stalled now, by the table
	stalledEver bool   // counted as such
	placed      rank
	element     *list.Element
}

func newHistory(key event.FlowKey, p *event.Packet) *history {
	return &history{flow: event.FlowHistory{FlowKey: key, First: p.Time, MinSlots: p.Slots}}
}

func (h *history) closed() bool { return h.flow.State == event.Closed }

func (h *history) connected(p *event.Packet) bool {
	return p.TCP != nil && p.TCP.State != tcpListen && p.TCP.State != tcpClose
}

// anotherSocket reports whether a packet is of a new connection with the addresses and
// ports of one before.
func (h *history) anotherSocket(p *event.Packet) bool {
	if !h.connected(p) || p.Socket == nil {
		return false
	}
	return h.address != 0 && p.Socket.Address != h.address ||
		h.closed() && p.Time.After(h.flow.TCP.Asked)
}

// add records a packet and returns what that changed.
func (h *history) add(p *event.Packet) []event.FlowEvent {
	f := &h.flow
	if p.Verdict != event.Dropped {
		h.advice.settle(f, h.facts) // by the drop before
	}
	f.Interface, f.Last, f.Packet = p.Interface, p.Time, *p
	f.MinSlots, f.MaxSlots = min(f.MinSlots, p.Slots), max(f.MaxSlots, p.Slots)
	if p.Process != nil {
		f.Process = p.Process
	}
	if len(p.Stack) > 0 {
		f.Stack = p.Stack
	}
	h.layout.Add(p)
	switch p.Verdict {
	case event.Dropped:
		h.addDrop(p)
		h.advice.due(f)
	case event.Linearized:
		f.Linearized++
	case event.Bounced:
		f.Bounced++
	case event.Rejected:
		f.Rejected++
	case event.OverLimit:
		f.OverLimit++
	}
	if p.Verdict == event.Dropped && h.isInferred(p) {
		return h.infer(p)
	}
	if !h.connected(p) || h.closed() {
		return nil
	}
	if f.Inferred {
		f.TCP, f.Inferred, f.State, h.dropped = nil, false, event.Troubled, nil
	}
	if p.Socket != nil {
		h.address = p.Socket.Address
	}
	events := h.observe(p.TCP, p.Time)
	if p.Verdict != event.Dropped {
		return events
	}
	if !h.based {
		// A retransmission is counted before it is sent.
		h.base, h.based = p.TCP.TotalRetransmits, true
		h.flow.TCP.Retransmits = h.total - h.base
	}
	return append(events, h.addSeq(p)...)
}

func (h *history) addDrop(p *event.Packet) {
	f := &h.flow
	if f.Drops == 0 {
		f.FirstDrop = p.Time
	}
	f.Drops++
	f.LastDrop = p.Time
	if p.Layer == event.LayerElsewhere {
		f.Elsewhere++
		if f.Reasons == nil {
			f.Reasons = make(map[string]uint64)
		}
		f.Reasons[p.Reason]++
		return
	}
	f.Causes[p.Cause]++
}

// addSeq records the sequence number that was dropped. The flow stalls if it
// was before, and nothing was acknowledged in between.
func (h *history) addSeq(p *event.Packet) []event.FlowEvent {
	f := &h.flow
	if !occupies(p) || after(f.TCP.SndUna, p.TCP.Seq) {
		return nil // nothing that would be retransmitted, or acknowledged since, as the kernel reported
	}
	d := h.dropped.note(p.TCP.Seq, f.TCP.SndUna, p.Time)
	f.TCP.Seq, f.TCP.SameSeq = p.TCP.Seq, d.times
	if f.State == event.Stalled {
		return nil
	}
	f.State = event.Troubled
	if d.still < 2 {
		return nil
	}
	f.State, f.StalledSince, h.stalledAt = event.Stalled, d.since, p.TCP.Seq
	f.Stalls++
	h.advice.due(f)
	return []event.FlowEvent{h.event(p.Time)}
}

// occupies reports whether a segment at p.TCP.Seq has sequence numbers. Of one that is not
// visible that is known if the retransmission timer has expired: then it is the lowest that
// is not acknowledged.
func occupies(p *event.Packet) bool {
	f := flowOf(p)
	return f.SeqLength != 0 || !f.SeqKnown && p.TCP.Retransmits > 0
}

// observe records the state of the connection. What is older than what is known
// already changes nothing.
func (h *history) observe(tcp *event.TCP, at time.Time) []event.FlowEvent {
	f := &h.flow
	switch {
	case f.TCP == nil:
		f.TCP = &event.FlowTCP{}
	case at.Before(f.TCP.Asked), after(f.TCP.SndUna, tcp.SndUna):
		return nil
	}
	*f.TCP = event.FlowTCP{
		Asked: at, State: tcp.State, Seq: f.TCP.Seq, SameSeq: f.TCP.SameSeq,
		SndUna: tcp.SndUna, WriteSeq: tcp.WriteSeq, SndQBytes: tcp.WriteSeq - tcp.SndUna,
		RTO: tcp.RTO, Backoff: tcp.Backoff,
	}
	h.total = tcp.TotalRetransmits
	if h.based {
		f.TCP.Retransmits = tcp.TotalRetransmits - h.base
	}
	h.dropped.acknowledge(tcp.SndUna)
	if f.State != event.Stalled || !after(tcp.SndUna, h.stalledAt) {
		return nil
	}
	f.State, f.StalledFor = event.Recovered, at.Sub(f.StalledSince).Truncate(time.Millisecond)
	return []event.FlowEvent{h.event(at)}
}

// end closes the flow and returns what to report: that it recovered at the
// last moment, that it is closed.
func (h *history) end(last *event.Connection, at time.Time) []event.FlowEvent {
	if h.closed() {
		return nil
	}
	var events []event.FlowEvent
	f := &h.flow
	if last != nil {
		at = last.Time
		if last.Known {
			events = h.observe(&last.TCP, at)
		}
	}
	if f.State == event.Stalled {
		f.StalledFor, f.StalledAtEnd = at.Sub(f.StalledSince).Truncate(time.Millisecond), true
	}
	f.State = event.Closed
	h.dropped = nil
	if f.TCP != nil {
		f.TCP.Asked = at
	}
	if f.Drops == 0 {
		return events
	}
	return append(events, h.event(at))
}

func (h *history) event(at time.Time) event.FlowEvent {
	return event.FlowEvent{Time: at, Flow: h.snapshot(at)}
}

func (h *history) snapshot(now time.Time) event.FlowHistory {
	h.advice.settle(&h.flow, h.facts)
	f := h.flow
	f.Reasons = maps.Clone(f.Reasons)
	f.Layout = h.layout.Sentence()
	if f.TCP != nil {
		tcp := *f.TCP
		f.TCP = &tcp
	}
	if f.State == event.Stalled {
		f.StalledFor = now.Sub(f.StalledSince).Truncate(time.Millisecond)
	}
	return f
}

// hanging reports whether something that was dropped is not acknowledged yet.
func (h *history) hanging() bool { return h.flow.State == event.Stalled || len(h.dropped) > 0 }

// after reports whether sequence number a is after b; they wrap.
func after(a, b uint32) bool { return int32(a-b) > 0 }

// mostSeqs is how many sequence numbers of one flow are remembered. What is sent
// again first is the lowest, so the highest give way.
const mostSeqs = 16

// A droppedSeq is a sequence number that was dropped and is not acknowledged.
type droppedSeq struct {
	seq    uint32
	times  int       // all in all
	still  int       // since snd_una moved last
	sndUna uint32    // at the time
	since  time.Time // first of those
	last   time.Time
}

// droppedSeqs are those of one flow, the lowest first.
type droppedSeqs []droppedSeq

// note counts one that was dropped while snd_una was as given.
func (s *droppedSeqs) note(seq, sndUna uint32, at time.Time) droppedSeq {
	i, found := slices.BinarySearchFunc(*s, seq, func(d droppedSeq, seq uint32) int { return int(int32(d.seq - seq)) })
	if !found {
		d := droppedSeq{seq: seq, times: 1, still: 1, sndUna: sndUna, since: at, last: at}
		if *s = slices.Insert(*s, i, d); len(*s) > mostSeqs {
			*s = (*s)[:mostSeqs]
		}
		return d
	}
	d := &(*s)[i]
	d.times, d.last = d.times+1, at
	if d.sndUna == sndUna && d.still > 0 {
		d.still++
	} else {
		d.still, d.sndUna, d.since = 1, sndUna, at
	}
	return *d
}

// acknowledge forgets what lies before snd_una.
func (s *droppedSeqs) acknowledge(sndUna uint32) {
	*s = slices.DeleteFunc(*s, func(d droppedSeq) bool { return after(sndUna, d.seq) })
}
