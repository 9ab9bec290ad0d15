package congestion

import (
	"cmp"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"xentrace/internal/bpfload"
	"xentrace/internal/event"
	"xentrace/internal/kernel"
	"xentrace/internal/netdev"
)

// Why a figure of another driver is not there.
const onlyNetfront = "only xen-netfront has a ring that is shared with a backend"

func (m *Meter) report(n int, before, now *Snapshot) event.CongestionReport {
	i := now.interfaces[n].Interface
	r := event.CongestionReport{
		Time: now.wall, Duration: time.Duration(now.monotonic - before.monotonic),
		Name: i.Name, Index: i.Index, NetNS: i.Namespace, Driver: i.Driver, Missing: make(map[string]string),
	}
	total := queueCounts{}
	for q := range min(max(i.Queues, 1), int(m.room.queuesEach)) {
		counts := now.queues[n][q]
		if n < len(before.queues) { // else it has appeared meanwhile
			counts = counts.minus(&before.queues[n][q])
		}
		queue := m.queue(&counts, i.IsNetfront())
		queue.Number = q
		r.Queues = append(r.Queues, queue)
		total.plus(&counts)
	}
	r.Total = m.queue(&total, i.IsNetfront())
	r.Sizes, r.Slots = total.sizes, total.slotsEach
	m.whyMissing(&r, i)
	received := now.receive[n]
	if n < len(before.receive) {
		received = received.minus(before.receive[n])
	}
	fillReceive(&r, i, received)
	if now.continues(n, before) {
		r.Events = eventsSince(i.BusInfo, before.events[n], now.events[n])
	}
	fillCPU(&r, before.machine.cpus, now.machine.cpus)
	fillInterrupts(&r, i, before.machine.interrupts, now.machine.interrupts)
	m.connections(&r, before, now)
	if m.hooks.countsRecursion {
		missed := now.missed - before.missed
		r.Missed = &missed
	} else {
		r.Missing["recursion"] = bpfload.NoRecursionCount
	}
	bound(&r)
	if r.Bound == nil && r.Missing["pps_bound"] == "" {
		r.Missing["pps_bound"] = "no packet got its response in this time"
	}
	maps.Copy(r.Missing, now.missing)
	maps.Copy(r.Missing, now.machine.missing)
	return r
}

// eventsSince is nil where they are not known. Counters of 32 bits wrap.
func eventsSince(device string, before, now *netdev.EventChannels) *event.Events {
	if before == nil || now == nil {
		return nil
	}
	return &event.Events{
		Device: device, Total: now.Events - before.Events, Spurious: now.Spurious - before.Spurious,
		DelayedJiffies: now.DelayedJiffies - before.DelayedJiffies, Threshold: now.Threshold,
	}
}

// queue reports the counts, as far as this kernel allows them.
func (m *Meter) queue(c *queueCounts, netfront bool) event.CongestionQueue {
	q := event.CongestionQueue{
		Packets: c.packets, Bytes: c.bytes, Payload: c.payload, Small: c.small, Slots: c.slots, Busy: c.busy, Stops: c.stops,
	}
	if m.has(wakes) {
		full := time.Duration(c.fullNs)
		q.Full, q.Wake = &full, c.wake
	}
	if !netfront {
		return q
	}
	if m.has(notifications) {
		q.Notifications = &c.notifications
	}
	if m.has(copies) {
		copied := c.bounced + c.linearized
		q.Copied = &copied
	}
	if m.hooks.rings {
		q.Occupancy = c.occupancy
	}
	if m.has(completions) {
		q.Latency, q.Completed, q.Responses, q.Runs = c.latency, c.completions, &c.responses, &c.runs
		if c.completions > 0 {
			mean := time.Duration(c.completedNs / c.completions)
			q.MeanLatency = &mean
		}
	}
	return q
}

func (m *Meter) has(hook string) bool { return m.hooks.missing[hook] == "" }

// whyMissing returns why some figures cannot be counted.
func (m *Meter) whyMissing(r *event.CongestionReport, i netdev.Interface) {
	say := func(reason string, keys ...string) {
		for _, key := range keys {
			if reason != "" {
				r.Missing[key] = reason
			}
		}
	}
	say(m.hooks.missing[wakes], "full_ms", "wake_us")
	say(m.hooks.missing[accepts], "accepts", "accept_us")
	if !i.IsNetfront() {
		say(onlyNetfront, "occupancy", "completion_us", "pps_bound", "notifications", "copied", "responses")
		return
	}
	say(m.hooks.missing[notifications], "notifications")
	say(m.hooks.missing[copies], "copied")
	say(m.hooks.missing[completions], "completion_us", "pps_bound", "responses")
	if !m.hooks.rings {
		say(m.hooks.missing[completions], "occupancy")
	}
}

func fillReceive(r *event.CongestionReport, i netdev.Interface, c receiveCounts) {
	if c.polls == 0 && !i.IsNetfront() {
		r.Missing["receive"] = "the driver did not poll for packets: a driver without NAPI uses the CPU's backlog"
		return
	}
	r.Receive = &event.Receive{Polls: c.polls, Packets: c.packets, Exhausted: c.exhausted}
}

func fillCPU(r *event.CongestionReport, before, now []cpuTimes) {
	var all cpuTimes
	var hottest cpuTimes
	count := 0
	for _, cpu := range now {
		at := slices.IndexFunc(before, func(b cpuTimes) bool { return b.number == cpu.number })
		if at < 0 {
			continue // brought online meanwhile
		}
		passed := cpu.minus(before[at])
		if passed.total() == 0 {
			continue
		}
		if count++; count == 1 || passed.hotter(hottest) {
			hottest = passed
		}
		all = all.plus(passed)
	}
	if count == 0 {
		r.Missing["cpu"] = "no time has passed by /proc/stat"
		return
	}
	rest := all.minus(hottest)
	r.CPU = &event.CPULoad{
		Count: count, Hottest: hottest.number,
		HottestInterrupts: hottest.interrupts(), HottestBusy: hottest.busy(),
		MeanInterrupts: all.interrupts(), RestBusy: rest.busy(),
		Steal: event.Ratio(all.stolen, all.total()),
	}
}

// hotter compares the time that was not idle, then that in interrupts.
func (c cpuTimes) hotter(than cpuTimes) bool {
	return cmp.Or(cmp.Compare(c.busy(), than.busy()), cmp.Compare(c.interrupts(), than.interrupts())) > 0
}

func (c cpuTimes) had() uint64 { return c.total() - c.stolen }

func (c cpuTimes) busy() float64 { return event.Ratio(c.had()-c.idle-c.iowait, c.had()) }

func (c cpuTimes) interrupts() float64 { return event.Ratio(c.interrupt+c.softInterrupt, c.had()) }

func (c cpuTimes) plus(o cpuTimes) cpuTimes {
	return cpuTimes{
		0, c.user + o.user, c.nice + o.nice, c.system + o.system, c.idle + o.idle, c.iowait + o.iowait,
		c.interrupt + o.interrupt, c.softInterrupt + o.softInterrupt, c.stolen + o.stolen,
	}
}

func fillInterrupts(r *event.CongestionReport, i netdev.Interface, before, now []kernel.Interrupt) {
	earlier := make(map[string][]uint64)
	for _, line := range before {
		earlier[line.Number+" "+line.Name] = line.ByCPU
	}
	var byCPU []uint64
	for _, line := range now {
		if !line.Serves(i.Name, i.BusInfo) {
			continue
		}
		base := earlier[line.Number+" "+line.Name]
		byCPU = append(byCPU, make([]uint64, max(0, len(line.ByCPU)-len(byCPU)))...)
		for cpu, n := range line.ByCPU {
			if cpu < len(base) {
				n -= min(base[cpu], n)
			}
			byCPU[cpu] += n
			interruptOf(r, line.Name, n)
		}
	}
	if len(byCPU) == 0 {
		r.Missing["interrupts"] = "/proc/interrupts has none of its name"
		return
	}
	if r.CPU == nil {
		return
	}
	var sum uint64
	for _, n := range byCPU {
		sum += n
	}
	busiest := slices.Max(byCPU)
	share := event.Ratio(busiest, sum)
	r.CPU.InterruptShare, r.CPU.InterruptsCPU = &share, slices.Index(byCPU, busiest)
}

// interruptOf adds to the queue that the interrupt names, as in vif0-q1-tx.
func interruptOf(r *event.CongestionReport, name string, n uint64) {
	for q := range r.Queues {
		number := "-q" + strconv.Itoa(r.Queues[q].Number)
		if len(r.Queues) > 1 && !strings.HasSuffix(name, number) && !strings.Contains(name, number+"-") {
			continue
		}
		for _, sum := range []**uint64{&r.Queues[q].Interrupts, &r.Total.Interrupts} {
			if *sum == nil {
				*sum = new(uint64)
			}
			**sum += n
		}
	}
}

func (m *Meter) connections(r *event.CongestionReport, before, now *Snapshot) {
	counts, counted := now.tcp[r.NetNS]
	if !counted {
		r.Missing["tcp"] = "too many network namespaces are measured at once"
		return
	}
	earlier := before.tcp[r.NetNS]
	c := counts.minus(&earlier)
	r.TCP = &event.Accepts{Established: c.established, Opened: c.opened, Closed: c.closed}
	if m.has(accepts) {
		r.TCP.Accepts, r.TCP.Accept = &c.accepts, c.wait
	}
	listen, known := now.listen[r.NetNS]
	if was, before := before.listen[r.NetNS]; !before {
		r.Missing["listen_overflows"] = "the interface appeared meanwhile"
	} else if known {
		overflows, drops := listen.overflows-was.overflows, listen.drops-was.drops
		r.TCP.Overflows, r.TCP.Drops = &overflows, &drops
	}
	for port, l := range now.listeners[r.NetNS] {
		was := before.listeners[r.NetNS][port]
		if l.Accepts > was.Accepts {
			r.TCP.Listeners = append(r.TCP.Listeners, event.Listener{
				Port: port, Accepts: l.Accepts - was.Accepts, Longest: l.Longest, Limit: l.Limit, Full: l.Full - was.Full,
			})
		}
	}
	slices.SortFunc(r.TCP.Listeners, func(a, b event.Listener) int {
		return cmp.Or(cmp.Compare(b.Full, a.Full), cmp.Compare(b.Accepts, a.Accepts), cmp.Compare(a.Port, b.Port))
	})
	r.TCP.Listeners = r.TCP.Listeners[:min(len(r.TCP.Listeners), maxListeners)]
}

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
