package congestion

import (
	"fmt"

	"github.com/cilium/ebpf"

	"xentrace/bpf"
	"xentrace/internal/event"
)

// queueCounts is what was counted for one transmit queue since the start.
type queueCounts struct {
	packets, bytes, payload, small, slots     uint64
	bounced, linearized, dropped, busy        uint64
	notifications, stops, wakes, fullNs       uint64
	responses, runs, completions, completedNs uint64
	sizes, pieces, occupancy, wake, latency   event.Log2
}

func countsOf(r *bpf.CongestionQueueCounters) queueCounts {
	return queueCounts{
		packets: r.Packets, bytes: r.Bytes, payload: r.Payload, small: r.SmallPackets, slots: r.Slots,
		bounced: r.Bounced, linearized: r.Linearized, dropped: r.Dropped, busy: r.Busy,
		notifications: r.Notifications, stops: r.Stops, wakes: r.Wakes, fullNs: r.FullNs,
		responses: r.Responses, runs: r.ResponseRuns, completions: r.Completions, completedNs: r.CompletionNs,
		sizes: r.Sizes[:], pieces: r.SlotsEach[:], occupancy: r.Occupancy[:], wake: r.WakeUs[:], latency: r.CompletionUs[:],
	}
}

// sumQueue adds up over the CPUs. stoppedNs is when the queue was stopped, 0 if it runs.
func sumQueue(all []bpf.CongestionQueueCounters, stoppedNs, nowNs uint64) queueCounts {
	var c queueCounts
	for i := range all {
		one := countsOf(&all[i])
		c.plus(&one)
	}
	if stoppedNs != 0 && nowNs > stoppedNs {
		c.fullNs += nowNs - stoppedNs
	}
	return c
}

// each applies one function to every pair of numbers, and the other to every pair of
// histograms.
func (c *queueCounts) each(o *queueCounts, number func(a *uint64, b uint64), histogram func(a *event.Log2, b event.Log2)) {
	for _, pair := range []struct {
		a *uint64
		b uint64
	}{
		{&c.packets, o.packets}, {&c.bytes, o.bytes}, {&c.payload, o.payload}, {&c.small, o.small}, {&c.slots, o.slots},
		{&c.bounced, o.bounced}, {&c.linearized, o.linearized}, {&c.dropped, o.dropped}, {&c.busy, o.busy},
		{&c.notifications, o.notifications}, {&c.stops, o.stops}, {&c.wakes, o.wakes}, {&c.fullNs, o.fullNs},
		{&c.responses, o.responses}, {&c.runs, o.runs}, {&c.completions, o.completions}, {&c.completedNs, o.completedNs},
	} {
		number(pair.a, pair.b)
	}
	histogram(&c.sizes, o.sizes)
	histogram(&c.pieces, o.pieces)
	histogram(&c.occupancy, o.occupancy)
	histogram(&c.wake, o.wake)
	histogram(&c.latency, o.latency)
}

func (c *queueCounts) plus(o *queueCounts) {
	c.each(o, func(a *uint64, b uint64) { *a += b }, func(a *event.Log2, b event.Log2) { addTo(a, b) })
}

// minus returns what was counted since before. A stop that had not ended then is split
// between the two; its time may seem to run backwards, as another CPU ends it.
func (c *queueCounts) minus(before *queueCounts) queueCounts {
	since := *c
	since.each(before, func(a *uint64, b uint64) { *a -= min(b, *a) }, func(a *event.Log2, b event.Log2) { *a = difference(*a, b) })
	return since
}

type receiveCounts struct{ polls, packets, exhausted uint64 }

func (c receiveCounts) minus(b receiveCounts) receiveCounts {
	return receiveCounts{c.polls - b.polls, c.packets - b.packets, c.exhausted - b.exhausted}
}

type tcpCounts struct {
	accepts, established, opened, closed uint64
	wait                                 event.Log2
}

func (c *tcpCounts) minus(b *tcpCounts) tcpCounts {
	return tcpCounts{
		accepts: c.accepts - b.accepts, established: c.established - b.established,
		opened: c.opened - b.opened, closed: c.closed - b.closed, wait: difference(c.wait, b.wait),
	}
}

type counters struct {
	collection *ebpf.Collection
}

func (k counters) queue(index uint32, nowNs uint64) (queueCounts, error) {
	var all []bpf.CongestionQueueCounters
	var state bpf.CongestionTransmitState
	if err := k.collection.Maps[bpf.CongestionMapQueueCountersOf].Lookup(index, &all); err != nil {
		return queueCounts{}, fmt.Errorf("counters of a queue: %w", err)
	}
	if err := k.collection.Maps[bpf.CongestionMapTransmitStateOf].Lookup(index, &state); err != nil {
		return queueCounts{}, fmt.Errorf("state of a queue: %w", err)
	}
	return sumQueue(all, state.StoppedNs, nowNs), nil
}

func (k counters) receive(index uint32) (receiveCounts, error) {
	var all []bpf.CongestionReceiveCounters
	if err := k.collection.Maps[bpf.CongestionMapReceiveCountersOf].Lookup(index, &all); err != nil {
		return receiveCounts{}, fmt.Errorf("counters of received packets: %w", err)
	}
	var c receiveCounts
	for i := range all {
		c.polls += all[i].Polls
		c.packets += all[i].Packets
		c.exhausted += all[i].Exhausted
	}
	return c, nil
}

func (k counters) tcp(index uint32) (tcpCounts, error) {
	var all []bpf.CongestionTcpCounters
	if err := k.collection.Maps[bpf.CongestionMapTcpCountersOf].Lookup(index, &all); err != nil {
		return tcpCounts{}, fmt.Errorf("counters of connections: %w", err)
	}
	var c tcpCounts
	for i := range all {
		c.accepts += all[i].Accepts
		c.established += all[i].Established
		c.opened += all[i].Opened
		c.closed += all[i].Closed
		addTo(&c.wait, all[i].AcceptUs[:])
	}
	return c, nil
}

func (k counters) listeners(netns uint32) (map[uint16]bpf.CongestionListener, error) {
	found := make(map[uint16]bpf.CongestionListener)
	var key bpf.CongestionListenerKey
	var value bpf.CongestionListener
	entries := k.collection.Maps[bpf.CongestionMapListeners].Iterate()
	for entries.Next(&key, &value) {
		if key.Netns == netns {
			found[uint16(key.Port)] = value
		}
	}
	if err := entries.Err(); err != nil {
		return nil, fmt.Errorf("listeners: %w", err)
	}
	return found, nil
}
