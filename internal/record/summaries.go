package record

import (
	"cmp"
	"slices"
	"time"

	"xentrace/internal/event"
)

// summaries adds up what the runs of a replay counted.
type summaries struct {
	ranged bool // a part of the recordings was asked for: summaries of whole runs do not count

	runs []*run
	last map[*recording]*run
}

// A run is one run of xentrace: from a start to its summary, over several segments.
type run struct {
	totals    event.Totals // sum of its intervals
	explained []event.Explanation
	summary   *event.Summary // nil where the run did not come to its end
	command   []string
	end       time.Time // of the last event

	flows   map[event.FlowKey]*event.FlowHistory // as last reported
	stalled uint64
	any     bool // a flow was reported, or a packet
}

// add records an event of a recording and reports whether it is to be shown.
func (s *summaries) add(from *recording, e event.Event) bool {
	if s.last == nil {
		s.last = make(map[*recording]*run)
	}
	r := s.last[from]
	start, isStart := e.(*event.Start)
	if r == nil || r.summary != nil && !isStart || isStart && start.Segment <= 1 {
		r = &run{flows: make(map[event.FlowKey]*event.FlowHistory)}
		s.runs, s.last[from] = append(s.runs, r), r
	}
	if at := timeOf(e); at.After(r.end) {
		r.end = at
	}
	switch e := e.(type) {
	case *event.Start:
		r.command = e.Command
	case *event.Interval:
		r.totals.Add(&e.Totals)
		r.explained = addExplained(r.explained, e.Explained)
	case *event.FlowEvent:
		r.addFlow(&e.Flow)
	case *event.Packet:
		r.any = true
	case *event.Summary:
		r.summary = e
		return false
	}
	return true
}

func (r *run) addFlow(f *event.FlowHistory) {
	r.any = true
	if f.State == event.Stalled {
		r.stalled++
	}
	r.flows[f.FlowKey] = f
}

// whole reports whether the run's own summary counts what was asked for.
func (s *summaries) whole(r *run) bool { return r.summary != nil && !s.ranged }

// summary adds up all runs.
func (s *summaries) summary() *event.Summary {
	runs := slices.DeleteFunc(slices.Clone(s.runs), func(r *run) bool {
		return r.summary == nil && r.totals.Time.IsZero() && !r.any && len(s.runs) > 1
	})
	if len(runs) == 1 && s.whole(runs[0]) {
		return runs[0].summary
	}
	sum := &event.Summary{}
	for _, r := range runs {
		one := r.counted(s.whole(r))
		sum.Totals.Add(&one.Totals)
		sum.Explained = addExplained(sum.Explained, one.Explained)
		sum.Flows = addFlows(sum.Flows, one.Flows)
	}
	slices.SortStableFunc(sum.Gaps, func(a, b event.Gap) int { return a.From.Compare(b.From) })
	return sum
}

// counted is the summary of one run.
func (r *run) counted(whole bool) *event.Summary {
	if whole {
		return r.summary
	}
	s := &event.Summary{Totals: r.totals, Explained: r.explained}
	if s.Time.IsZero() {
		s.Time = r.end
	}
	if r.any || r.summary != nil && r.summary.Flows != nil {
		s.Flows = &event.FlowSummary{FlowCounts: event.FlowCounts{Flows: len(r.flows), EverStalled: r.stalled}}
		for _, f := range r.flows {
			if f.State == event.Stalled {
				s.Flows.Stalled++
			}
			s.Flows.Flows = append(s.Flows.Flows, *f)
		}
		slices.SortFunc(s.Flows.Flows, func(a, b event.FlowHistory) int {
			return cmp.Or(cmp.Compare(b.Drops, a.Drops), a.First.Compare(b.First), cmp.Compare(a.Source.String(), b.Source.String()))
		})
		s.Flows.Flows = s.Flows.Flows[:min(len(s.Flows.Flows), maxFlows)]
	}
	return s
}

// maxFlows is how many flows a summary lists.
const maxFlows = 10

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
	sum.Flows = append(sum.Flows, more.Flows...)
	slices.SortStableFunc(sum.Flows, func(a, b event.FlowHistory) int { return cmp.Compare(b.Drops, a.Drops) })
	sum.Flows = sum.Flows[:min(len(sum.Flows), maxFlows)]
	return sum
}

// addExplained adds up explanations of the same thing, with the advice of both.
func addExplained(sum, more []event.Explanation) []event.Explanation {
	for _, e := range more {
		i := slices.IndexFunc(sum, func(known event.Explanation) bool { return known.Name == e.Name && known.Verdict == e.Verdict })
		if i < 0 {
			sum = append(sum, e)
			continue
		}
		sum[i].Count += e.Count
		sum[i].Advice = event.AppendAdvice(slices.Clone(sum[i].Advice), e.Advice...)
	}
	return sum
}

// Unfinished returns when the runs end that have no summary: those that were killed, or are
// still running. They are counted up to their last interval.
func (s *Source) Unfinished() (ends []time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, r := range s.summaries.runs {
		if r.summary == nil && !s.summaries.ranged {
			ends = append(ends, r.end)
		}
	}
	return ends
}

// Histogram reports whether all that was read are runs of xentrace hist.
func (s *Source) Histogram() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, r := range s.summaries.runs {
		if len(r.command) < 2 || r.command[1] != "hist" {
			return false
		}
	}
	return len(s.summaries.runs) > 0
}
