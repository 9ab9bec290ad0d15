package output

import (
	"maps"
	"slices"
	"strings"

	"xentrace/internal/event"
)

// appendReason appends why and where a packet was dropped outside the driver.
func appendReason(b []byte, p *event.Packet) []byte {
	b = append(b, `,"reason":`...)
	if p.Reason == "" {
		b = append(b, "null"...)
	} else {
		b = appendString(b, p.Reason)
	}
	b = append(b, `,"stack":[`...)
	for i, frame := range p.Stack {
		if i > 0 {
			b = append(b, ',')
		}
		b = appendString(b, frame)
	}
	return append(b, ']')
}

// where says in a few words why and where a packet was dropped outside the driver:
// the kernel's reason, and the function.
func where(p *event.Packet) string {
	var words []string
	if p.Reason != "" {
		words = append(words, p.Reason)
	}
	if len(p.Stack) > 0 {
		function, rest, _ := strings.Cut(p.Stack[0], "+")
		if _, module, inModule := strings.Cut(rest, " "); inModule {
			function += " " + module
		}
		words = append(words, "in "+function)
	}
	return Escape(strings.Join(words, " "))
}

// appendWhere appends where a packet was dropped, behind its flow if there is room, and
// ends the line. broken: the flow has gone to a line of its own already.
func (t *Text) appendWhere(b []byte, p *event.Packet, used int, broken bool) []byte {
	words := where(p)
	switch {
	case words == "":
	case t.Whole || !broken && used+2+len(words) <= t.width():
		b = append(append(b, "  "...), words...)
	default:
		b = append(appendSpaces(append(b, '\n'), continuation), words...)
	}
	return t.appendStack(append(b, '\n'), p)
}

// appendStack appends the functions that led to it, one a line.
func (t *Text) appendStack(b []byte, p *event.Packet) []byte {
	if !t.Stacks {
		return b
	}
	for _, frame := range p.Stack {
		b = append(appendSpaces(b, continuation), Escape(frame)...)
		b = append(b, '\n')
	}
	return b
}

// elsewhereNote lists the reasons of drops outside the driver.
func elsewhereNote(counts *event.InterfaceTotals) string {
	if counts.Elsewhere == 0 {
		return "none was dropped on its way to the driver"
	}
	var reasons []string
	for _, reason := range slices.Sorted(maps.Keys(counts.Reasons)) {
		reasons = append(reasons, Escape(reason)+" "+grouped(counts.Reasons[reason]))
	}
	if len(reasons) == 0 {
		return "dropped on their way to the driver"
	}
	return "dropped on their way to the driver: " + strings.Join(reasons, ", ")
}
