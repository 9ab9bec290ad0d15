package live

import (
	"slices"
	"strconv"
	"strings"

	"xentrace/internal/event"
	"xentrace/internal/output"
)

// eventLines are the last events, the latest at the bottom. One that is longer than
// the screen is wide takes several lines; none is shown in part.
func (m *model) eventLines(columns, rows int) []line {
	if rows <= 0 {
		return nil
	}
	var lines []line
	for _, e := range slices.Backward(m.events(rows)) {
		one := m.eventLine(&e, columns)
		if len(lines)+len(one) > rows {
			break
		}
		lines = append(one, lines...)
	}
	return lines
}

// eventLine shows one event: time, what happened, and the flow.
func (m *model) eventLine(e *entry, columns int) []line {
	when := e.time.Local().Format(timeLayout) + " "
	what, t, rest := "", plain, steady(output.Printable(e.sentence))
	switch {
	case e.packet != nil:
		what, t, rest = m.packetWords(e.packet)
	case e.change != nil:
		what, t, rest = changeWords(e.change)
	}
	if what != "" && rest != "" {
		rest = " " + rest
	}
	if e.packet != nil && e.packet.Process != nil { // if it fits on the line
		if whole := rest + " of " + processName(e.packet.Process); width(when+what+whole) <= columns {
			rest = whole
		}
	}
	var lines []line
	for i, part := range wrap(what+rest, columns-len(when)) {
		switch {
		case i > 0:
			lines = append(lines, line{{spaces(len(when)), plain}, {part, plain}})
		case strings.HasPrefix(part, what):
			lines = append(lines, line{{when, plain}, {what, t}, {part[len(what):], plain}})
		default:
			lines = append(lines, line{{when, plain}, {part, t}})
		}
	}
	return lines
}

// packetWords is a packet's verdict, slots and flow.
func (m *model) packetWords(p *event.Packet) (what string, t tone, rest string) {
	what = p.Verdict.String()
	switch {
	case p.Layer == event.LayerElsewhere:
		what += " " + p.Layer.String()
	case p.Cause != event.CauseNone:
		what += " " + p.Cause.String()
	}
	rest = strconv.Itoa(p.Slots) + "/" + strconv.Itoa(p.Limit)
	if len(m.latest.Totals.Interfaces) != 1 {
		rest += " " + name(p.Interface.Name)
	}
	if p.Flow == nil {
		rest += " not IP"
	} else {
		rest += " " + output.Endpoints(p.Flow.Proto, p.Flow.Source, p.Flow.Destination)
	}
	if p.Layer == event.LayerElsewhere {
		rest += "  " + steady(output.Where(p))
	}
	return what, toneOf(p.Verdict), rest
}

// changeWords is a flow's new state and since when.
func changeWords(e *event.FlowEvent) (what string, t tone, rest string) {
	what, t = stateOf(e.Flow.State)
	rest = output.Endpoints(e.Flow.Proto, e.Flow.Source, e.Flow.Destination)
	if e.Flow.StalledFor != 0 {
		preposition := "after "
		if e.Flow.State == event.Stalled {
			preposition = "for "
		}
		rest = preposition + output.Seconds(e.Flow.StalledFor) + " " + rest
	}
	if e.Flow.Process != nil {
		rest += " of " + processName(e.Flow.Process)
	}
	return what, t, rest
}
