package trace

import "xentrace/bpf"

func countsOf(c *bpf.XentraceCounters) Counts {
	counts := Counts{
		Bytes:      c.Bytes,
		Slots:      c.Slots,
		OverLimit:  c.OverLimit,
		Dropped:    c.Dropped,
		Linearized: c.Linearized,
		Bounced:    c.Bounced,
		rejected:   c.Rejected,
		Causes:     c.Causes,
		RingLost:   c.RingLost,
	}
	counts.Packets = counts.Slots.Packets()
	return counts
}

// each applies f to every pair of numbers.
func (c *Counts) each(other *Counts, f func(a *uint64, b uint64)) {
	f(&c.Packets, other.Packets)
	f(&c.Bytes, other.Bytes)
	f(&c.OverLimit, other.OverLimit)
	f(&c.Dropped, other.Dropped)
	f(&c.Linearized, other.Linearized)
	f(&c.Bounced, other.Bounced)
	f(&c.rejected, other.rejected)
	f(&c.RingLost, other.RingLost)
	f(&c.Elsewhere, other.Elsewhere)
	for i := range c.reasons {
		f(&c.reasons[i], other.reasons[i])
	}
	for i := range c.Causes {
		f(&c.Causes[i], other.Causes[i])
	}
	for i := range c.Slots {
		f(&c.Slots[i], other.Slots[i])
	}
}

func (c *Counts) add(other *Counts) {
	c.each(other, func(a *uint64, b uint64) { *a += b })
}

func (c *Counts) minus(other *Counts) Counts {
	difference := *c
	difference.each(other, func(a *uint64, b uint64) { *a -= b })
	return difference
}
