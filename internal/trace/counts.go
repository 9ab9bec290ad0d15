package trace

import (
	"xentrace/bpf"
	"xentrace/internal/event"
)

// counts is event.Counts with what only some runs measure.
type counts struct {
	event.Counts
	rejected uint64
	reasons  [numReasons]uint64 // of drops outside the driver, see reasonAt
}

// interfaceTotals is event.InterfaceTotals likewise.
type interfaceTotals struct {
	event.InterfaceTotals
	rejected uint64
	reasons  [numReasons]uint64
	driver   *generation // that the packets were handed to
}

func countsOf(c *bpf.XentraceCounters) counts {
	sum := counts{
		Counts: event.Counts{
			Bytes:      c.Bytes,
			Slots:      c.Slots,
			OverLimit:  c.OverLimit,
			Dropped:    c.Dropped,
			Linearized: c.Linearized,
			Bounced:    c.Bounced,
			Causes:     c.Causes,
			RingLost:   c.RingLost,
		},
		rejected: c.Rejected,
	}
	sum.Packets = sum.Slots.Packets()
	return sum
}

// each applies f to every pair of numbers.
func (c *counts) each(other *counts, f func(a *uint64, b uint64)) {
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

func (c *counts) add(other *counts) {
	c.each(other, func(a *uint64, b uint64) { *a += b })
}

func (c *counts) minus(other *counts) counts {
	difference := *c
	difference.each(other, func(a *uint64, b uint64) { *a -= b })
	return difference
}
