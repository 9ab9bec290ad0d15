package output

import (
	"fmt"
	"strings"

	"xentrace/internal/event"
)

// stepIndent is where the sentences about a step begin, behind the status.
const stepIndent = len("verified") + 1

func stepColour(s event.FixStatus) colour {
	switch s {
	case event.Failed:
		return red
	case event.Refused:
		return yellow
	case event.Planned:
		return cyan
	default:
		return green
	}
}

// AppendFix appends what became of a step. All about it is told while it is
// planned or where it is refused; later what there is new to say.
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
	b = appendSpaces(t.appendColoured(b, stepColour(s.Status), word), stepIndent-len(word))
	start := len(b)
	b = appendWrapped(b, heading, stepIndent, t.width())
	b = append(b[:start], b[start+stepIndent:]...)
	if s.Status != event.Planned && s.Status != event.Refused {
		return b
	}
	b = t.appendOneAdvice(b, event.Advice{Command: s.Command, Effect: s.Effect, Cost: s.Cost}, stepIndent)
	for line := range strings.Lines(s.Content) {
		b = fmt.Appendf(appendSpaces(b, stepIndent), "| %s\n", Printable(strings.TrimSuffix(line, "\n")))
	}
	return b
}
