package live

import (
	"time"

	"xentrace/internal/event"
	"xentrace/internal/output"
)

// sums is what was counted over all interfaces.
type sums struct {
	packets, dropped, elsewhere, linearized, bounced, overLimit uint64
	rejected                                                    *uint64 // nil where that is not looked at
}

func sumOf(t *event.Totals) sums {
	var s sums
	for i := range t.Interfaces {
		n := &t.Interfaces[i]
		s.packets += n.Packets
		s.dropped += n.Dropped
		s.elsewhere += n.Elsewhere
		s.linearized += n.Linearized
		s.bounced += n.Bounced
		s.overLimit += n.OverLimit
		if n.Rejected != nil {
			if s.rejected == nil {
				s.rejected = new(uint64)
			}
			*s.rejected += *n.Rejected
		}
	}
	return s
}

// rates is how fast counts move: from one snapshot to the next.
type rates struct {
	before, now *event.Totals
}

// leastInterval is the least time between two snapshots to reckon a rate from.
const leastInterval = 500 * time.Millisecond

func (r *rates) update(t *event.Totals) {
	if r.now != nil && t.Duration-r.now.Duration < leastInterval {
		return
	}
	r.before, r.now = r.now, t
}

// per returns how much a count moved in a second; 0 while that is not known.
func (r *rates) per(count func(*event.Totals) uint64) uint64 {
	if r.before == nil {
		return 0
	}
	before, now := count(r.before), count(r.now)
	if now < before {
		return 0
	}
	return output.PerSecond(now-before, r.now.Duration-r.before.Duration)
}

// packets returns how many packets a second one interface was handed.
func (r *rates) packets(d event.Device) uint64 {
	return r.per(func(t *event.Totals) uint64 {
		for i := range t.Interfaces {
			if n := &t.Interfaces[i]; n.Index == d.Index && n.NetNS == d.NetNS {
				return n.Packets
			}
		}
		return 0
	})
}

// totalsCount makes a count of sums one of totals.
func totalsCount(of func(sums) uint64) func(*event.Totals) uint64 {
	return func(t *event.Totals) uint64 { return of(sumOf(t)) }
}
