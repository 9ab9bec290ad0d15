package output

import (
	"cmp"
	"fmt"
	"strconv"
	"strings"

	"xentrace/internal/event"
	"xentrace/internal/verdict"
)

const reportIndent = len("UNKNOWN") + 1

var statusColours = map[event.Status]colour{event.OK: green, event.Fail: red, event.Warn: yellow, event.Unknown: magenta}

// AppendReport appends each finding: its status, the sentence and, where something is
// wrong, the evidence and the advice; then what ec2rl would report, and the number of
// findings of each status.
func (t *Text) AppendReport(b []byte, r *event.Report) []byte {
	namespaces := severalNamespaces(r.Findings)
	spaced := true
	for n := range r.Findings {
		f := &r.Findings[n]
		if len(f.Advice) > 0 && !spaced {
			b = append(b, '\n')
		}
		b = t.appendFinding(b, f, namespaces)
		if spaced = len(f.Advice) > 0; spaced {
			b = append(b, '\n')
		}
	}
	if len(r.EC2RL) > 0 {
		b = t.appendOpinions(b, r.EC2RL, spaced)
	}
	if len(r.Findings) == 1 {
		return b // a driver's file
	}
	return t.appendStatuses(b, r.Findings, spaced && len(r.EC2RL) == 0)
}

func (t *Text) appendFinding(b []byte, f *event.Finding, namespaces bool) []byte {
	heading := string(f.ID)
	if f.Interface != "" {
		heading += " " + Escape(f.Interface)
		if namespaces {
			heading += fmt.Sprintf(" (network namespace %d)", f.NetNS)
		}
	}
	b = t.appendStatus(b, f.Status.String(), statusColours[f.Status], heading+": "+Printable(f.Message))
	if (f.Status != event.OK || t.Evidence) && len(f.Evidence) > 0 {
		b = appendWrapped(b, "("+Printable(facts(f.Evidence))+")", reportIndent, t.width())
	}
	return t.appendAdvice(b, f.Advice, reportIndent)
}

func (t *Text) appendStatus(b []byte, word string, c colour, text string) []byte {
	b = appendSpaces(t.appendColoured(b, c, word), reportIndent-len(word))
	return appendHanging(b, text, reportIndent, t.width())
}

func facts(evidence []event.Fact) string {
	var parts []string
	for _, fact := range evidence {
		value := "unknown"
		if fact.Value != nil {
			value = fmt.Sprint(fact.Value)
		}
		if value == "" {
			value = "none"
		}
		parts = append(parts, fact.Key+": "+value)
	}
	return strings.Join(parts, ", ")
}

func severalNamespaces(findings []event.Finding) bool {
	seen := map[uint32]bool{}
	for n := range findings {
		if ns := findings[n].NetNS; ns != 0 {
			seen[ns] = true
		}
	}
	return len(seen) > 1
}

// appendOpinions appends what ec2rl would report, and whether that is right.
func (t *Text) appendOpinions(b []byte, opinions []event.Opinion, spaced bool) []byte {
	if !spaced {
		b = append(b, '\n')
	}
	b = t.appendColoured(b, bold, "What ec2rl would report here")
	b = append(b, '\n')
	for _, o := range opinions {
		heading := Escape(o.Module)
		if o.Interface != "" {
			heading += " " + Escape(o.Interface)
		}
		right, c := "cannot be verified", magenta
		switch {
		case o.Right == nil:
		case *o.Right:
			right, c = "right", green
		default:
			right, c = "wrong", red
		}
		b = t.appendStatus(b, cmp.Or(Escape(o.Verdict), "?"), c, heading+", "+right+": "+Printable(o.Message))
	}
	return append(b, '\n')
}

func (t *Text) appendStatuses(b []byte, findings []event.Finding, spaced bool) []byte {
	counts := map[event.Status]int{}
	for n := range findings {
		counts[findings[n].Status]++
	}
	var parts []string
	for _, status := range event.Statuses() {
		parts = append(parts, fmt.Sprintf("%d %s", counts[status], status))
	}
	if !spaced && len(findings) > 0 && b[len(b)-2] != '\n' {
		b = append(b, '\n')
	}
	return append(append(b, strings.Join(parts, ", ")...), '\n')
}

const stepIndent = len("verified") + 1

var stepColours = map[event.FixStatus]colour{
	event.Failed: red, event.Refused: yellow, event.Planned: cyan, event.Applied: green, event.Verified: green, event.Reverted: green,
}

// AppendFix appends the status of a step. A planned or refused step is printed in full,
// later only what is new.
func (t *Text) AppendFix(b []byte, s *event.FixStep) []byte {
	heading := s.Name
	if s.Interface != "" {
		heading += " " + Escape(s.Interface)
	}
	if s.Path != "" {
		heading += " " + Escape(s.Path)
	}
	if s.Message != "" {
		heading += ": " + Printable(s.Message)
	}
	word := s.Status.String()
	b = appendSpaces(t.appendColoured(b, stepColours[s.Status], word), stepIndent-len(word))
	b = appendHanging(b, heading, stepIndent, t.width())
	if s.Status != event.Planned && s.Status != event.Refused {
		return b
	}
	b = t.appendAdvice(b, []event.Advice{{Command: s.Command, Effect: s.Effect, Cost: s.Cost}}, stepIndent)
	for line := range strings.Lines(s.Content) {
		b = fmt.Appendf(appendSpaces(b, stepIndent), "| %s\n", Printable(strings.TrimSuffix(line, "\n")))
	}
	return b
}

// verdictText is empty if the driver did not get the datagram.
func verdictText(r *event.Probe) string {
	if !r.Seen {
		return ""
	}
	return r.Verdict.String()
}

// AppendProbe appends one line with the verdict on a probe, and a sentence below it.
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
		b = append(b, fmt.Sprintf(", %s (limit %d), %d bytes", verdict.Count(r.Slots, "slot"), r.Limit, r.Len)...)
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

// AppendProbeEnd appends what to do about lost probes and, if there were several, how
// many were lost.
func (t *Text) AppendProbeEnd(b []byte, p *event.Probes) []byte {
	for _, e := range p.Explained {
		if len(e.Advice) > 0 {
			b = append(b, "\nWhat to do about "+Escape(e.Name)+":\n"...)
			b = t.appendAdvice(b, e.Advice, adviceIndent)
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

const adviceIndent = 4

// appendExplained appends a paragraph for each thing that was counted.
func (t *Text) appendExplained(b []byte, all []event.Explanation) []byte {
	for _, e := range all {
		b = t.appendParagraph(append(b, '\n'), verdictColour(e.Verdict), e.Name, " ("+Grouped(e.Count)+"): "+e.Meaning)
		b = t.appendAdvice(b, e.Advice, adviceIndent)
	}
	return b
}

func (t *Text) appendParagraph(b []byte, c colour, name, rest string) []byte {
	start := len(b)
	name = strings.Join(strings.Fields(Escape(name)), " ") // as long as what it becomes
	b = appendWrapped(b, name+rest, 0, t.width())
	if !t.Color {
		return b
	}
	rest = string(b[start+len(name):])
	return append(t.appendColoured(b[:start], c, name), rest...)
}

// appendAdvice appends each remedy: the command, then effect and cost, a line each.
func (t *Text) appendAdvice(b []byte, advice []event.Advice, indent int) []byte {
	for _, a := range advice {
		if a.Command != "" {
			b = t.appendCommand(b, a.Command, indent-2)
		}
		for _, sentence := range AboutAdvice(a) {
			b = appendWrapped(b, sentence, indent, t.width())
		}
	}
	return b
}

// AboutAdvice is effect and cost, a sentence each.
func AboutAdvice(a event.Advice) []string {
	var sentences []string
	if a.Effect != "" {
		sentences = append(sentences, a.Effect)
	}
	if a.Cost != "" {
		sentences = append(sentences, "Cost: "+a.Cost)
	}
	return sentences
}
