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

// maxCommands is how many commands are printed for a flow that stalls: the best.
const maxCommands = 2

// AppendFlow appends what happened to a flow: the columns of a packet, then for how
// long, what was lost and what is unacknowledged. It is one line if lines stay whole.
func (t *Text) AppendFlow(b []byte, e *event.FlowEvent) []byte {
	f := &e.Flow
	b, used := t.appendColumns(b, e.Time, f.Interface.Name, f.State.String(), stateColours[f.State], f.MaxSlots, f.Packet.Limit, "")
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

func (t *Text) appendCommands(b []byte, f *event.FlowHistory) []byte {
	if f.State != event.Stalled {
		return b
	}
	shown := 0
	for _, a := range f.Advice {
		if a.Command != "" && shown < maxCommands {
			b = t.appendCommand(b, a.Command, continuation)
			shown++
		}
	}
	return b
}

var stateColours = map[event.FlowState]colour{event.Troubled: yellow, event.Stalled: red, event.Recovered: green, event.Closed: cyan}

// flowWords is the state of a flow: for how long, what was dropped, what is
// unacknowledged, and its owner.
func flowWords(f *event.FlowHistory) string {
	parts := []string{fmt.Sprintf("%s dropped (%s)", plural(f.Drops, "packet"), FlowCauses(f))}
	if since := sinceWords(f); since != "" {
		parts = append([]string{since}, parts...)
	}
	if f.TCP != nil {
		if f.TCP.SameSeq > 1 {
			parts = append(parts, fmt.Sprintf("%d of them at sequence number %d", f.TCP.SameSeq, f.TCP.Seq))
		}
		if !f.Inferred {
			parts = append(parts, plural(uint64(f.TCP.Retransmits), "segment")+" retransmitted")
		}
		if !f.Inferred && (f.TCP.SndQBytes != 0 || f.State == event.Stalled) {
			parts = append(parts, ByteSize(uint64(f.TCP.SndQBytes))+" unacknowledged")
		}
	}
	if nat := f.Packet.BeforeNAT; nat != nil {
		parts = append(parts, Endpoints(nat.Proto, nat.Source, nat.Destination)+" before NAT")
	}
	if f.Process != nil {
		parts = append(parts, "sent by "+Escape(f.Process.Comm)+" (pid "+strconv.Itoa(f.Process.PID)+")")
	}
	if f.Layout != "" {
		parts = append(parts, Printable(f.Layout))
	}
	return strings.Join(parts, ", ")
}

func sinceWords(f *event.FlowHistory) string {
	switch {
	case f.State == event.Stalled && f.Inferred:
		return "stalled for " + Seconds(f.StalledFor) + " (inferred from headers)"
	case f.State == event.Recovered && f.Inferred:
		return "was stalled for " + Seconds(f.StalledFor) + ", then nothing was dropped (inferred from headers: it goes through, or its sender gave up)"
	case f.State == event.Stalled:
		return "nothing acknowledged for " + Seconds(f.StalledFor)
	case f.State == event.Closed && f.StalledAtEnd:
		return "closed while stalled, for " + Seconds(f.StalledFor)
	case f.State == event.Recovered, f.StalledFor != 0:
		return "was stalled for " + Seconds(f.StalledFor)
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
		b = t.appendColoured(append(b, "  "...), stateColours[f.State], f.State.String())
		b = appendSpaces(b, len("recovered")-len(f.State.String())+2)
		b = appendHanging(b, flowName(f)+" on "+Escape(f.Interface.Name)+": "+flowWords(f), flowColumn, t.width())
	}
	if s.Lost > 0 {
		b = appendWrapped(b, plural(s.Lost, "flow")+" not tracked (table full); their packets are still reported", 2, t.width())
	}
	return b
}

const flowColumn = 2 + len("recovered") + 2

func flowsNote(s *event.FlowSummary) string {
	note := fmt.Sprintf("%s stalled, %s still stalled; ", Grouped(s.EverStalled), Grouped(uint64(s.Stalled)))
	if s.Losing > len(s.Flows) {
		return note + fmt.Sprintf("worst %d of %s", len(s.Flows), Grouped(uint64(s.Losing)))
	}
	return note + "worst first"
}

func flowName(f *event.FlowHistory) string { return Endpoints(f.Proto, f.Source, f.Destination) }

// FlowSentence describes a flow and its state in one line.
func FlowSentence(f *event.FlowHistory) string {
	return flowName(f) + " " + f.State.String() + ": " + flowWords(f)
}

// etherTypes are names of what is not IP, from the kernel's include/uapi/linux/if_ether.h.
var etherTypes = map[uint16]string{
	0x0806: "ARP", 0x8035: "RARP", 0x8100: "VLAN", 0x88a8: "QinQ", 0x9100: "QinQ", 0x8847: "MPLS", 0x8848: "MPLS multicast",
	0x8863: "PPPoE discovery", 0x8864: "PPPoE", 0x8809: "LACP", 0x888e: "802.1X", 0x88cc: "LLDP", 0x88e5: "MACsec", 0x88f7: "PTP",
	0x88a2: "AoE", 0x8906: "FCoE", 0x8915: "RoCE", 0x9000: "loopback test", 0x4305: "batman-adv",
}

// firstEtherType: smaller numbers are the length of an 802.3 frame with an LLC header, such as of
// the spanning tree.
const firstEtherType = 0x600

// Frame names a packet without a flow: by its EtherType, which the record has behind VLAN tags.
func Frame(p *event.Packet) string {
	name, known := etherTypes[p.EtherType]
	switch {
	case p.EtherType == 0:
		return "not IP"
	case known:
		return name
	case p.EtherType == 0x0800, p.EtherType == 0x86dd:
		return "IP, header incomplete"
	case p.EtherType < firstEtherType:
		return "LLC"
	}
	return fmt.Sprintf("EtherType 0x%04x", p.EtherType)
}
