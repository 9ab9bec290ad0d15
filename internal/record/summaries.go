package record

import (
	"slices"
	"time"

	"xentrace/internal/event"
)

// summaries adds up what the runs of a replay counted. Only runs that are being read are kept:
// memory is bounded, however many there are.
type summaries struct {
	ranged bool // a part of the recordings was asked for: summaries of whole runs do not count

	open  []*run // in the order in which they began
	last  map[*recording]*run
	ended ended
}

// ended is what is kept of runs that were read to their end.
type ended struct {
	runs       int
	others     int // runs that are not of xentrace hist
	counted    int // runs in sum: those in which something was counted or reported
	sum        event.Summary
	own        *event.Summary // of the only one in sum; nil if it has none for what was asked for
	unfinished UnfinishedRuns
}

// A run is one run of xentrace: from a start to its summary, over several segments.
type run struct {
	totals    event.Totals // sum of its intervals
	explained []event.Explanation
	summary   *event.Summary // nil where the run did not come to its end
	histogram bool           // of xentrace hist
	end       time.Time      // of the last event

	flows flows
	any   bool // a flow was reported, or a packet

	countedTo time.Time    // end of the last interval, in the range or not
	uncounted uint64       // events in the range since then
	recorded  event.Totals // what the records among them show

	interfaces []event.StartInterface // when it began
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
			s.end(r)
		}
		r = &run{}
		s.open, s.last[from] = append(s.open, r), r
	}
	if at := timeOf(e); at.After(r.end) {
		r.end = at
	}
	switch e := e.(type) {
	case *event.Start:
		r.histogram = len(e.Command) > 1 && e.Command[1] == "hist"
		r.interfaces = e.Interfaces
	case *event.Interval:
		r.totals.Add(&e.Totals)
		r.explained = addExplained(r.explained, e.Explained)
		r.countedTo, r.uncounted, r.recorded = e.Time, 0, event.Totals{}
	case *event.FlowEvent:
		r.flows.add(&e.Flow)
		r.any, r.uncounted = true, r.uncounted+1
	case *event.Packet:
		r.any, r.uncounted = true, r.uncounted+1
		r.recorded.AddRecord(e)
	case *event.Summary:
		r.summary = e
		if !s.ranged {
			r.flows = flows{} // the summary has them
		}
		return false
	}
	return true
}

// end adds up a run that was read to its end, and forgets it.
func (s *summaries) end(r *run) {
	s.open = slices.DeleteFunc(s.open, func(o *run) bool { return o == r })
	s.ended.add(r, s.ranged)
}

// all adds up all runs.
func (s *summaries) all() ended {
	e := s.ended
	e.sum, e.unfinished.Last = event.Summary{}, slices.Clone(e.unfinished.Last)
	addSummary(&e.sum, &s.ended.sum)
	for _, r := range s.open {
		e.add(r, s.ranged)
	}
	slices.SortStableFunc(e.sum.Gaps, func(a, b event.Gap) int { return a.From.Compare(b.From) })
	return e
}

func (s *summaries) summary() *event.Summary {
	e := s.all()
	if e.own != nil {
		return e.own
	}
	return &e.sum
}

// add adds up a run, whose own summary counts what was asked for unless that is a range.
func (e *ended) add(r *run, ranged bool) {
	e.runs++
	e.others += int(count(!r.histogram))
	if r.summary == nil && (!ranged || r.uncounted > 0) {
		e.unfinished.add(Unfinished{r.end, r.countedTo, r.uncounted})
	}
	if r.summary == nil && r.totals.Time.IsZero() && !r.any {
		if e.counted == 0 {
			e.sum.Time = r.end
		}
		return
	}
	if e.counted == 0 {
		e.sum = event.Summary{}
	}
	whole := r.summary != nil && !ranged
	if e.counted, e.own = e.counted+1, nil; whole && e.counted == 1 {
		e.own = r.summary
	}
	addSummary(&e.sum, r.count(whole))
}

func addSummary(sum, one *event.Summary) {
	last := sum.Totals.Time
	sum.Totals.Add(&one.Totals)
	if _, unknown := sum.Missing["tx_dropped_delta"]; unknown { // of one run is of no use
		for i := range sum.Interfaces {
			sum.Interfaces[i].TxDroppedDelta = nil
		}
	}
	if last.After(sum.Totals.Time) { // runs that were merged end in any order
		sum.Totals.Time = last
	}
	sum.Explained = addExplained(sum.Explained, one.Explained)
	sum.Flows = addFlows(sum.Flows, one.Flows)
}

// count returns the summary of a run.
func (r *run) count(whole bool) *event.Summary {
	if whole {
		return r.summary
	}
	s := &event.Summary{Totals: r.totals, Explained: r.explained}
	if r.summary == nil && r.recorded.Events > 0 {
		s.AddUncounted(&r.recorded, r.interfaces)
	}
	if s.Time.IsZero() {
		s.Time = r.end
	}
	if r.any || r.summary != nil && r.summary.Flows != nil {
		s.Flows = r.flows.summary()
	}
	return s
}

// Bounds of what a recording explains. xentrace knows some 30 things to explain, each with a
// few remedies.
const (
	mostExplained = 256
	mostAdvice    = 32 // of each
)

// addExplained adds up explanations of the same thing, with the advice of both.
func addExplained(sum, more []event.Explanation) []event.Explanation {
	for _, e := range more {
		i := slices.IndexFunc(sum, func(known event.Explanation) bool { return known.Name == e.Name && known.Verdict == e.Verdict })
		switch {
		case i >= 0:
			sum[i].Count += e.Count
			advice := event.AppendAdvice(slices.Clone(sum[i].Advice), e.Advice...)
			sum[i].Advice = advice[:min(len(advice), mostAdvice)]
		case len(sum) < mostExplained:
			e.Advice = e.Advice[:min(len(e.Advice), mostAdvice)]
			sum = append(sum, e)
		}
	}
	return sum
}

// An Unfinished is a run without a summary: it was killed, or is still running.
type Unfinished struct {
	End     time.Time // of its last event
	Counted time.Time // end of its last interval, zero if it has none
	Events  uint64    // packets and changes of flows since then, counted by their records
}

// mostUnfinished is how many runs without a summary are reported one by one.
const mostUnfinished = 3

// UnfinishedRuns are the runs without a summary; of a range only those with events in it that
// no interval counts.
type UnfinishedRuns struct {
	Last   []Unfinished // the 3 that ended last, in the order in which they ended
	Before uint64       // runs that ended before
	Events uint64       // theirs, as in Unfinished
}

func (u *UnfinishedRuns) add(r Unfinished) {
	u.Last = append(u.Last, r)
	slices.SortStableFunc(u.Last, func(a, b Unfinished) int { return a.End.Compare(b.End) })
	if len(u.Last) > mostUnfinished {
		u.Before, u.Events = u.Before+1, u.Events+u.Last[0].Events
		u.Last = slices.Delete(u.Last, 0, 1)
	}
}

// Unfinished returns the runs without a summary.
func (s *Source) Unfinished() UnfinishedRuns {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.summaries.all().unfinished
}

// Histogram reports whether all that was read are runs of xentrace hist.
func (s *Source) Histogram() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := s.summaries.all()
	return all.runs > 0 && all.others == 0
}
