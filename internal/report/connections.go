package report

import (
	"cmp"
	"slices"
	"time"

	"xentrace/internal/event"
	"xentrace/internal/verdict"
)

const (
	mostConnections = 4096 // that are kept while events are read
	mostStalls      = 8    // of one connection, with their times
)

// A stall is an interval in which a connection was stalled.
type stall struct{ from, to time.Time }

// A connection is what is known of one flow.
type connection struct {
	event.FlowKey
	ifname  string
	process *event.Process
	state   event.FlowState
	known   bool // state is of a flow event

	counts      [event.Accepted + 1]uint64 // by verdict
	causes      [event.NumCauses]uint64
	elsewhere   uint64
	resent      uint64 // records of segments that were recorded before
	retransmits uint64 // as TCP counted them since the first drop
	unacked     uint64 // bytes
	slots       [2]int // least and most
	lastSeq     uint32
	seqKnown    bool

	first, last  time.Time
	spark        spark
	stalledSince time.Time // zero unless it is stalled
	stalls       []stall
	stallCount   int
	stalledFor   time.Duration
	runEnded     bool // while it was stalled, and it was not seen to stall since

	layout      verdict.Layout
	description string // of the layout, as a flow event has it
	stack       []string
	advice      []event.Advice
}

func (c *connection) drops() uint64 { return c.counts[event.Dropped] }

// worse orders connections, the worst first: stalled now, stalled longest, most drops.
func worse(a, b *connection) int {
	return cmp.Or(
		-cmp.Compare(truth(!a.stalledSince.IsZero()), truth(!b.stalledSince.IsZero())),
		-cmp.Compare(a.stalledFor, b.stalledFor),
		-cmp.Compare(a.drops()+a.counts[event.Rejected], b.drops()+b.counts[event.Rejected]),
		-cmp.Compare(a.spark.total(), b.spark.total()),
		a.first.Compare(b.first),
		a.Source.Compare(b.Source),
	)
}

func truth(b bool) int {
	if b {
		return 1
	}
	return 0
}

func (s *spark) total() (sum uint64) {
	for _, n := range s.counts {
		sum += n
	}
	return sum
}

// A table keeps connections, and counts those that it had no space for.
type table struct {
	all     map[event.FlowKey]*connection
	evicted uint64 // connections
	drops   uint64 // of those
}

func (t *table) of(key event.FlowKey, when time.Time) *connection {
	c := t.all[key]
	if c == nil {
		if len(t.all) >= mostConnections {
			t.evict()
		}
		c = &connection{FlowKey: key, first: when, last: when}
		t.all[key] = c
	}
	if when.Before(c.first) {
		c.first = when
	}
	if when.After(c.last) {
		c.last = when
	}
	return c
}

// evict forgets the half that matters least.
func (t *table) evict() {
	ranked := t.ranked()
	for _, c := range ranked[len(ranked)/2:] {
		t.evicted++
		t.drops += c.drops()
		delete(t.all, c.FlowKey)
	}
}

func (t *table) ranked() []*connection {
	all := make([]*connection, 0, len(t.all))
	for _, c := range t.all {
		all = append(all, c)
	}
	slices.SortFunc(all, worse)
	return all
}

// add counts a packet of it and reports whether it was a retransmission.
func (c *connection) add(p *event.Packet) (again bool) {
	c.ifname = kept(p.Interface.Name, keptName)
	if p.Process != nil {
		c.process = keptProcess(p.Process)
	}
	c.counts[p.Verdict]++
	switch {
	case p.Verdict == event.Dropped && p.Layer == event.LayerElsewhere:
		c.elsewhere++
	case p.Verdict == event.Dropped:
		c.causes[p.Cause]++
	}
	if c.slots[0] == 0 || p.Slots < c.slots[0] {
		c.slots[0] = p.Slots
	}
	c.slots[1] = max(c.slots[1], p.Slots)
	c.spark.add(p.Time)
	c.layout.Add(p)
	if len(p.Stack) > 0 {
		c.stack = keptTexts(p.Stack, keptFrames)
	}
	if t := p.TCP; t != nil {
		again = t.Retransmits > 0 || c.seqKnown && t.Seq == c.lastSeq
		c.lastSeq, c.seqKnown, c.unacked = t.Seq, true, uint64(t.SndQBytes)
	}
	if again {
		c.resent++
	}
	return again
}

// learn adds what a history of the same flow has and packets do not.
func (c *connection) learn(f *event.FlowHistory) {
	c.state, c.known = f.State, true
	if f.Interface.Name != "" {
		c.ifname = kept(f.Interface.Name, keptName)
	}
	if f.Process != nil {
		c.process = keptProcess(f.Process)
	}
	if f.Layout != "" {
		c.description = kept(f.Layout, keptSentence)
	}
	if len(f.Stack) > 0 {
		c.stack = keptTexts(f.Stack, keptFrames)
	}
	if len(f.Advice) > 0 {
		c.advice = keptRemedies(f.Advice)
	}
	if f.TCP != nil {
		c.retransmits = max(c.retransmits, uint64(f.TCP.Retransmits))
		c.unacked = uint64(f.TCP.SndQBytes)
	}
	if f.MaxSlots > 0 {
		c.slots = [2]int{f.MinSlots, max(c.slots[1], f.MaxSlots)}
	}
	// Suppressed records are missing in what was counted here.
	c.counts[event.Dropped] = max(c.counts[event.Dropped], f.Drops)
	for cause, n := range f.Causes {
		c.causes[cause] = max(c.causes[cause], n)
	}
	c.elsewhere = max(c.elsewhere, f.Elsewhere)
}

// change follows a flow event. It returns when a stall began or ended; zero if neither did.
func (c *connection) change(e *event.FlowEvent) (began, ended time.Time) {
	f := &e.Flow
	c.learn(f)
	if c.stalledSince.IsZero() && (f.State == event.Stalled || c.missed(f)) {
		began, c.runEnded = stallBegan(e, c.stallCount), false
		c.stalledSince = began
		c.stallCount++
	}
	if f.State == event.Stalled || c.stalledSince.IsZero() {
		return began, ended
	}
	c.end(e.Time)
	return began, e.Time
}

// missed reports whether a stall ends that began before the first event.
func (c *connection) missed(f *event.FlowHistory) bool {
	return c.stallCount == 0 && f.StalledFor > 0 && (f.State == event.Recovered || f.StalledAtEnd)
}

// stallBegan is when: by how long it lasted, or for the first stall at the first drop.
func stallBegan(e *event.FlowEvent, before int) time.Time {
	f := &e.Flow
	switch {
	case f.StalledFor > 0:
		return e.Time.Add(-f.StalledFor)
	case before == 0 && !f.FirstDrop.IsZero() && f.FirstDrop.Before(e.Time):
		return f.FirstDrop
	}
	return e.Time
}

// end ends a stall.
func (c *connection) end(at time.Time) {
	c.stalledFor += max(at.Sub(c.stalledSince), 0)
	if len(c.stalls) < mostStalls {
		c.stalls = append(c.stalls, stall{c.stalledSince, at})
	}
	c.stalledSince = time.Time{}
}
