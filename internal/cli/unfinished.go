package cli

import (
	"fmt"
	"slices"
	"time"

	"xentrace/internal/output"
	"xentrace/internal/record"
)

// mostUnfinished is how many runs without a summary are reported one by one, the last ones.
const mostUnfinished = 3

// unfinishedSentences say what counts leave out of runs that have no summary.
func unfinishedSentences(runs []record.Unfinished, zone *time.Location) (all []string) {
	runs = slices.Clone(runs)
	slices.SortStableFunc(runs, func(a, b record.Unfinished) int { return a.End.Compare(b.End) })
	if more := len(runs) - mostUnfinished; more > 0 {
		events := uint64(0)
		for _, r := range runs[:more] {
			events += r.Events
		}
		all = append(all, fmt.Sprintf("%s without a summary before; %s not counted", amount(uint64(more), "run"), amount(events, "event")))
		runs = runs[more:]
	}
	for _, r := range runs {
		all = append(all, unfinishedSentence(r, zone))
	}
	return all
}

func unfinishedSentence(r record.Unfinished, zone *time.Location) string {
	clock := func(at time.Time) string { return at.In(zone).Format("2006-01-02 15:04:05") }
	run := "run ended at " + clock(r.End) + " without a summary (killed, or still running): "
	switch {
	case r.Counted.IsZero():
		return run + fmt.Sprintf("it has no interval yet (10 s); its %s shown, not counted", amount(r.Events, "event"))
	case r.Events == 0:
		return run + "counts end at its last interval, " + clock(r.Counted)
	}
	return run + fmt.Sprintf("counts end at its last interval, %s; %s after it shown, not counted", clock(r.Counted), amount(r.Events, "event"))
}

func amount(n uint64, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return output.Grouped(n) + " " + noun + "s"
}
