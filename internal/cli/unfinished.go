package cli

import (
	"fmt"
	"time"

	"xentrace/internal/output"
	"xentrace/internal/record"
)

// unfinishedSentences say what counts leave out of runs that have no summary.
func unfinishedSentences(runs record.UnfinishedRuns, zone *time.Location) (all []string) {
	if runs.Before > 0 {
		all = append(all, fmt.Sprintf("%s without a summary before; %s not counted", amount(runs.Before, "run"), amount(runs.Events, "event")))
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
