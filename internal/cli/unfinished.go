package cli

import (
	"fmt"
	"slices"
	"time"

	"xentrace/internal/event"
	"xentrace/internal/output"
	"xentrace/internal/record"
	"xentrace/internal/remedy"
	"xentrace/internal/verdict"
)

// unfinishedSentences say how the events of runs without a summary are counted.
func unfinishedSentences(runs record.UnfinishedRuns, zone *time.Location) (all []string) {
	if runs.Before > 0 {
		all = append(all, fmt.Sprintf("%s without a summary before; %s", amount(runs.Before, "run"), fromRecords(runs.Events, "")))
	}
	for _, r := range runs.Last {
		all = append(all, unfinishedSentence(r, zone))
	}
	return all
}

func unfinishedSentence(r record.Unfinished, zone *time.Location) string {
	clock := func(at time.Time) string { return at.In(zone).Format("2006-01-02 15:04:05") }
	run := "run ended at " + clock(r.End) + " without a summary (killed, or still running): "
	switch {
	case r.Counted.IsZero() && r.Events == 0:
		return run + "it has no event and no interval yet (10 s)"
	case r.Counted.IsZero():
		return run + "it has no interval yet (10 s); " + fromRecords(r.Events, "")
	case r.Events == 0:
		return run + "counts end at its last interval, " + clock(r.Counted)
	}
	return run + fmt.Sprintf("counts end at its last interval, %s; %s", clock(r.Counted), fromRecords(r.Events, "later "))
}

// fromRecords is what of a run is counted without an interval: packets that went wrong.
func fromRecords(events uint64, when string) string {
	if events == 1 {
		return "1 " + when + "event is counted from its record"
	}
	return amount(events, when+"event") + " are counted from their records"
}

func amount(n uint64, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return output.Grouped(n) + " " + noun + "s"
}

// explainRecorded adds the meaning of what only records show: no interval of a run that was
// killed explains it.
func explainRecorded(s *event.Summary, runs record.UnfinishedRuns) {
	if len(runs.Last) == 0 {
		return
	}
	for _, e := range verdict.Explain(&s.Totals, func(d event.Device) remedy.Facts { return remedy.Facts{Interface: d.Name} }) {
		i := slices.IndexFunc(s.Explained, func(known event.Explanation) bool { return known.Name == e.Name && known.Verdict == e.Verdict })
		if i < 0 {
			s.Explained = append(s.Explained, e)
			continue
		}
		s.Explained[i].Count = e.Count
	}
}
