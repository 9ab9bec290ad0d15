package flow

import "time"

// A Summary is what there is to tell of flows at the end of a run.
type Summary struct {
	Counts
	Flows []Flow // those that lost packets, the worst first
}

// Summary returns what there is to tell at the end: the worst flows that lost packets,
// at most that many.
func (t *Table) Summary(now time.Time, most int) Summary {
	s := Summary{Counts: t.Counts()}
	for _, f := range t.Snapshot(now) {
		if f.Drops > 0 && len(s.Flows) < most {
			s.Flows = append(s.Flows, f)
		}
	}
	return s
}
