package live

import (
	"fmt"
	"strconv"
	"strings"

	"xentrace/internal/event"
	"xentrace/internal/output"
)

// Where the text of a fact starts, behind its name.
const factColumn = 11

// How far advice and stacks are indented.
const factIndent = 4

// detailLines are the details of the selected flow.
func (m *model) detailLines(columns int) []line {
	f := &m.detail
	lines := []line{m.rule("one flow", columns), {{output.Endpoints(f.Proto, f.Source, f.Destination), heading}}}
	lines[1] = cutLine(lines[1], columns, m.more())
	if m.gone {
		lines = appendFact(lines, "", "No longer tracked; this is its last known state.", plain, columns)
	}
	text, t := stateOf(f.State)
	lines = appendFact(lines, "state", text+stateSentence(f), t, columns)
	lines = appendFact(lines, "process", processSentence(f.Process), plain, columns)
	lines = appendFact(lines, "interface", fmt.Sprintf("%s, network namespace %d", name(f.Interface.Name), f.NetNS), plain, columns)
	lines = appendFact(lines, "packets", m.troubleSentence(f), plain, columns)
	if f.TCP != nil {
		lines = appendFact(lines, "TCP", m.tcpSentence(f.TCP), plain, columns)
	}
	if f.Layout != "" {
		lines = appendFact(lines, "layout", steady(f.Layout), plain, columns)
	}
	lines = appendAdvice(lines, f, columns)
	if len(f.Stack) > 0 {
		lines = append(lines, line{}, line{{"Stack of its last packet:", heading}})
	}
	for _, frame := range f.Stack {
		for _, part := range wrap(name(frame), columns-factIndent) {
			lines = append(lines, line{{spaces(factIndent), plain}, {part, plain}})
		}
	}
	return lines
}

// appendFact appends the name of a fact and, beside it, what there is to say.
func appendFact(lines []line, what, text string, t tone, columns int) []line {
	for i, part := range wrap(text, columns-factColumn) {
		if i > 0 {
			what = ""
		}
		lines = append(lines, line{{left(what, factColumn), plain}, {part, t}})
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

// troubleSentence lists the packets that went wrong, by verdict, and when.
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
	advice := f.Advice
	if len(advice) == 0 {
		return lines
	}
	lines = append(lines, line{}, line{{"What to do:", heading}})
	for _, a := range advice {
		lines = appendOneAdvice(lines, a, columns)
	}
	return lines
}

func appendOneAdvice(lines []line, a event.Advice, columns int) []line {
	const indent = factIndent
	if a.Command != "" {
		for i, part := range wrap(name(a.Command), columns-indent) {
			prompt := "  # "
			if i > 0 {
				prompt = spaces(indent)
			}
			lines = append(lines, line{{prompt, plain}, {part, heading}})
		}
	}
	for _, sentence := range output.AboutAdvice(a) {
		for _, part := range wrap(steady(sentence), columns-indent) {
			lines = append(lines, line{{spaces(indent), plain}, {part, plain}})
		}
	}
	return lines
}
