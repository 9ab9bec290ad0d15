package event

import (
	"fmt"
	"maps"
	"slices"
)

// Bounds of a sum, whatever is added. A run reports less of each.
const (
	mostSummed  = 2048 // interfaces; later ones are counted together
	mostGaps    = 1024 // later ones are counted in Missing
	mostReasons = 256  // of one interface; later ones are counted together
	mostMissing = 64   // keys
)

// RestName is the name of what is counted together since there is no space for entries of
// its own.
const RestName = "(others)"

// An Interval is what was counted since the interval before it, or since the start:
// every count of its Totals is a difference. The sum of all intervals of a run is what
// its summary counts.
type Interval struct {
	Totals
	// Explained is what was counted and what helps, as of then.
	Explained []Explanation
}

// Since returns what was counted after before, an earlier snapshot of the same run. Names,
// states and reasons are those of t.
func (t *Totals) Since(before *Totals) Totals {
	d := *t
	d.Duration -= before.Duration
	d.Events = less(t.Events, before.Events)
	d.Lost = Lost{less(t.Lost.Ring, before.Lost.Ring), lessKnown(t.Lost.Recursion, before.Lost.Recursion), lessKnown(t.Lost.Missed, before.Lost.Missed)}
	d.Gaps = slices.DeleteFunc(slices.Clone(t.Gaps), func(g Gap) bool { return slices.Contains(before.Gaps, g) })
	d.Suppressed = nil
	for _, s := range t.Suppressed {
		for _, old := range before.Suppressed {
			if old.Verdict == s.Verdict && old.Cause == s.Cause {
				s.Records = less(s.Records, old.Records)
			}
		}
		d.Suppressed = append(d.Suppressed, s)
	}
	d.Interfaces = slices.Clone(t.Interfaces)
	for i := range d.Interfaces {
		if old := before.of(&d.Interfaces[i]); old != nil {
			d.Interfaces[i].subtract(old)
		}
	}
	// What was listed before and is not any more is in the entry without an interface.
	if rest := d.of(&InterfaceTotals{}); rest != nil {
		for i := range before.Interfaces {
			if old := &before.Interfaces[i]; t.of(old) == nil {
				rest.subtract(old)
			}
		}
	}
	return d
}

// Add adds an interval that came after all that t holds. Names, states and reasons become
// those of the interval. The memory of t is bounded.
func (t *Totals) Add(d *Totals) {
	if t.Drops == "" {
		t.Drops = d.Drops
	}
	t.Time = d.Time
	t.Duration += d.Duration
	t.Events += d.Events
	t.Lost = Lost{t.Lost.Ring + d.Lost.Ring, plusKnown(t.Lost.Recursion, d.Lost.Recursion), plusKnown(t.Lost.Missed, d.Lost.Missed)}
	t.addSuppressed(d.Suppressed)
	for i := range d.Interfaces {
		t.addInterface(&d.Interfaces[i])
	}
	if t.Missing == nil {
		t.Missing = make(map[string]string)
	}
	for key, why := range d.Missing {
		if _, known := t.Missing[key]; known || len(t.Missing) < mostMissing {
			t.Missing[key] = why
		}
	}
	t.addGaps(d.Gaps, d.moreGaps)
}

func (t *Totals) addInterface(n *InterfaceTotals) {
	known := t.of(n)
	if known == nil && len(t.Interfaces) >= mostSummed {
		rest := *n
		rest.Device, rest.Driver, rest.Gone = Device{Name: RestName}, "", false
		n, known = &rest, t.of(&rest)
	}
	if known == nil {
		t.Interfaces = append(t.Interfaces, InterfaceTotals{})
		known = &t.Interfaces[len(t.Interfaces)-1]
	}
	known.add(n)
}

// AddRecord adds what the record of a packet shows of it.
func (t *Totals) AddRecord(p *Packet) {
	t.Events++
	known := t.ofDevice(p.Interface)
	if known == nil {
		t.addInterface(&InterfaceTotals{Device: p.Interface})
		if known = t.ofDevice(p.Interface); known == nil {
			known = t.ofDevice(Device{}) // the rest
		}
	}
	known.countRecord(p)
}

// AddUncounted adds what records show that no interval counts, since the run was killed before
// its next one. started are the interfaces when it began. What they counted themselves meanwhile
// is not known.
func (t *Totals) AddUncounted(records *Totals, started []StartInterface) {
	t.Interfaces, t.Missing = slices.Clone(t.Interfaces), maps.Clone(t.Missing)
	for _, n := range records.Interfaces {
		if known := t.of(&n); known != nil {
			n.Driver, n.Backend, n.Queues, n.XDP, n.Gone, n.StuckNow = known.Driver, known.Backend, known.Queues, known.XDP, known.Gone, known.StuckNow
			known.Reasons = maps.Clone(known.Reasons)
		} else if i := slices.IndexFunc(started, func(s StartInterface) bool { return s.Device == n.Device }); i >= 0 {
			n.Driver, n.Queues = started[i].Driver, started[i].Queues
		}
		t.addInterface(&n)
		if sum := t.of(&n); sum != nil {
			sum.TxDroppedDelta = nil
		}
	}
	t.Events += records.Events
	if t.Missing == nil {
		t.Missing = make(map[string]string)
	}
	t.Missing["tx_dropped_delta"] = "the run was killed after its last interval, or is running"
}

func (n *InterfaceTotals) countRecord(p *Packet) {
	if p.Layer == LayerElsewhere {
		n.Elsewhere++
		n.addReason(p.Reason, 1)
		return
	}
	n.Packets++
	n.Bytes += uint64(p.Len)
	n.Slots[min(max(p.Slots, 0), len(n.Slots)-1)]++
	if p.Slots > p.Limit {
		n.OverLimit++
	}
	switch p.Verdict {
	case Dropped:
		n.Dropped++
		n.Causes[p.Cause]++
	case Linearized:
		n.Linearized++
	case Bounced:
		n.Bounced++
	case Rejected:
		one := uint64(1)
		n.Rejected = plusKnown(n.Rejected, &one)
	}
}

// addGaps adds gaps; one that began in an earlier interval may have ended in this one.
func (t *Totals) addGaps(gaps []Gap, more uint64) {
	t.moreGaps += more
	for _, g := range gaps {
		same := func(old Gap) bool { return old.From.Equal(g.From) && old.Reason == g.Reason }
		switch i := slices.IndexFunc(t.Gaps, same); {
		case i >= 0:
			t.Gaps[i] = g
		case len(t.Gaps) < mostGaps:
			t.Gaps = append(t.Gaps, g)
		default:
			t.moreGaps++
		}
	}
	if t.moreGaps > 0 {
		t.Missing["gaps"] = fmt.Sprintf("%d more unmonitored intervals are not listed", t.moreGaps)
	}
}

func (t *Totals) addSuppressed(more []Suppressed) {
	for _, s := range more {
		same := func(old Suppressed) bool { return old.Verdict == s.Verdict && old.Cause == s.Cause }
		if i := slices.IndexFunc(t.Suppressed, same); i >= 0 {
			t.Suppressed[i].Records += s.Records
			continue
		}
		t.Suppressed = append(t.Suppressed, s)
	}
}

// of returns the counts of the same interface; nil if there are none.
func (t *Totals) of(n *InterfaceTotals) *InterfaceTotals { return t.ofDevice(n.Device) }

func (t *Totals) ofDevice(d Device) *InterfaceTotals {
	for i := range t.Interfaces {
		if known := &t.Interfaces[i]; known.Index == d.Index && known.NetNS == d.NetNS {
			return known
		}
	}
	return nil
}

func (n *InterfaceTotals) subtract(old *InterfaceTotals) {
	n.Each(&old.Counts, less)
	n.Rejected, n.TxDroppedDelta = lessKnown(n.Rejected, old.Rejected), lessKnown(n.TxDroppedDelta, old.TxDroppedDelta)
	n.Stuck = lessKnown(n.Stuck, old.Stuck)
	if n.Conntrack != nil && old.Conntrack != nil {
		c, o := *n.Conntrack, old.Conntrack
		n.Conntrack = &Conntrack{less(c.InsertFailed, o.InsertFailed), less(c.Dropped, o.Dropped), less(c.EarlyDropped, o.EarlyDropped)}
	}
	if n.Reasons != nil {
		n.Reasons = maps.Clone(n.Reasons)
		for reason, count := range old.Reasons {
			if n.Reasons[reason] = less(n.Reasons[reason], count); n.Reasons[reason] == 0 {
				delete(n.Reasons, reason)
			}
		}
	}
}

func (n *InterfaceTotals) add(more *InterfaceTotals) {
	n.Each(&more.Counts, Plus)
	n.Device, n.Driver, n.Backend, n.Queues = more.Device, more.Driver, more.Backend, more.Queues
	n.XDP = more.XDP
	n.Gone, n.StuckNow = more.Gone, more.StuckNow
	n.Rejected, n.TxDroppedDelta = plusKnown(n.Rejected, more.Rejected), plusKnown(n.TxDroppedDelta, more.TxDroppedDelta)
	n.Stuck = plusKnown(n.Stuck, more.Stuck)
	if c := more.Conntrack; c != nil {
		sum := *c
		if n.Conntrack != nil {
			sum = Conntrack{n.Conntrack.InsertFailed + c.InsertFailed, n.Conntrack.Dropped + c.Dropped, n.Conntrack.EarlyDropped + c.EarlyDropped}
		}
		n.Conntrack = &sum
	}
	if n.Reasons == nil && more.Reasons != nil {
		n.Reasons = make(map[string]uint64)
	}
	for reason, count := range more.Reasons {
		n.addReason(reason, count)
	}
}

func (n *InterfaceTotals) addReason(reason string, count uint64) {
	if n.Reasons == nil {
		n.Reasons = make(map[string]uint64)
	}
	if _, known := n.Reasons[reason]; !known && len(n.Reasons) >= mostReasons {
		reason = RestName
	}
	n.Reasons[reason] += count
}

// Each sets every count to f of it and the same of another. Pointers to counts would move
// both to the heap.
func (c *Counts) Each(o *Counts, f func(a, b uint64) uint64) {
	c.Packets = f(c.Packets, o.Packets)
	c.Bytes = f(c.Bytes, o.Bytes)
	c.OverLimit = f(c.OverLimit, o.OverLimit)
	c.Dropped = f(c.Dropped, o.Dropped)
	c.Linearized = f(c.Linearized, o.Linearized)
	c.Bounced = f(c.Bounced, o.Bounced)
	c.RingLost = f(c.RingLost, o.RingLost)
	c.Elsewhere = f(c.Elsewhere, o.Elsewhere)
	c.XDPPackets = f(c.XDPPackets, o.XDPPackets)
	c.XDPDropped = f(c.XDPDropped, o.XDPDropped)
	for i := range c.Slots {
		c.Slots[i] = f(c.Slots[i], o.Slots[i])
	}
	for i := range c.Causes {
		c.Causes[i] = f(c.Causes[i], o.Causes[i])
	}
}

// Plus is a+b, for [Counts.Each].
func Plus(a, b uint64) uint64 { return a + b }

// less is a-b; 0 where a count went back, as that of an interface that came anew does.
func less(a, b uint64) uint64 {
	if a < b {
		return 0
	}
	return a - b
}

func lessKnown[T ~uint64 | ~int64](a, b *T) *T {
	if a == nil || b == nil {
		return a
	}
	d := max(*a, *b) - *b
	return &d
}

// plusKnown is a sum of what is known; nil if neither is.
func plusKnown[T ~uint64 | ~int64](a, b *T) *T {
	switch {
	case a == nil:
		return b
	case b == nil:
		return a
	}
	sum := *a + *b
	return &sum
}
