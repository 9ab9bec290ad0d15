package verdict

import (
	"fmt"
	"slices"
	"strconv"

	"xentrace/internal/event"
	"xentrace/internal/remedy"
	"xentrace/internal/slots"
)

// Count is a number of things, in words.
func Count(n int, thing string) string {
	if n == 1 {
		return "1 " + thing
	}
	return strconv.Itoa(n) + " " + thing + "s"
}

// ProbeSentence says what became of a probe.
func ProbeSentence(r *event.Probe) string {
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
func probeFate(r *event.Probe) string {
	switch r.Verdict {
	case event.Dropped:
		return OfCause(r.Cause).Meaning
	case event.Rejected, event.OverLimit:
		return OfVerdict(r.Verdict).Meaning
	case event.Linearized, event.Bounced:
		return OfVerdict(r.Verdict).Meaning + answerSentence(r)
	}
	if !r.Netfront {
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
func answerSentence(r *event.Probe) string {
	switch {
	case r.Answer == event.AnswerAccepted:
		return " The backend took it."
	case r.AnswerMissing != "":
		return " Whether the backend took it is not known: " + r.AnswerMissing + "."
	}
	return ""
}

// notReached says that the datagram was not the one that was wanted.
func notReached(r *event.Probe) string {
	switch {
	case r.ScatterGatherOff:
		return fmt.Sprintf("Scatter-gather is off, so that a packet of two slots is one too many; no small datagram had a head across a page boundary in %d attempts, as they have on some kernels from 6.3 on.", r.Attempts)
	case r.Asked != 0:
		return fmt.Sprintf("No datagram had the %d slots that were asked for in %d attempts.", r.Asked, r.Attempts)
	}
	return fmt.Sprintf("No datagram was over the limit in %d attempts, so this shows nothing.", r.Attempts)
}

// ExplainProbes explains what was lost of probes, each cause once.
func ExplainProbes(results []event.Probe, facts func(event.Device) remedy.Facts) []event.Explanation {
	var all []event.Explanation
	for i := range results {
		r := &results[i]
		if !r.Lost() {
			continue
		}
		rule := OfVerdict(r.Verdict)
		if r.Verdict == event.Dropped {
			rule = OfCause(r.Cause)
		}
		n := slices.IndexFunc(all, func(e event.Explanation) bool { return e.Name == rule.Name })
		if n < 0 {
			n = len(all)
			all = append(all, event.Explanation{Name: rule.Name, Verdict: r.Verdict, Meaning: rule.Meaning})
		}
		all[n].Count++
		all[n].Advice = event.AppendAdvice(all[n].Advice, remedy.For(facts(r.Interface), rule.Remedies...)...)
	}
	return all
}
