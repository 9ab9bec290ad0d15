package output

import (
	"bytes"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"xentrace/internal/event"
)

// mostCommands is how many commands are told with a flow that stalls: the best.
const mostCommands = 2

// AppendFlow appends what happened to a flow: the same columns as a packet's, then how
// long, what was lost and what waits. All of it is one line where lines stay whole.
func (t *Text) AppendFlow(b []byte, e *event.FlowEvent) []byte {
	f := &e.Flow
	device := Escape(f.Interface.Name)
	if t.widen(device, f.State.String()) && !t.Whole || !t.headed {
		b = t.appendHeader(b)
	}
	b = e.Time.In(t.location()).AppendFormat(b, timeLayout)
	b = appendLeft(append(b, ' '), device, t.device)
	b = t.appendColoured(append(b, ' '), stateColour(f.State), f.State.String())
	b = appendSpaces(b, t.verdict-len(f.State.String()))
	b = appendRight(append(b, ' '), mostSlots(f), slotsWidth)
	b = appendSpaces(append(b, ' '), lenWidth)
	used := continuation + t.device + 1 + t.verdict + 1 + slotsWidth + 1 + lenWidth
	name := t.appendFlow(nil, &event.Packet{Flow: headersOf(f)}, used)
	if name[0] == '\n' {
		b = bytes.TrimRight(b, " ")
	}
	b = append(b, name...)
	words := flowWords(f)
	if t.Whole {
		return append(append(append(b, ": "...), words...), '\n')
	}
	b = appendWrapped(append(b, '\n'), words, continuation, t.width())
	return t.appendCommands(b, f)
}

// appendCommands appends what would help a flow that has just stalled.
func (t *Text) appendCommands(b []byte, f *event.FlowHistory) []byte {
	if f.State != event.Stalled {
		return b
	}
	for _, command := range commandsFor(f) {
		b = t.appendCommand(b, command, continuation)
	}
	return b
}

func commandsFor(f *event.FlowHistory) []string {
	var commands []string
	for _, a := range f.Advice {
		if a.Command != "" && len(commands) < mostCommands {
			commands = append(commands, a.For(f.Interface.Name))
		}
	}
	return commands
}

func stateColour(s event.FlowState) colour {
	switch s {
	case event.Stalled:
		return red
	case event.Recovered:
		return green
	case event.Closed:
		return cyan
	}
	return yellow
}

// mostSlots is the largest packet of a flow that went wrong, of the slots that there are.
func mostSlots(f *event.FlowHistory) string {
	return strconv.Itoa(f.MaxSlots) + "/" + strconv.Itoa(f.Packet.Limit)
}

// flowWords says how a flow stands: since when, what was lost of it, what waits, whose
// it is.
func flowWords(f *event.FlowHistory) string {
	parts := []string{fmt.Sprintf("%s dropped (%s)", plural(f.Drops, "packet"), FlowCauses(f))}
	if since := sinceWords(f); since != "" {
		parts = append([]string{since}, parts...)
	}
	if f.TCP != nil {
		if f.TCP.SameSeq > 1 {
			parts = append(parts, fmt.Sprintf("%d of them at sequence number %d", f.TCP.SameSeq, f.TCP.Seq))
		}
		parts = append(parts, fmt.Sprintf("%s sent again", plural(uint64(f.TCP.Retransmits), "segment")))
		if f.TCP.SndQBytes != 0 || f.State == event.Stalled {
			parts = append(parts, ByteSize(uint64(f.TCP.SndQBytes))+" waiting")
		}
	}
	if f.Process != nil {
		parts = append(parts, "sent by "+Escape(f.Process.Comm)+" (pid "+strconv.Itoa(f.Process.PID)+")")
	}
	if f.Layout != "" {
		parts = append(parts, f.Layout)
	}
	return strings.Join(parts, ", ")
}

func sinceWords(f *event.FlowHistory) string {
	switch {
	case f.State == event.Stalled:
		return "nothing acknowledged for " + Seconds(f.StalledFor)
	case f.State == event.Recovered:
		return "acknowledged again after " + Seconds(f.StalledFor)
	case f.State == event.Closed && f.StalledAtEnd:
		return "ended while it was stalled, for " + Seconds(f.StalledFor)
	case f.StalledFor != 0:
		return "it had been stalled for " + Seconds(f.StalledFor)
	}
	return ""
}

// FlowCauses lists why packets of a flow were dropped, the driver's causes first.
func FlowCauses(f *event.FlowHistory) string {
	var causes []string
	for _, c := range event.Causes() {
		if n := f.Causes[c]; n != 0 {
			causes = append(causes, c.String()+" "+Grouped(n))
		}
	}
	for _, reason := range slices.Sorted(maps.Keys(f.Reasons)) {
		name := "elsewhere"
		if reason != "" {
			name = Escape(reason)
		}
		causes = append(causes, name+" "+Grouped(f.Reasons[reason]))
	}
	return strings.Join(causes, ", ")
}

// appendFlows appends the worst of the flows that lost packets.
func (t *Text) appendFlows(b []byte, s *event.FlowSummary) []byte {
	if s == nil || len(s.Flows) == 0 && s.Lost == 0 {
		return b
	}
	b = t.appendColoured(append(b, '\n'), bold, "flows that lost packets")
	b = append(b, ": "...)
	b = append(b, flowsNote(s)...)
	b = append(b, '\n')
	for i := range s.Flows {
		f := &s.Flows[i]
		b = t.appendColoured(append(b, "  "...), stateColour(f.State), f.State.String())
		b = appendSpaces(b, len("recovered")-len(f.State.String())+2)
		b = appendHanging(b, flowName(f)+" on "+Escape(f.Interface.Name)+": "+flowWords(f), flowColumn, t.width())
	}
	if s.Lost > 0 {
		b = appendWrapped(b, plural(s.Lost, "flow")+" found no room in the table of flows; their packets were told of and counted.", 2, t.width())
	}
	return b
}

// flowColumn is where the flows of the summary begin, behind their state.
const flowColumn = 2 + len("recovered") + 2

func flowsNote(s *event.FlowSummary) string {
	note := fmt.Sprintf("%s stalled, %s still is", Grouped(s.EverStalled), Grouped(uint64(s.Stalled)))
	if s.Stalled != 1 {
		note = fmt.Sprintf("%s stalled, %s still are", Grouped(s.EverStalled), Grouped(uint64(s.Stalled)))
	}
	return note + "; the worst first"
}

func flowName(f *event.FlowHistory) string { return Endpoints(f.Proto, f.Source, f.Destination) }
