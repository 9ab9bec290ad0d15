package output

import (
	"fmt"
	"strconv"

	"xentrace/internal/event"
	"xentrace/internal/verdict"
)

// verdictText is empty where nothing is known of the datagram.
func verdictText(r *event.Probe) string {
	if !r.Seen {
		return ""
	}
	return r.Verdict.String()
}

// AppendProbe appends one line with what became of a probe, and what is to be said of
// this one below it.
func (t *Text) AppendProbe(b []byte, r *event.Probe) []byte {
	b = append(append(b, Escape(r.Interface.Name)...), ": "...)
	word, c := verdictText(r), verdictColour(r.Verdict)
	if !r.Seen {
		word, c = "not seen", magenta
	}
	b = t.appendColoured(b, c, word)
	if r.Cause != event.CauseNone {
		b = append(append(b, ' '), r.Cause.String()...)
	}
	if r.Seen {
		b = append(b, fmt.Sprintf(", %s (the limit is %d), %d bytes", verdict.Count(r.Slots, "slot"), r.Limit, r.Len)...)
	}
	if r.Flow != nil {
		b = append(b, ", "+r.Flow.Source.String()+" > "+r.Flow.Destination.String()+" "+protocolName(r.Flow.Proto)...)
	}
	if r.Attempts > 1 {
		b = append(b, ", attempt "+strconv.Itoa(r.Attempts)...)
	}
	b = append(b, '\n')
	return appendWrapped(b, Printable(verdict.ProbeSentence(r)), 2, t.width())
}

// AppendProbeEnd appends what to do about what was lost, and, of several probes, how
// many were.
func (t *Text) AppendProbeEnd(b []byte, results []event.Probe) []byte {
	lost, unseen := 0, 0
	told := make(map[string]bool)
	for i := range results {
		r := &results[i]
		if !r.Seen {
			unseen++
		}
		if !r.Lost() {
			continue
		}
		lost++
		rule := verdict.OfVerdict(r.Verdict)
		if r.Verdict == event.Dropped {
			rule = verdict.OfCause(r.Cause)
		}
		if told[rule.Name] {
			continue
		}
		told[rule.Name] = true
		if len(rule.Advice) > 0 {
			b = append(b, "\nWhat to do about "+rule.Name+":\n"...)
		}
		for _, a := range rule.Advice {
			b = t.appendAdvice(b, a, []string{r.Interface.Name})
		}
	}
	if len(results) < 2 {
		return b
	}
	if lost > 0 {
		b = append(b, '\n')
	}
	line := fmt.Sprintf("%d of %d lost", lost, len(results))
	if unseen > 0 {
		line += fmt.Sprintf(", %d not seen", unseen)
	}
	return append(append(b, line...), '\n')
}
