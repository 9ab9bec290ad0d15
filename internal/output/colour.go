package output

import (
	"xentrace/internal/event"
)

// A colour is the number of an SGR sequence.
type colour string

const (
	red     colour = "31"
	green   colour = "32"
	yellow  colour = "33"
	magenta colour = "35"
	cyan    colour = "36"
	bold    colour = "1"
)

func verdictColour(v event.Verdict) colour {
	switch v {
	case event.Dropped, event.Rejected:
		return red
	case event.Linearized:
		return yellow
	case event.OverLimit:
		return magenta
	case event.Bounced:
		return cyan
	default:
		return green
	}
}

// appendColoured appends text, in colour where the format has colours on.
func (t *Text) appendColoured(b []byte, c colour, text string) []byte {
	if !t.Color || c == "" {
		return append(b, text...)
	}
	b = append(b, "\x1b["...)
	b = append(b, c...)
	b = append(b, 'm')
	b = append(b, text...)
	return append(b, "\x1b[0m"...)
}
