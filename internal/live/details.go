package live

import (
	"fmt"
	"strconv"
	"strings"

	"xentrace/internal/event"
	"xentrace/internal/output"
)

const factColumn = 11

const factIndent = 4

func (m *model) detailLines(columns int) []line {
	f := &m.detail
	lines := []line{m.rule("one flow", columns), {{output.Endpoints(f.Proto, f.Source, f.Destination), heading}}}
	lines[1] = cutLine(lines[1], columns, m.more())
	fact := func(name, text string, t tone) {
		lines = appendLabelled(lines, span{name, plain}, factColumn, span{text, t}, columns)
	}
	if m.gone {
		fact("", "No longer tracked; this is its last known state.", plain)
	}
	text, t := stateOf(f.State)
	fact("state", text+stateSentence(f), t)
	fact("process", processSentence(f.Process), plain)
	fact("interface", fmt.Sprintf("%s, network namespace %d", name(f.Interface.Name), f.NetNS), plain)
	fact("packets", m.troubleSentence(f), plain)
	if f.TCP != nil {
		fact("TCP", m.tcpSentence(f.TCP), plain)
	}
	if f.Layout != "" {
		fact("layout", steady(f.Layout), plain)
	}
	lines = appendAdvice(lines, f, columns)
	if len(f.Stack) > 0 {
		lines = append(lines, line{}, line{{"Stack of its last packet:", heading}})
	}
	for _, frame := range f.Stack {
		lines = appendLabelled(lines, span{}, factIndent, span{name(frame), plain}, columns)
	}
	return lines
}

func stateSentence(f *event.FlowHistory) string {
	if f.StalledSince.IsZero() {
		return ": never stalled"
	}
	since := " for " + output.Seconds(f.StalledFor) + ", since " + f.StalledSince.Local().Format(timeLayout)
	if f.State != event.Stalled {
		return "; was stalled" + since
	}
	if f.TCP == nil {
		return since
	}
	return since + fmt.Sprintf(": sequence number %d was dropped %d times, and nothing was acknowledged", f.TCP.Seq, f.TCP.SameSeq)
}

func processSentence(p *event.Process) string {
	if p == nil {
		return "unknown"
	}
	text := fmt.Sprintf("%s, pid %d, uid %d", name(p.Comm), p.PID, p.UID)
	if p.Unit != "" {
		text += ", unit " + name(p.Unit)
	}
	if p.Container != "" {
		text += ", container " + name(p.Container)
	}
	return text
}

func (m *model) troubleSentence(f *event.FlowHistory) string {
	text := "dropped " + output.Grouped(f.Drops)
	if causes := output.FlowCauses(f); causes != "" {
		text += " (" + steady(causes) + ")"
	}
	for _, other := range []struct {
		verdict event.Verdict
		count   uint64
	}{{event.Linearized, f.Linearized}, {event.Bounced, f.Bounced}, {event.Rejected, f.Rejected}, {event.OverLimit, f.OverLimit}} {
		if other.count != 0 {
			text += ", " + other.verdict.String() + " " + output.Grouped(other.count)
		}
	}
	slots := strings.Replace(slotRange(f), "-", " to ", 1) + " slots"
	if f.MaxSlots == 1 {
		slots = "1 slot"
	}
	return text + fmt.Sprintf("; %s; first at %s, last at %s, %s ago", slots,
		f.First.Local().Format(timeLayout), f.Last.Local().Format(timeLayout), m.since(f.Last))
}

func (m *model) tcpSentence(t *event.FlowTCP) string {
	text := fmt.Sprintf("%s, %s unacknowledged (snd_una %d, write_seq %d), %s segments retransmitted, RTO %s",
		output.TCPState(t.State), output.ByteSize(uint64(t.SndQBytes)), t.SndUna, t.WriteSeq, output.Grouped(uint64(t.Retransmits)), output.Seconds(t.RTO))
	switch {
	case t.Backoff == 1:
		text += ", doubled once"
	case t.Backoff > 1:
		text += ", doubled " + strconv.Itoa(t.Backoff) + " times"
	}
	if !t.Asked.IsZero() {
		text += "; read from the kernel " + m.since(t.Asked) + " ago"
	}
	return text
}

// appendAdvice appends what to do, best first.
func appendAdvice(lines []line, f *event.FlowHistory, columns int) []line {
	if len(f.Advice) == 0 {
		return lines
	}
	lines = append(lines, line{}, line{{"What to do:", heading}})
	for _, a := range f.Advice {
		if a.Command != "" {
			lines = appendLabelled(lines, span{"  # ", plain}, factIndent, span{name(a.Command), heading}, columns)
		}
		for _, sentence := range output.AboutAdvice(a) {
			lines = appendLabelled(lines, span{}, factIndent, span{steady(sentence), plain}, columns)
		}
	}
	return lines
}
