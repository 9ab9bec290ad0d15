package congestion

import (
	"fmt"

	"github.com/cilium/ebpf"

	"xentrace/bpf"
	"xentrace/internal/event"
)

// queueCounts is what the kernel side counted for one transmit queue since it began.
type queueCounts struct {
	packets, bytes, payload, small, slots     uint64
	bounced, linearized, dropped, busy        uint64
	notifications, stops, wakes, fullNs       uint64
	responses, runs, completions, completedNs uint64
	sizes, pieces, occupancy, wake, latency   event.Log2
}

// sum adds up over the processors. stoppedNs is when the queue was stopped, 0 if it runs.
func sumQueue(all []bpf.CongestionQueueCounters, stoppedNs, nowNs uint64) queueCounts {
	var c queueCounts
	for i := range all {
		r := &all[i]
		for sum, n := range map[*uint64]uint64{
			&c.packets: r.Packets, &c.bytes: r.Bytes, &c.payload: r.Payload, &c.small: r.SmallPackets, &c.slots: r.Slots,
			&c.bounced: r.Bounced, &c.linearized: r.Linearized, &c.dropped: r.Dropped, &c.busy: r.Busy,
			&c.notifications: r.Notifications, &c.stops: r.Stops, &c.wakes: r.Wakes, &c.fullNs: r.FullNs,
			&c.responses: r.Responses, &c.runs: r.ResponseRuns, &c.completions: r.Completions, &c.completedNs: r.CompletionNs,
		} {
			*sum += n
		}
		addTo(&c.sizes, r.Sizes[:])
		addTo(&c.pieces, r.SlotsEach[:])
		addTo(&c.occupancy, r.Occupancy[:])
		addTo(&c.wake, r.WakeUs[:])
		addTo(&c.latency, r.CompletionUs[:])
	}
	if stoppedNs != 0 && nowNs > stoppedNs {
		c.fullNs += nowNs - stoppedNs
	}
	return c
}

// minus returns what was counted since before. A stop that had not ended then is
// split between the two.
func (c *queueCounts) minus(b *queueCounts) queueCounts {
	return queueCounts{
		packets: c.packets - b.packets, bytes: c.bytes - b.bytes, payload: c.payload - b.payload, small: c.small - b.small, slots: c.slots - b.slots,
		bounced: c.bounced - b.bounced, linearized: c.linearized - b.linearized, dropped: c.dropped - b.dropped, busy: c.busy - b.busy,
		notifications: c.notifications - b.notifications, stops: c.stops - b.stops, wakes: c.wakes - b.wakes, fullNs: c.fullNs - min(b.fullNs, c.fullNs),
		responses: c.responses - b.responses, runs: c.runs - b.runs, completions: c.completions - b.completions, completedNs: c.completedNs - b.completedNs,
		sizes: difference(c.sizes, b.sizes), pieces: difference(c.pieces, b.pieces), occupancy: difference(c.occupancy, b.occupancy),
		wake: difference(c.wake, b.wake), latency: difference(c.latency, b.latency),
	}
}

// receiveCounts is the receiving side of an interface.
type receiveCounts struct{ polls, packets, exhausted uint64 }

func (c receiveCounts) minus(b receiveCounts) receiveCounts {
	return receiveCounts{c.polls - b.polls, c.packets - b.packets, c.exhausted - b.exhausted}
}

// tcpCounts is a network namespace's connections.
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

// kernelSide reads the maps.
type kernelSide struct {
	collection *ebpf.Collection
}

func (k kernelSide) queue(place uint32, nowNs uint64) (queueCounts, error) {
	var all []bpf.CongestionQueueCounters
	var state bpf.CongestionTransmitState
	if err := k.collection.Maps[bpf.CongestionMapQueueCountersOf].Lookup(place, &all); err != nil {
		return queueCounts{}, fmt.Errorf("counters of a queue: %w", err)
	}
	if err := k.collection.Maps[bpf.CongestionMapTransmitStateOf].Lookup(place, &state); err != nil {
		return queueCounts{}, fmt.Errorf("state of a queue: %w", err)
	}
	return sumQueue(all, state.StoppedNs, nowNs), nil
}

func (k kernelSide) receive(place uint32) (receiveCounts, error) {
	var all []bpf.CongestionReceiveCounters
	if err := k.collection.Maps[bpf.CongestionMapReceiveCountersOf].Lookup(place, &all); err != nil {
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

func (k kernelSide) tcp(place uint32) (tcpCounts, error) {
	var all []bpf.CongestionTcpCounters
	if err := k.collection.Maps[bpf.CongestionMapTcpCountersOf].Lookup(place, &all); err != nil {
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

// listeners returns those from which a connection was taken, in one namespace.
func (k kernelSide) listeners(netns uint32) (map[uint16]bpf.CongestionListener, error) {
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
