package record

import (
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

	flows  flows
	closed *event.FlowSummary // of the flows, once another run began
	any    bool               // a flow was reported, or a packet

	countedTo time.Time // end of the last interval, in the range or not
	uncounted uint64    // events in the range since then
}

// pass notes an event of a recording that is not in the range.
func (s *summaries) pass(from *recording, e event.Event) {
	if i, isInterval := e.(*event.Interval); isInterval && s.last[from] != nil {
		s.last[from].countedTo = i.Time
	}
}

// add records an event of a recording and reports whether it is to be shown.
func (s *summaries) add(from *recording, e event.Event) bool {
	if s.last == nil {
		s.last = make(map[*recording]*run)
	}
	r := s.last[from]
	start, isStart := e.(*event.Start)
	if r == nil || r.summary != nil && !isStart || isStart && start.Segment <= 1 {
		if r != nil {
			r.close()
		}
		r = &run{}
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
		r.countedTo, r.uncounted = e.Time, 0
	case *event.FlowEvent:
		r.flows.add(&e.Flow)
		r.any, r.uncounted = true, r.uncounted+1
	case *event.Packet:
		r.any, r.uncounted = true, r.uncounted+1
	case *event.Summary:
		r.summary = e
		if !s.ranged {
			r.flows = flows{} // the summary has them
		}
		return false
	}
	return true
}

// close frees what is kept of single flows.
func (r *run) close() {
	r.closed, r.flows = r.flows.summary(), flows{}
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
		if s.Flows = r.closed; s.Flows == nil {
			s.Flows = r.flows.summary()
		}
	}
	return s
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

// An Unfinished is a run without a summary: it was killed, or is still running.
type Unfinished struct {
	End     time.Time // of its last event
	Counted time.Time // end of its last interval, zero if it has none
	Events  uint64    // packets and changes of flows since then: no count includes them
}

// Unfinished returns the runs without a summary; of a range only those with events in it that
// no interval counts.
func (s *Source) Unfinished() (all []Unfinished) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, r := range s.summaries.runs {
		if r.summary == nil && (!s.summaries.ranged || r.uncounted > 0) {
			all = append(all, Unfinished{r.end, r.countedTo, r.uncounted})
		}
	}
	return all
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
