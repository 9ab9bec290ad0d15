package output

import (
	"fmt"
	"strconv"

	"xentrace/internal/event"
	"xentrace/internal/probe"
	"xentrace/internal/slots"
	"xentrace/internal/verdict"
)

// verdictText is empty where nothing is known of the datagram.
func verdictText(r *probe.Result) string {
	if !r.Seen {
		return ""
	}
	return r.Verdict.String()
}

// AppendProbe appends one line with what became of a probe, and what is to be said of
// this one below it.
func (t *Text) AppendProbe(b []byte, r *probe.Result) []byte {
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
		b = append(b, fmt.Sprintf(", %s (the limit is %d), %d bytes", Count(r.Slots, "slot"), r.Limit, r.Len)...)
	}
	if r.Flow != nil {
		b = append(b, ", "+r.Flow.Source.String()+" > "+r.Flow.Destination.String()+" "+protocolName(r.Flow.Proto)...)
	}
	if r.Attempts > 1 {
		b = append(b, ", attempt "+strconv.Itoa(r.Attempts)...)
	}
	b = append(b, '\n')
	return appendWrapped(b, Printable(ProbeMessage(r)), 2, t.width())
}

// AppendProbeEnd appends what to do about what was lost, and, of several probes, how
// many were.
func (t *Text) AppendProbeEnd(b []byte, results []probe.Result) []byte {
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

// Count is a number of things, in words.
func Count(n int, thing string) string {
	if n == 1 {
		return "1 " + thing
	}
	return strconv.Itoa(n) + " " + thing + "s"
}

// ProbeMessage says in sentences what became of a probe.
func ProbeMessage(r *probe.Result) string {
	if !r.Seen {
		return "What the driver would do is not known: " + r.Unseen + "."
	}
	text := probeFate(r)
	if !r.Reached {
		text += " " + notReached(r)
	}
	return text
}

// probeFate says what became of the datagram.
func probeFate(r *probe.Result) string {
	switch r.Verdict {
	case event.Dropped:
		return verdict.OfCause(r.Cause).Meaning
	case event.Rejected, event.OverLimit:
		return verdict.OfVerdict(r.Verdict).Meaning
	case event.Linearized, event.Bounced:
		return verdict.OfVerdict(r.Verdict).Meaning + answerSentence(r)
	}
	if !r.Interface.IsNetfront() {
		text := "Another driver sent the datagram; a Xen frontend would have sent it, too."
		if r.ScatterGatherOff && r.Slots > 1 {
			text = "Another driver sent the datagram; a Xen frontend would have dropped it, since scatter-gather is off."
		}
		return text
	}
	if r.Slots > slots.Limit {
		return "The driver neither linearizes nor drops what is over the limit: it sent the datagram as it was." + answerSentence(r)
	}
	return "The datagram was within the limit, and the driver sent it as it was." + answerSentence(r)
}

// answerSentence says what the backend made of a datagram that the driver sent.
func answerSentence(r *probe.Result) string {
	switch {
	case r.Answer == probe.Accepted:
		return " The backend took it."
	case r.AnswerMissing != "":
		return " Whether the backend took it is not known: " + r.AnswerMissing + "."
	}
	return ""
}

// notReached says that the datagram was not the one that was wanted.
func notReached(r *probe.Result) string {
	switch {
	case r.ScatterGatherOff:
		return fmt.Sprintf("Scatter-gather is off, so that a packet of two slots is one too many; no small datagram had a head across a page boundary in %d attempts, as they have on some kernels from 6.3 on.", r.Attempts)
	case r.Asked != 0:
		return fmt.Sprintf("No datagram had the %d slots that were asked for in %d attempts.", r.Asked, r.Attempts)
	}
	return fmt.Sprintf("No datagram was over the limit in %d attempts, so this shows nothing.", r.Attempts)
}
