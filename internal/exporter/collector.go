package exporter

import (
	"context"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	dto "github.com/prometheus/client_model/go"
	"google.golang.org/protobuf/types/known/timestamppb"

	"xentrace/internal/event"
	"xentrace/internal/exporter/feed"
	"xentrace/internal/output"
	"xentrace/internal/verdict"
)

// maxSeries bounds the series of interfaces, those of (others) included.
const maxSeries = 2000

// readTimeout bounds how long a scrape waits for counts. Those of a driver that was just
// loaded wait for its code to be read; what was read before is served meanwhile.
const readTimeout = time.Second

// A collector makes metrics of what was counted. A scrape reads the kernel's counters; all
// that scrapes share is the reading before, of which counters move on.
type collector struct {
	options  feed.Options
	families *families
	reasons  []string // label values of drops elsewhere, the last one for all others
	causes   []event.Cause
	began    *timestamppb.Timestamp
	build    []*dto.LabelPair
	noticed  []noticeLabels

	patience time.Duration // readTimeout
	reading  chan struct{} // holds an element while counts are read, and for good once closed
	source   atomic.Pointer[feed.Source]
	failed   atomic.Uint64

	mu       sync.Mutex
	ledger   *ledger
	pressure *pressures
	checks   checks
	notices  map[event.NoticeID]uint64
	paused   bool
	unsaved  uint64 // events that were not recorded
	labels   []*labels
	statuses map[findingKey][]*dto.LabelPair // labels of findings
	flows    event.FlowCounts
	stalled  map[int]int // by account
}

// noticeLabels are those of the notices with one id.
type noticeLabels struct {
	id     event.NoticeID
	labels []*dto.LabelPair
}

func newCollector(o feed.Options) *collector {
	began := time.Now()
	c := &collector{
		options: o, families: newFamilies(), causes: event.Causes(), began: timestamppb.New(began), patience: readTimeout, reading: make(chan struct{}, 1),
		pressure: newPressures(), notices: make(map[event.NoticeID]uint64), statuses: make(map[findingKey][]*dto.LabelPair),
	}
	c.build = c.families.build.pairs(o.Commit, runtime.Version(), o.Version)
	for _, id := range event.NoticeIDs() {
		c.noticed = append(c.noticed, noticeLabels{id, c.families.notices.pairs(string(id))})
	}
	if o.Drops == event.DropsAll {
		c.reasons = append(verdict.Reasons(), otherReasons)
	}
	c.ledger = newLedger(maxSeries/c.seriesEach()-1, began)
	return c
}

// read brings the counts up to date.
func (c *collector) read(ctx context.Context) error {
	source := c.source.Load()
	if source == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, c.patience)
	defer cancel()
	select {
	case c.reading <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	defer func() { <-c.reading }()
	totals, err := source.Totals(ctx)
	if err != nil {
		return err
	}
	var reports []event.CongestionReport
	if source.Congestion != nil {
		reports, err = source.Congestion(ctx) // the rest is right without
	}
	flows, stalled := source.Flows.Counts(), source.Flows.Stalled()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ledger.add(totals)
	account := func(d event.Device) int { return c.ledger.account(keyOf(d), totals.Time) }
	c.pressure.add(reports, account)
	c.flows, c.stalled = flows, make(map[int]int)
	for device, n := range stalled {
		c.stalled[account(device)] += n
	}
	return err
}

// update reads, and counts a failure: what was read before stays.
func (c *collector) update(ctx context.Context) {
	if err := c.read(ctx); err != nil {
		c.failed.Add(1)
	}
}

// close ends reading: the source may be closed after it.
func (c *collector) close() {
	if c.source.Swap(nil) != nil {
		c.reading <- struct{}{}
	}
}

func (c *collector) found(findings []event.Finding, at time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.checks.add(findings, at)
	clear(c.statuses) // of interfaces that may be gone
}

// stall counts a connection that became stalled.
func (c *collector) stall(d event.Device) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ledger.stalls[c.ledger.account(keyOf(d), time.Now())]++
}

func (c *collector) notice(n *event.Notice) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.notices[n.ID]++
	switch n.ID {
	case event.NoticeRecordingPaused:
		c.paused = true
	case event.NoticeRecordingResumed:
		c.paused = false
		c.unsaved += n.Count
	case event.NoticeLinearize:
		c.checks.loaded(n.Linearizes)
	}
}

// Gather implements prometheus.Gatherer.
func (c *collector) Gather() ([]*dto.MetricFamily, error) {
	c.update(context.Background()) // bounded by patience
	hooks, missing := 0, 0
	source := c.source.Load()
	if source != nil {
		hooks, missing = source.Hooks()
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	w, f := newWriter(c.families), c.families
	w.gauge(f.attached, nil, boolean(source != nil))
	w.gauge(f.hooks, nil, float64(hooks))
	w.gauge(f.hooksMissing, nil, float64(missing))
	c.writeItself(w)
	if source != nil {
		w.gauge(f.backend, f.backend.pairs(string(source.Backend)), 1)
		c.writeLost(w)
		c.writeInterfaces(w)
	}
	c.writeChecks(w)
	return w.written(), nil
}

// writeItself writes what is known without counts.
func (c *collector) writeItself(w *writer) {
	f := c.families
	w.gauge(f.build, c.build, 1)
	w.counter(f.failures, nil, float64(c.failed.Load()), c.began)
	w.counter(f.unmonitored, nil, c.ledger.closed.Seconds(), c.began)
	for _, n := range c.noticed {
		w.counter(f.notices, n.labels, float64(c.notices[n.id]), c.began)
	}
}

// writeLost writes what was lost, as far as this kernel counts it.
func (c *collector) writeLost(w *writer) {
	lost := func(reason string, n uint64) {
		w.counter(c.families.lost, c.families.lost.pairs(reason), float64(n), c.began)
	}
	sum := &c.ledger.sum
	lost("flows", c.flows.Lost)
	if sum.Lost.Missed != nil {
		lost("missed", *sum.Lost.Missed)
	}
	if c.options.Recording {
		lost("recording", c.unsaved)
		w.gauge(c.families.paused, nil, boolean(c.paused))
	}
	if sum.Lost.Recursion != nil {
		lost("recursion", *sum.Lost.Recursion)
	}
	lost("ring", sum.Lost.Ring)
	lost("suppressed", sum.SuppressedRecords())
}

// writeChecks writes the findings. Those of an interface without series are left out.
func (c *collector) writeChecks(w *writer) {
	f, suppressed := c.families, c.ledger.without*c.seriesEach()
	for _, k := range c.checks.order {
		if k.device != "" && c.ledger.account(k.key, c.checks.at) == 0 {
			suppressed++
			continue
		}
		w.gauge(f.status, c.statusLabels(k), float64(output.MetricStatus(c.checks.findings[k])))
	}
	if !c.checks.at.IsZero() {
		w.gauge(f.checked, nil, float64(c.checks.at.Unix()))
	}
	w.gauge(f.without, nil, float64(c.ledger.without))
	w.gauge(f.suppressed, nil, float64(suppressed))
}

// statusLabels returns the labels of a finding. They are made once.
func (c *collector) statusLabels(k findingKey) []*dto.LabelPair {
	labels := c.statuses[k]
	if labels == nil {
		labels = c.families.status.pairs(k.device, string(k.id), netnsLabel(k.netns))
		c.statuses[k] = labels
	}
	return labels
}

// writeInterfaces writes the counts of each interface, and of all others together.
func (c *collector) writeInterfaces(w *writer) {
	others := c.ledger.others()
	c.writeInterface(w, &others)
	for i := range c.ledger.sum.Interfaces {
		if n := &c.ledger.sum.Interfaces[i]; n.Index != 0 {
			c.writeInterface(w, n)
		}
	}
	c.writeSpaces(w)
}

// writeSpaces writes the connections of the namespaces whose interfaces have series.
func (c *collector) writeSpaces(w *writer) {
	written := make(map[uint32]bool)
	for k := range c.ledger.accounts {
		if space := c.pressure.spaces[k.netns]; space != nil && !written[k.netns] {
			written[k.netns] = true
			space.write(w, c.families, k.netns, c.began)
		}
	}
}
