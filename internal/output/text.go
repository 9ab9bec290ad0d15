package output

import (
	"bytes"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"xentrace/internal/event"
)

// Text writes for people: aligned columns, a drawn histogram, sentences.
type Text struct {
	Width     func() int // columns of the terminal; nil means DefaultWidth
	Whole     bool       // a packet stays on one line, however long: for files and pipes
	Color     bool
	Blocks    bool           // draw with block characters; plain ASCII otherwise
	Stacks    bool           // show whole stacks
	Location  *time.Location // of the times shown
	Evidence  bool           // also of findings that are OK
	Histogram bool           // a summary has the histogram, as in hist
	Short     bool           // of congestion: a few lines, for an update every second

	// Columns are as wide as what was in them so far, to leave space for the flow.
	device, verdict int
	headed          bool // the header was written
}

const (
	timeLayout = "15:04:05.000"
	minDevice  = len("eth0")
	minVerdict = len("dropped sg_off")
	maxVerdict = len("dropped linearize_failed")
	slotsWidth = len("19/18")
	lenWidth   = len("65535")

	// DefaultWidth is assumed if the width of the terminal is unknown.
	DefaultWidth = 100

	// continuation is the column of a flow that does not fit after its packet: that
	// of the device.
	continuation = len(timeLayout) + 1
)

// WidenTo makes the device column wide enough for a name, so that columns do not move
// later.
func (t *Text) WidenTo(name string) {
	t.widen(Escape(name), "")
}

func (t *Text) widen(device, verdict string) bool {
	before := [2]int{t.device, t.verdict}
	t.device = max(t.device, minDevice, utf8.RuneCountInString(device))
	t.verdict = max(t.verdict, minVerdict, len(verdict))
	if t.Whole {
		t.verdict = maxVerdict // a file is wide enough, and needs no second header
	}
	return before != [2]int{t.device, t.verdict}
}

func (t *Text) width() int {
	if t.Width == nil {
		return DefaultWidth
	}
	return t.Width()
}

func (t *Text) appendHeader(b []byte) []byte {
	t.headed = true
	start := len(b)
	b = appendLeft(b, "TIME", len(timeLayout))
	b = appendLeft(append(b, ' '), "DEV", t.device)
	b = appendLeft(append(b, ' '), "VERDICT CAUSE", t.verdict)
	b = appendRight(append(b, ' '), "SLOTS", slotsWidth)
	b = appendRight(append(b, ' '), "LEN", lenWidth)
	b = append(b, " FLOW, SEQ"...)
	if process := ", PROCESS"; t.Whole || utf8.RuneCount(b[start:])+len(process) <= t.width() {
		b = append(b, process...)
	}
	line := string(b[start:])
	return append(t.appendColoured(b[:start], bold, line), '\n')
}

// AppendPacket appends one packet; above the first one, and again where a
// column has become wider, the names of the columns. The flow goes to the next
// line, or the next two, where the terminal is too narrow for it.
func (t *Text) AppendPacket(b []byte, p *event.Packet) []byte {
	b, used := t.appendColumns(b, p.Time, p.Interface.Name, VerdictWords(p), verdictColour(p.Verdict), p.Slots, p.Limit, strconv.Itoa(p.Len))
	start := len(b)
	b = t.appendInner(t.appendFlow(b, p, used), p.Inner, used, start)
	if p.Process != nil {
		b = t.appendWords(b, Escape(p.Process.Comm)+"("+strconv.Itoa(p.Process.PID)+")", used, start)
	}
	if p.Layer == event.LayerElsewhere {
		return t.appendWhere(b, p, used+utf8.RuneCount(b[start:]), bytes.IndexByte(b[start:], '\n') >= 0)
	}
	return t.appendStack(append(b, '\n'), p)
}

// VerdictWords is a packet's verdict with its cause, or where else it was dropped.
func VerdictWords(p *event.Packet) string {
	switch {
	case p.Layer == event.LayerElsewhere:
		return p.Verdict.String() + " " + p.Layer.String()
	case p.Cause != event.CauseNone:
		return p.Verdict.String() + " " + p.Cause.String()
	}
	return p.Verdict.String()
}

// appendColumns appends the columns before the flow, under a header where that is due,
// and returns their width.
func (t *Text) appendColumns(b []byte, when time.Time, device, verdict string, c colour, slots, limit int, length string) ([]byte, int) {
	device = Escape(device)
	if t.widen(device, verdict) && !t.Whole || !t.headed {
		b = t.appendHeader(b)
	}
	b = when.In(t.location()).AppendFormat(b, timeLayout)
	b = appendLeft(append(b, ' '), device, t.device)
	b = t.appendColoured(append(b, ' '), c, verdict)
	b = appendSpaces(b, t.verdict-len(verdict))
	b = appendRight(append(b, ' '), strconv.Itoa(slots)+"/"+strconv.Itoa(limit), slotsWidth)
	b = appendRight(append(b, ' '), length, lenWidth)
	return b, continuation + t.device + 1 + t.verdict + 1 + slotsWidth + 1 + lenWidth
}

func (t *Text) location() *time.Location {
	if t.Location == nil {
		return time.Local
	}
	return t.Location
}

// appendFlow appends flow, protocol and sequence number to a line of which used
// columns are taken.
func (t *Text) appendFlow(b []byte, p *event.Packet, used int) []byte {
	if p.Flow == nil {
		return append(append(b, ' '), Frame(p)...)
	}
	source, rest := endpoints(p.Flow.Proto, p.Flow.Source, p.Flow.Destination)
	if p.Flow.SeqKnown {
		rest += " " + strconv.FormatUint(uint64(p.Flow.Seq), 10)
	}
	if t.Whole || used+1+len(source)+len(rest) <= t.width() {
		return append(append(append(b, ' '), source...), rest...)
	}
	b = appendSpaces(append(b, '\n'), continuation)
	b = append(b, source...)
	if continuation+len(source)+len(rest) > t.width() {
		b = appendSpaces(append(b, '\n'), continuation)
		rest = rest[1:] // it starts with the arrow now
	}
	return append(b, rest...)
}

// appendInner appends what a tunnel carries, if the packet is one.
func (t *Text) appendInner(b []byte, inner *event.Flow, used, start int) []byte {
	if inner == nil {
		return b
	}
	return t.appendWords(b, "(inner "+Endpoints(inner.Proto, inner.Source, inner.Destination)+")", used, start)
}

// appendWords appends words after a flow that begins at start, in column used: on the same
// line if they fit.
func (t *Text) appendWords(b []byte, words string, used, start int) []byte {
	if end := bytes.LastIndexByte(b[start:], '\n'); end >= 0 {
		used, start = 0, start+end+1
	}
	if t.Whole || used+utf8.RuneCount(b[start:])+1+utf8.RuneCountInString(words) <= t.width() {
		return append(append(b, ' '), words...)
	}
	return append(appendSpaces(append(b, '\n'), continuation), words...)
}

// Where is the kernel's reason for a drop outside the driver, and the function.
func Where(p *event.Packet) string {
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

// appendWhere appends where a packet was dropped, after its flow if it fits, and
// ends the line. broken: the flow has gone to a line of its own already.
func (t *Text) appendWhere(b []byte, p *event.Packet, used int, broken bool) []byte {
	words := Where(p)
	switch {
	case words == "":
	case t.Whole || !broken && used+2+len(words) <= t.width():
		b = append(append(b, "  "...), words...)
	default:
		b = append(appendSpaces(append(b, '\n'), continuation), words...)
	}
	return t.appendStack(append(b, '\n'), p)
}

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
