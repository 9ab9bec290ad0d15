package congestion

import "xentrace/internal/event"

func bound(r *event.CongestionReport) {
	t := &r.Total
	if t.MeanLatency == nil || *t.MeanLatency <= 0 || t.Packets == 0 {
		return
	}
	b := event.RingBound{Queues: len(r.Queues), SlotsPerPacket: event.Ratio(t.Slots, t.Packets), Latency: *t.MeanLatency}
	b.PacketsPerSecond = event.UsableSlots * float64(b.Queues) / (b.SlotsPerPacket * b.Latency.Seconds())
	b.Share = r.Rate(t.Packets) / b.PacketsPerSecond
	r.Bound = &b
}

// addTo adds more to a histogram, in place.
func addTo(h *event.Log2, more []uint64) {
	for len(*h) < len(more) {
		*h = append(*h, 0)
	}
	for bucket, n := range more {
		(*h)[bucket] += n
	}
}

// difference returns what was counted since before.
func difference(h, before event.Log2) event.Log2 {
	moved := make(event.Log2, len(h))
	for bucket := range h {
		moved[bucket] = h[bucket]
		if bucket < len(before) {
			moved[bucket] -= before[bucket]
		}
	}
	return moved
}
