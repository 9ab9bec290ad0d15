package output

import "xentrace/internal/trace"

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

func verdictColour(v trace.Verdict) colour {
	switch v {
	case trace.Dropped, trace.Rejected:
		return red
	case trace.Linearized:
		return yellow
	case trace.OverLimit:
		return magenta
	case trace.Bounced:
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
