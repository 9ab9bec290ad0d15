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

// AppendProbeEnd appends what helps against what was lost and, of several probes, how many
// were lost.
func (t *Text) AppendProbeEnd(b []byte, p *event.Probes) []byte {
	for _, e := range p.Explained {
		if len(e.Advice) > 0 {
			b = append(b, "\nWhat helps against "+e.Name+":\n"...)
			b = t.appendAdvice(b, e.Advice)
		}
	}
	results, lost, unseen := p.Results, 0, 0
	for i := range results {
		if !results[i].Seen {
			unseen++
		}
		if results[i].Lost() {
			lost++
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
