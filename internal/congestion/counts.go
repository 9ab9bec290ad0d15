package congestion

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"

	"github.com/cilium/ebpf"

	"xentrace/bpf"
	"xentrace/internal/event"
	"xentrace/internal/kernel"
	"xentrace/internal/netdev"
)

// queueCounts is what was counted for one transmit queue since the start.
type queueCounts struct {
	packets, bytes, payload, small, slots      uint64
	bounced, linearized, dropped, busy         uint64
	notifications, stops, wakes, fullNs        uint64
	responses, runs, completions, completedNs  uint64
	sizes, slotsEach, occupancy, wake, latency event.Log2
}

func countsOf(r *bpf.CongestionQueueCounters) queueCounts {
	return queueCounts{
		packets: r.Packets, bytes: r.Bytes, payload: r.Payload, small: r.SmallPackets, slots: r.Slots,
		bounced: r.Bounced, linearized: r.Linearized, dropped: r.Dropped, busy: r.Busy,
		notifications: r.Notifications, stops: r.Stops, wakes: r.Wakes, fullNs: r.FullNs,
		responses: r.Responses, runs: r.ResponseRuns, completions: r.Completions, completedNs: r.CompletionNs,
		sizes: r.Sizes[:], slotsEach: r.SlotsEach[:], occupancy: r.Occupancy[:], wake: r.WakeUs[:], latency: r.CompletionUs[:],
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
	histogram(&c.slotsEach, o.slotsEach)
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

// clearState has queues be as they are at the start, when nothing was counted.
func (k counters) clearState(first, queues uint32) error {
	for index := first; index < first+queues; index++ {
		if err := k.collection.Maps[bpf.CongestionMapTransmitStateOf].Put(index, bpf.CongestionTransmitState{}); err != nil {
			return fmt.Errorf("state of a queue: %w", err)
		}
	}
	return nil
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

// cpuTimes are one CPU's, in ticks since the machine began (/proc/stat).
type cpuTimes struct {
	number                           int
	user, nice, system, idle, iowait uint64
	interrupt, softInterrupt, stolen uint64
}

func (c cpuTimes) total() uint64 {
	return c.user + c.nice + c.system + c.idle + c.iowait + c.interrupt + c.softInterrupt + c.stolen
}

func (c cpuTimes) minus(b cpuTimes) cpuTimes {
	less := func(now, before uint64) uint64 { return now - min(before, now) } // idle may run backwards
	return cpuTimes{
		c.number, less(c.user, b.user), less(c.nice, b.nice), less(c.system, b.system), less(c.idle, b.idle), less(c.iowait, b.iowait),
		less(c.interrupt, b.interrupt), less(c.softInterrupt, b.softInterrupt), less(c.stolen, b.stolen),
	}
}

func parseCPUs(text string) ([]cpuTimes, error) {
	var all []cpuTimes
	for line := range strings.Lines(text) {
		fields := strings.Fields(line)
		if len(fields) < 9 || fields[0] == "cpu" || !strings.HasPrefix(fields[0], "cpu") {
			continue
		}
		var n [9]uint64
		for i, field := range append([]string{fields[0][3:]}, fields[1:9]...) {
			var err error
			if n[i], err = strconv.ParseUint(field, 10, 64); err != nil {
				return nil, fmt.Errorf("CPU times: %w", err)
			}
		}
		all = append(all, cpuTimes{int(n[0]), n[1], n[2], n[3], n[4], n[5], n[6], n[7], n[8]})
	}
	return all, nil
}

type machineCounts struct {
	cpus       []cpuTimes
	interrupts []kernel.Interrupt
	missing    map[string]string
}

func readMachine() machineCounts {
	m := machineCounts{missing: make(map[string]string)}
	if text, err := os.ReadFile("/proc/stat"); err != nil {
		m.missing["cpu"] = err.Error()
	} else if m.cpus, err = parseCPUs(string(text)); err != nil {
		m.missing["cpu"] = err.Error()
	}
	if text, err := os.ReadFile("/proc/interrupts"); err != nil {
		m.missing["interrupts"] = err.Error()
	} else {
		m.interrupts = kernel.ParseInterrupts(string(text))
	}
	return m
}

// listenCounts are a namespace's connections that were refused because the queue was full (/proc/net/netstat).
type listenCounts struct{ overflows, drops uint64 }

// parseListen reads the text of /proc/net/netstat: pairs of lines, the names and the
// numbers.
func parseListen(text string) (listenCounts, error) {
	lines := strings.Split(text, "\n")
	numbers := make(map[string]uint64)
	for i := 0; i+1 < len(lines); i += 2 {
		names, values := strings.Fields(lines[i]), strings.Fields(lines[i+1])
		if len(names) == 0 || len(names) != len(values) || names[0] != "TcpExt:" {
			continue
		}
		for n := 1; n < len(names); n++ {
			number, err := strconv.ParseUint(values[n], 10, 64)
			if err == nil {
				numbers[names[n]] = number
			}
		}
	}
	overflows, there := numbers["ListenOverflows"]
	if !there {
		return listenCounts{}, fmt.Errorf("counters of TCP: ListenOverflows is not among them")
	}
	return listenCounts{overflows, numbers["ListenDrops"]}, nil
}

func readListen(ctx context.Context, inum uint32) (listenCounts, error) {
	namespace, err := netdev.OpenNamespace(ctx, inum)
	if err != nil {
		return listenCounts{}, err
	}
	defer func() { _ = namespace.Close() }() // only read from
	var text []byte
	err = namespace.Do(func() (err error) {
		text, err = os.ReadFile("/proc/thread-self/net/netstat")
		return err
	})
	if err != nil {
		return listenCounts{}, fmt.Errorf("counters of TCP: %w", err)
	}
	return parseListen(string(text))
}
