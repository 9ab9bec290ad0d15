package report

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"xentrace/internal/event"
	"xentrace/internal/output"
	"xentrace/internal/slots"
)

// A Comparison is two recordings side by side.
type Comparison struct {
	A, B   Side
	Rows   []Row  // rates and counts
	Slots  []Row  // per million packets, by the number of slots
	Facts  []Fact // of the machines, where they differ
	Checks []Fact // findings of check whose status differs
}

// A Side is one of the recordings.
type Side struct {
	Name     string // as given, a path
	Host     string // "" if unknown
	From, To time.Time
	Duration time.Duration // that was counted
	Packets  uint64
}

// A Row compares one count.
type Row struct {
	Key  string // as in the JSON output
	Name string // for people
	Unit string // of the rates, e.g. "per million packets"
	A, B Count
	Test
	Traffic bool // of traffic: what differs is not a matter of chance
}

// A Count is events, and in how much of what they could happen.
type Count struct {
	Events   uint64
	Exposure float64 // seconds, or packets
	Rate     float64 // in the row's unit
}

// A Fact is something that is not the same on both sides; "" where it is unknown.
type Fact struct{ Name, A, B string }

// Compare compares what was collected of two recordings, closed by it.
func Compare(a, b *Collector, nameA, nameB string) *Comparison {
	_, _ = a.Close(), b.Close()
	c := &Comparison{A: a.side(nameA), B: b.side(nameB)}
	c.traffic(a, b)
	c.outcomes(a, b)
	c.slots(a, b)
	c.Facts, c.Checks = factsThatDiffer(a, b), checksThatDiffer(a, b)
	return c
}

func (c *Collector) side(name string) Side {
	return Side{output.Escape(name), strings.Join(c.hosts(), ", "), c.first, c.last, c.duration, c.timeline.sums[packetSeries]}
}

// traffic compares what both sides had to send.
func (c *Comparison) traffic(a, b *Collector) {
	var bytes [2]uint64
	for i, side := range []*Collector{a, b} {
		for j := range side.interfaces {
			bytes[i] += side.interfaces[j].Bytes
		}
	}
	c.Rows = append(c.Rows,
		trafficRow("packets", "packets", "per second", a.timeline.sums[packetSeries], b.timeline.sums[packetSeries], a.duration, b.duration),
		trafficRow("bytes", "bytes", "per second", bytes[0], bytes[1], a.duration, b.duration))
}

func trafficRow(key, name, unit string, a, b uint64, lengthA, lengthB time.Duration) Row {
	r := Row{Key: key, Name: name, Unit: unit, A: count(a, lengthA.Seconds(), 1), B: count(b, lengthB.Seconds(), 1), Traffic: true}
	r.Test = testTraffic(r.A, r.B)
	return r
}

func count(events uint64, exposure, per float64) Count {
	c := Count{Events: events, Exposure: exposure}
	if exposure > 0 {
		c.Rate = per * float64(events) / exposure
	}
	return c
}

const perMillion = "per million packets"

// outcomes compares what happened to packets, and to connections.
func (c *Comparison) outcomes(a, b *Collector) {
	add := func(key, name string, of func(*Collector) uint64) {
		x, y := of(a), of(b)
		if x+y == 0 && key != "dropped" {
			return
		}
		c.Rows = append(c.Rows, c.packetRow(key, name, x, y))
	}
	of := func(s series) func(*Collector) uint64 {
		return func(side *Collector) uint64 { return side.timeline.sums[s] }
	}
	add("dropped", "dropped", func(side *Collector) uint64 { return side.timeline.allDropped() })
	for _, cause := range event.Causes() {
		add("dropped_"+cause.String(), "dropped: "+cause.String(), of(causeSeries+series(cause)))
	}
	add("elsewhere", "dropped before the driver", of(elsewhereSeries))
	add("rejected", "rejected by the backend", of(rejectedSeries))
	add("linearized", "linearized", of(linearizedSeries))
	add("bounced", "bounced", of(bouncedSeries))
	add("retransmissions", "retransmissions", of(retransmissionSeries))
	c.timeRow("stalls", "stalls", "per hour", 3600, max(a.stalls, a.everStalled), max(b.stalls, b.everStalled), a, b)
	c.timeRow("unmonitored_intervals", "unmonitored intervals", "per hour", 3600, uint64(len(a.spans.all)+a.spans.more), uint64(len(b.spans.all)+b.spans.more), a, b)
}

func (c *Comparison) packetRow(key, name string, a, b uint64) Row {
	r := Row{Key: key, Name: name, Unit: perMillion, A: count(a, float64(c.A.Packets), 1e6), B: count(b, float64(c.B.Packets), 1e6)}
	r.Test = testRates(r.A, r.B)
	return r
}

func (c *Comparison) timeRow(key, name, unit string, per float64, x, y uint64, a, b *Collector) {
	r := Row{Key: key, Name: name, Unit: unit, A: count(x, a.duration.Seconds(), per), B: count(y, b.duration.Seconds(), per)}
	r.Test = testRates(r.A, r.B)
	c.Rows = append(c.Rows, r)
}

// slots compares the shares of packets by slots; those over the limit together, too.
func (c *Comparison) slots(a, b *Collector) {
	x, y := a.histogram(), b.histogram()
	for n := 1; n <= max(x.Max(), y.Max()); n++ {
		if x[n]+y[n] > 0 {
			c.Slots = append(c.Slots, c.slotRow(n, x[n], y[n]))
		}
	}
	c.Slots = append(c.Slots, c.packetRow("over_limit", fmt.Sprintf("over the limit (%d)", slots.Limit), x.Over(slots.Limit), y.Over(slots.Limit)))
}

// slotRow also asks that shares within the limit differ by 10 %: they are of traffic, and so
// many packets that every difference is beyond chance.
func (c *Comparison) slotRow(n int, a, b uint64) Row {
	r := c.packetRow(strconv.Itoa(n), plural(uint64(n), "slot"), a, b)
	if n <= slots.Limit {
		r.Traffic, r.Differs = true, r.Differs && testTraffic(r.A, r.B).Differs
	}
	return r
}

func (c *Collector) histogram() (h event.Histogram) {
	for i := range c.interfaces {
		for n, packets := range c.interfaces[i].Slots {
			h[n] += packets
		}
	}
	return h
}

// Differing returns how many rows differ by more than noise.
func (c *Comparison) Differing() (n int) {
	for _, rows := range [][]Row{c.Rows, c.Slots} {
		for i := range rows {
			if rows[i].Differs {
				n++
			}
		}
	}
	return n
}

// factsThatDiffer compares the last machine of each side.
func factsThatDiffer(a, b *Collector) (all []Fact) {
	x, y := a.facts(), b.facts()
	names := slices.Concat(x.names, slices.DeleteFunc(slices.Clone(y.names), func(name string) bool { return slices.Contains(x.names, name) }))
	for _, name := range names {
		if x.values[name] != y.values[name] {
			all = append(all, Fact{name, x.values[name], y.values[name]})
		}
	}
	return all
}

type machineFacts struct {
	names  []string // in order
	values map[string]string
}

func (m *machineFacts) add(name, value string) {
	name = output.Printable(name)
	if _, known := m.values[name]; !known {
		m.names = append(m.names, name)
	}
	m.values[name] = output.Printable(value)
}

// facts are those of the last start of each kind.
func (c *Collector) facts() *machineFacts {
	m := &machineFacts{values: make(map[string]string)}
	for i := range c.starts {
		s := &c.starts[i]
		m.add("host", s.Hostname)
		m.add("kernel", s.Kernel)
		m.add("machine", s.Machine)
		if s.Xen != nil {
			m.add("Xen", strings.TrimSpace(s.Xen.Version+" "+s.Xen.Type))
		}
		m.add("xentrace", s.Version)
		for j := range s.Interfaces {
			m.addInterface(&s.Interfaces[j])
		}
	}
	return m
}

func (m *machineFacts) addInterface(n *event.StartInterface) {
	name := output.Escape(n.Name) + " "
	m.add(name+"driver", n.Driver)
	m.add(name+"MTU", strconv.Itoa(n.MTU))
	m.add(name+"queues", strconv.Itoa(n.Queues))
	linearizes := "unknown"
	if n.Linearizes != nil {
		linearizes = yesNo(*n.Linearizes)
	}
	m.add(name+"linearizes", linearizes)
	for _, feature := range slices.Sorted(maps.Keys(n.Features)) {
		m.add(name+feature, map[bool]string{true: "on", false: "off"}[n.Features[feature]])
	}
}

func yesNo(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}

func checksThatDiffer(a, b *Collector) (all []Fact) {
	x, y := a.statuses(), b.statuses()
	for _, name := range slices.Sorted(maps.Keys(x)) {
		if other, known := y[name]; known && other != x[name] {
			all = append(all, Fact{name, x[name], other})
		}
	}
	return all
}

func (c *Collector) statuses() map[string]string {
	all := make(map[string]string)
	for i := range c.findings {
		f := &c.findings[i]
		all[strings.TrimSpace(output.Escape(string(f.ID))+" "+output.Escape(f.Interface))] = f.Status.String()
	}
	return all
}

// Empty returns why a side cannot be compared; "" if it can.
func (s *Side) Empty() string {
	if s.Packets == 0 {
		return cmp.Or(s.Name, "recording") + ": no packet was counted"
	}
	return ""
}
