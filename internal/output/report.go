package output

import (
	"fmt"
	"strings"

	"xentrace/internal/event"
)

// reportIndent is where the sentences of a report begin, behind the status.
const reportIndent = len("UNKNOWN") + 1

func statusColour(s event.Status) colour {
	switch s {
	case event.Fail:
		return red
	case event.Warn:
		return yellow
	case event.Unknown:
		return magenta
	default:
		return green
	}
}

// AppendReport appends each finding: its status, the sentence, and, where
// something is wrong, the evidence and the advice; then what ec2rl would say, and
// how many findings there are of each status.
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
	b = t.appendStatus(b, f.Status.String(), statusColour(f.Status), heading+": "+Printable(f.Message))
	if (f.Status != event.OK || t.Evidence) && len(f.Evidence) > 0 {
		b = appendWrapped(b, "("+Printable(facts(f.Evidence))+")", reportIndent, t.width())
	}
	for _, a := range f.Advice {
		b = t.appendOneAdvice(b, a, reportIndent)
	}
	return b
}

// appendStatus appends a word and, in a column of its own, a text.
func (t *Text) appendStatus(b []byte, word string, c colour, text string) []byte {
	b = appendSpaces(t.appendColoured(b, c, word), reportIndent-len(word))
	start := len(b)
	b = appendWrapped(b, text, reportIndent, t.width())
	return append(b[:start], b[start+reportIndent:]...)
}

// facts lists evidence in a line.
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
	first := uint32(0)
	for n := range findings {
		switch ns := findings[n].NetNS; {
		case ns == 0:
		case first == 0:
			first = ns
		case ns != first:
			return true
		}
	}
	return false
}

// appendOpinions appends what ec2rl would say, and whether it would be right.
func (t *Text) appendOpinions(b []byte, opinions []event.Opinion, spaced bool) []byte {
	if !spaced {
		b = append(b, '\n')
	}
	b = t.appendColoured(b, bold, "What ec2rl would say here")
	b = append(b, '\n')
	for _, o := range opinions {
		heading := o.Module
		if o.Interface != "" {
			heading += " " + Escape(o.Interface)
		}
		verdict := o.Verdict
		if verdict == "" {
			verdict = "?"
		}
		right, c := "that cannot be told", magenta
		switch {
		case o.Right == nil:
		case *o.Right:
			right, c = "right", green
		default:
			right, c = "wrong", red
		}
		b = t.appendStatus(b, verdict, c, heading+", "+right+": "+Printable(o.Message))
	}
	return append(b, '\n')
}

// appendStatuses appends the closing line.
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
