package record

import (
	"cmp"
	"slices"

	"xentrace/internal/event"
)

const (
	// maxFlows is how many flows a summary lists.
	maxFlows = 10

	// maxTracked is how many flows of a run are kept at least, with all that is known of each
	// (5 kB): twice as many are reduced to it.
	maxTracked = 1024
)

// flows are those of one run, as they were last reported. Memory is bounded: what is not among
// the worst is only counted.
type flows struct {
	tracked     map[event.FlowKey]*trackedFlow
	everStalled uint64 // of those no longer tracked
	losing      int    // likewise: that lost packets
	evicted     uint64
}

type trackedFlow struct {
	event.FlowHistory
	everStalled bool
}

func (f *flows) add(h *event.FlowHistory) {
	if f.tracked == nil {
		f.tracked = make(map[event.FlowKey]*trackedFlow)
	}
	known := f.tracked[h.FlowKey]
	if known == nil {
		known = &trackedFlow{}
		f.tracked[h.FlowKey] = known
	}
	known.FlowHistory = *h
	known.everStalled = known.everStalled || h.State == event.Stalled || h.Stalls > 0
	if len(f.tracked) >= 2*maxTracked {
		f.reduce()
	}
}

// reduce keeps the worst.
func (f *flows) reduce() {
	for _, less := range f.ranked()[maxTracked:] {
		f.evicted++
		f.everStalled += count(less.everStalled)
		f.losing += int(count(less.Drops > 0))
		delete(f.tracked, less.FlowKey)
	}
}

// ranked is the flows, the worst first: stalled, then by drops.
func (f *flows) ranked() []*trackedFlow {
	ranked := make([]*trackedFlow, 0, len(f.tracked))
	for _, known := range f.tracked {
		ranked = append(ranked, known)
	}
	slices.SortFunc(ranked, func(a, b *trackedFlow) int {
		return cmp.Or(cmp.Compare(count(b.State == event.Stalled), count(a.State == event.Stalled)), worse(&a.FlowHistory, &b.FlowHistory))
	})
	return ranked
}

// worse orders flows as a summary lists them.
func worse(a, b *event.FlowHistory) int {
	return cmp.Or(cmp.Compare(b.Drops, a.Drops), a.First.Compare(b.First), cmp.Compare(a.Source.String(), b.Source.String()))
}

func count(yes bool) uint64 {
	if yes {
		return 1
	}
	return 0
}

func (f *flows) summary() *event.FlowSummary {
	s := &event.FlowSummary{
		FlowCounts: event.FlowCounts{Flows: len(f.tracked), EverStalled: f.everStalled, Lost: f.evicted},
		Losing:     f.losing,
	}
	for _, known := range f.tracked {
		s.Stalled += int(count(known.State == event.Stalled))
		s.EverStalled += count(known.everStalled)
		s.Losing += int(count(known.Drops > 0))
		s.Flows = append(s.Flows, known.FlowHistory)
	}
	slices.SortFunc(s.Flows, func(a, b event.FlowHistory) int { return worse(&a, &b) })
	s.Flows = slices.Clone(s.Flows[:min(len(s.Flows), maxFlows)])
	return s
}

func addFlows(sum, more *event.FlowSummary) *event.FlowSummary {
	switch {
	case more == nil:
		return sum
	case sum == nil:
		sum = &event.FlowSummary{}
	}
	sum.FlowCounts.Flows += more.FlowCounts.Flows
	sum.Stalled += more.Stalled
	sum.EverStalled += more.EverStalled
	sum.Lost += more.Lost
	sum.Losing += more.Losing
	sum.Flows = append(sum.Flows, more.Flows...)
	slices.SortStableFunc(sum.Flows, func(a, b event.FlowHistory) int { return cmp.Compare(b.Drops, a.Drops) })
	sum.Flows = sum.Flows[:min(len(sum.Flows), maxFlows)]
	return sum
}
