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

// ProbeSentence describes what the driver did with a probe.
func ProbeSentence(r *event.Probe) string {
	if !r.Seen {
		return "Unknown what the driver would do: " + r.Unseen + "."
	}
	text := probeFate(r)
	if !r.Reached {
		text += " " + notReached(r)
	}
	return text
}

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
		text := "Another driver sent the datagram; xen-netfront would have sent it too."
		if r.ScatterGatherOff && r.Slots > 1 {
			text = "Another driver sent the datagram; xen-netfront would have dropped it, because scatter-gather is off."
		}
		return text
	}
	if r.Slots > slots.Limit {
		return "The driver neither linearizes nor drops packets over the slot limit (18): it sent the datagram as it was." + answerSentence(r)
	}
	return "The datagram was within the slot limit; the driver sent it as it was." + answerSentence(r)
}

func answerSentence(r *event.Probe) string {
	switch {
	case r.Answer == event.AnswerAccepted:
		return " The backend accepted it."
	case r.AnswerMissing != "":
		return " The TX response is unknown: " + r.AnswerMissing + "."
	}
	return ""
}

// notReached reports that no datagram had as many slots as it should.
func notReached(r *event.Probe) string {
	switch {
	case r.ScatterGatherOff:
		return fmt.Sprintf("Scatter-gather is off, so a packet of 2 slots is dropped; in %d attempts no small datagram straddled a page boundary, as some do on kernels from 6.3.", r.Attempts)
	case r.Asked != 0:
		return fmt.Sprintf("No datagram had the requested %d slots in %d attempts.", r.Asked, r.Attempts)
	}
	return fmt.Sprintf("No datagram was over the slot limit in %d attempts, so this proves nothing.", r.Attempts)
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
