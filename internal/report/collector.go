// Package report makes one HTML file of what xentrace recorded, and compares two
// recordings. Memory and the size of the file are bounded, however long the recording is.
package report

import (
	"slices"
	"time"

	"xentrace/internal/event"
	"xentrace/internal/output"
)

const (
	mostStarts     = 16
	mostInterfaces = 64
	mostFindings   = 200
	mostNotices    = 60
)

// A Collector is a sink that aggregates events. Its memory is bounded.
type Collector struct {
	events uint64
	first  time.Time // earliest and latest time of any event
	last   time.Time

	starts      []event.Start
	moreStarts  int
	interfaces  []event.InterfaceTotals
	duration    time.Duration // that was counted
	intervals   uint64
	inIntervals event.Totals // sum of the intervals since the last summary
	summaries   int
	lost        event.Lost
	lostFlows   uint64
	suppressed  map[string]uint64
	missing     map[string]string
	filters     []string
	leftOut     uint64
	everStalled uint64 // as summaries report it
	stalls      uint64 // flow events

	timeline timeline
	balance  [numSeries]int64 // counted less recorded
	spans    spans
	table    table
	packets  uint64 // records
	explain  []event.Explanation
	findings []event.Finding
	notices  []event.Notice
	moreNote int
	extract  extract
	closed   bool
}

// NewCollector returns an empty Collector.
func NewCollector() *Collector {
	return &Collector{
		timeline: *newTimeline(), table: table{all: make(map[event.FlowKey]*connection)},
		suppressed: make(map[string]uint64), missing: make(map[string]string),
	}
}

// Emit adds one event. Its error is always nil.
func (c *Collector) Emit(e event.Event) error {
	c.events++
	switch e := e.(type) {
	case *event.Packet:
		c.seen(e.Time)
		c.packet(e)
	case *event.FlowEvent:
		c.seen(e.Time)
		c.flow(e)
	case *event.Interval:
		c.interval(e)
	case *event.Summary:
		c.summary(e)
	case *event.Notice:
		c.seen(e.Time)
		c.notice(e)
	case *event.Start:
		c.start(e)
	case *event.Finding:
		c.finding(*e)
	case *event.Report:
		for i := range e.Findings {
			c.finding(e.Findings[i])
		}
	}
	c.extract.add(e)
	return nil
}

// Close ends what lasts until the end of the recording.
func (c *Collector) Close() error {
	if c.closed {
		return nil
	}
	c.closed = true
	c.spans.close(c.last, "")
	for _, known := range c.table.all {
		if !known.stalledSince.IsZero() {
			known.stalledFor += max(c.last.Sub(known.stalledSince), 0)
		}
	}
	return nil
}

func (c *Collector) seen(at time.Time) {
	if at.IsZero() {
		return
	}
	if c.first.IsZero() || at.Before(c.first) {
		c.first = at
	}
	if at.After(c.last) {
		c.last = at
	}
}

func (c *Collector) start(e *event.Start) {
	if !c.last.IsZero() && e.Time.Sub(c.last) > silence {
		c.spans.add(span{c.last, e.Time, whyStopped})
		for _, known := range c.table.all { // nobody knows how long it lasted
			if !known.stalledSince.IsZero() {
				known.end(c.last)
				known.runEnded = true
			}
		}
	}
	c.seen(e.Time)
	for i := range e.Check {
		c.finding(e.Check[i])
	}
	begun := keptStart(*e)
	same := func(old event.Start) bool {
		return old.Hostname == e.Hostname && old.BootID == e.BootID && old.Version == e.Version && slices.Equal(old.Command, begun.Command)
	}
	switch i := slices.IndexFunc(c.starts, same); {
	case i >= 0:
		c.starts[i].Interfaces = begun.Interfaces // as they were last
	case len(c.starts) == mostStarts:
		c.moreStarts++
	default:
		c.starts = append(c.starts, begun)
	}
}

func (c *Collector) packet(p *event.Packet) {
	c.packets++
	again := false
	if p.Flow != nil {
		key := event.FlowKey{NetNS: p.Interface.NetNS, Proto: p.Flow.Proto, Source: p.Flow.Source, Destination: p.Flow.Destination}
		again = c.table.of(key, p.Time).add(p)
	}
	if again {
		c.timeline.add(retransmissionSeries, p.Time, 1)
	}
	if s, counted := seriesOf(p); counted {
		c.timeline.add(s, p.Time, 1)
		c.balance[s]--
	}
}

// seriesOf is the series that a packet's record counts in.
func seriesOf(p *event.Packet) (series, bool) {
	switch p.Verdict {
	case event.Dropped:
		if p.Layer == event.LayerElsewhere {
			return elsewhereSeries, true
		}
		return causeSeries + series(p.Cause), true
	case event.Linearized:
		return linearizedSeries, true
	case event.Bounced:
		return bouncedSeries, true
	case event.Rejected:
		return rejectedSeries, true
	case event.OverLimit:
		return overLimitSeries, true
	}
	return 0, false
}

func (c *Collector) flow(e *event.FlowEvent) {
	began, ended := c.table.of(e.Flow.FlowKey, e.Time).change(e)
	if !began.IsZero() {
		c.stalls++
		c.seen(began)
		c.timeline.began[c.timeline.at(began)]++
	}
	if !ended.IsZero() {
		c.timeline.ended[c.timeline.at(ended)]++
	}
}

func (c *Collector) interval(e *event.Interval) {
	c.intervals++
	c.inIntervals.Add(&e.Totals)
	c.count(&e.Totals, e.Explained)
}

// summary adds what no interval has: runs may have been recorded without them.
func (c *Collector) summary(e *event.Summary) {
	c.summaries++
	c.seen(e.Time)
	rest := e.Totals.Since(&c.inIntervals)
	rest.Time, rest.Duration = e.Time, max(rest.Duration, 0)
	if c.intervals == 0 {
		rest = e.Totals
	}
	c.count(&rest, nil)
	c.explained(e.Explained, c.intervals > 0)
	c.inIntervals = event.Totals{}
	for key, why := range e.Missing {
		if _, known := c.missing[key]; known || len(c.missing) < keptMissing {
			c.missing[key] = why
		}
	}
	if len(e.Filter) > 0 {
		c.filters, c.leftOut = e.Filter, c.leftOut+e.LeftOut
	}
	if e.Flows == nil {
		return
	}
	c.everStalled += e.Flows.EverStalled
	c.lostFlows += e.Flows.Lost
	for i := range e.Flows.Flows {
		switch f := &e.Flows.Flows[i]; {
		case !f.Source.IsValid(), f.State == event.Stalled && c.table.of(f.FlowKey, e.Time).runEnded:
		case f.State == event.Stalled:
			c.flow(&event.FlowEvent{Time: e.Time, Flow: *f})
		default:
			c.table.of(f.FlowKey, earlier(f.Last, e.Time)).learn(f)
		}
	}
}

// earlier is a, if it is known and before b.
func earlier(a, b time.Time) time.Time {
	if a.IsZero() || b.Before(a) {
		return b
	}
	return a
}

// count adds the counters of an interval, or of a whole run.
func (c *Collector) count(t *event.Totals, explained []event.Explanation) {
	from := t.Time.Add(-t.Duration)
	c.seen(from)
	c.seen(t.Time)
	c.duration += t.Duration
	var sums [numSeries]uint64
	for i := range t.Interfaces {
		n := &t.Interfaces[i]
		addCounts(c.interfaceOf(n), n)
		sums[packetSeries] += n.Packets
		sums[linearizedSeries] += n.Linearized
		sums[bouncedSeries] += n.Bounced
		sums[elsewhereSeries] += n.Elsewhere
		if n.Rejected != nil {
			sums[rejectedSeries] += *n.Rejected
		}
		if n.Dropped+n.Linearized == 0 && n.Driver != "xen-netfront" {
			sums[overLimitSeries] += n.OverLimit
		}
		for cause, dropped := range n.Causes {
			sums[causeSeries+series(cause)] += dropped
		}
	}
	sums[lostSeries] = output.LostRecords(t)
	for _, s := range t.Suppressed {
		name := s.Verdict.String()
		if s.Cause != event.CauseNone {
			name += " " + s.Cause.String()
		}
		c.suppressed[name] += s.Records
		sums[suppressedSeries] += s.Records
	}
	c.place(from, t.Time, &sums)
	c.lose(&t.Lost)
	for _, gap := range t.Gaps {
		c.spans.gap(gap)
	}
	c.explained(explained, false)
}

// place adds to the timeline what was counted and not recorded.
func (c *Collector) place(from, to time.Time, sums *[numSeries]uint64) {
	for s, n := range sums {
		c.balance[s] += int64(n)
		if extra := c.balance[s]; extra > 0 {
			c.timeline.spread(series(s), from, to, uint64(extra))
			c.balance[s] = 0
		}
	}
}

func (c *Collector) lose(l *event.Lost) {
	c.lost.Ring += l.Ring
	c.lost.Recursion = sumOf(c.lost.Recursion, l.Recursion)
	c.lost.Missed = sumOf(c.lost.Missed, l.Missed)
}

// sumOf is nil if both are unknown.
func sumOf(a, b *uint64) *uint64 {
	switch {
	case b == nil:
		return a
	case a == nil:
		n := *b
		return &n
	}
	n := *a + *b
	return &n
}

// interfaceOf returns where an interface is summed up.
func (c *Collector) interfaceOf(n *event.InterfaceTotals) *event.InterfaceTotals {
	for i := range c.interfaces {
		if old := &c.interfaces[i]; old.Name == n.Name && old.NetNS == n.NetNS {
			old.Driver, old.Backend = n.Driver, n.Backend
			return old
		}
	}
	if len(c.interfaces) == mostInterfaces {
		return &c.interfaces[mostInterfaces-1]
	}
	c.interfaces = append(c.interfaces, event.InterfaceTotals{Device: n.Device, Driver: n.Driver, Backend: n.Backend})
	return &c.interfaces[len(c.interfaces)-1]
}

func addCounts(to, n *event.InterfaceTotals) {
	to.Each(&n.Counts, event.Plus)
	to.Rejected = sumOf(to.Rejected, n.Rejected)
	to.TxDroppedDelta = sumOf(to.TxDroppedDelta, n.TxDroppedDelta)
	if n.Stuck != nil {
		stuck := *n.Stuck
		if to.Stuck != nil {
			stuck += *to.Stuck
		}
		to.Stuck = &stuck
	}
}

// explained keeps what each thing that was counted means. Those of a summary replace the
// counts: they are of the whole run.
func (c *Collector) explained(all []event.Explanation, whole bool) {
	for _, e := range all {
		i := slices.IndexFunc(c.explain, func(old event.Explanation) bool { return old.Name == e.Name && old.Verdict == e.Verdict })
		switch {
		case i < 0 && len(c.explain) < 40:
			c.explain = append(c.explain, e)
		case i >= 0:
			old := &c.explain[i]
			old.Meaning = e.Meaning
			if len(old.Advice) < 12 {
				old.Advice = event.AppendAdvice(old.Advice, e.Advice...)
			}
			if !whole {
				old.Count += e.Count
			}
		}
	}
}

func (c *Collector) notice(n *event.Notice) {
	c.spans.notice(n)
	if len(c.notices) == mostNotices {
		c.moreNote++
		return
	}
	c.notices = append(c.notices, *n)
}

// finding keeps the last finding of each kind and interface.
func (c *Collector) finding(f event.Finding) {
	same := func(old event.Finding) bool {
		return old.ID == f.ID && old.Interface == f.Interface && old.NetNS == f.NetNS
	}
	f = keptFinding(f)
	switch i := slices.IndexFunc(c.findings, same); {
	case i >= 0:
		c.findings[i] = f
	case len(c.findings) < mostFindings:
		c.findings = append(c.findings, f)
	}
}
