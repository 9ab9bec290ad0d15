package live

import (
	"cmp"
	"fmt"
	"strconv"
	"strings"
	"time"

	"xentrace/internal/event"
	"xentrace/internal/output"
)

// overviewLines are the worst flows and, below them, the last events.
func (m *model) overviewLines(columns, room int) []line {
	const frills = 3 // headings of both parts, and names of columns
	events := max((room-frills)/3, 2)
	if room < frills+events+1 { // flows are worth more
		events = 0
	}
	m.listed = min(len(m.flows), room-frills-events)
	if events == 0 {
		m.listed = max(min(len(m.flows), room-2), 0)
	}
	m.reveal()
	lines := append([]line{m.rule(m.flowsHeading(), columns)}, m.flowLines(columns)...)
	if events == 0 {
		return lines
	}
	lines = append(lines, m.rule("last events", columns))
	return append(lines, m.eventLines(columns, room-len(lines))...)
}

func (m *model) flowsHeading() string {
	text := fmt.Sprintf("flows with losses, by %s: %d", m.order, len(m.flows))
	switch {
	case len(m.flows) == 0:
		text = "flows with losses: none"
	case m.listed < len(m.flows):
		text = fmt.Sprintf("flows with losses, by %s: %d to %d of %d", m.order, m.top+1, m.top+m.listed, len(m.flows))
	}
	if m.latest.LeftOut > 0 {
		text += fmt.Sprintf(", %d filtered out", m.latest.LeftOut)
	}
	return text
}

func (m *model) flowLines(columns int) []line {
	if m.listed == 0 {
		return nil
	}
	shown := m.flows[m.top : m.top+m.listed]
	head, body := table(m.flowColumns(shown), len(shown), columns-len(unchosenMark), m.more())
	lines := []line{append(line{{unchosenMark, plain}}, head...)}
	for i, l := range body {
		if shown[i].FlowKey == m.chosen {
			l = append(line{{chosenMark, plain}}, l...)
			lines = append(lines, line{{left(l.String(), columns), selected}})
			continue
		}
		lines = append(lines, append(line{{unchosenMark, plain}}, l...))
	}
	return lines
}

const (
	chosenMark   = "> "
	unchosenMark = "  "
)

func (m *model) flowColumns(flows []event.FlowHistory) []column {
	sorted := func(by order, otherwise int) int {
		if m.order == by {
			return essential
		}
		return otherwise
	}
	columns := []column{
		{name: "STATE", worth: essential},
		{name: "DROPS", worth: sorted(byDrops, 8), toRight: true},
		{name: "SNDQ", worth: sorted(bySndQ, 4), toRight: true},
		{name: "SLOTS", worth: 2, toRight: true},
		{name: "RETRANS", worth: 1, toRight: true},
		{name: "LAST", worth: sorted(bySeen, 5), toRight: true},
		{name: "FLOW", worth: essential, least: leastFlow, shorten: shortenEnds},
		{name: "PROCESS", worth: 9, least: 18},
		{name: "INTERFACE", worth: 3, least: 9},
	}
	if len(m.latest.Totals.Interfaces) < 2 {
		columns = columns[:len(columns)-1]
	}
	for i := range flows {
		for c, entry := range m.flowCells(&flows[i])[:len(columns)] {
			columns[c].cells = append(columns[c].cells, entry)
		}
	}
	return columns
}

// flowCells are in the order of the columns.
func (m *model) flowCells(f *event.FlowHistory) []cell {
	text, t := stateOf(f.State)
	queued, retransmits := "", ""
	if f.StalledFor != 0 {
		text += " " + output.Seconds(f.StalledFor)
	}
	if f.TCP != nil {
		queued = output.ByteSize(uint64(f.TCP.SndQBytes))
		retransmits = output.Grouped(uint64(f.TCP.Retransmits))
	}
	return []cell{
		{text, t}, {output.Grouped(f.Drops), plain}, {queued, plain}, {slotRange(f), plain}, {retransmits, plain},
		{m.since(f.Last), plain}, {strings.TrimSuffix(output.Endpoints(f.Proto, f.Source, f.Destination), " tcp"), plain}, {processName(f.Process), plain},
		{name(f.Interface.Name), plain},
	}
}

func stateOf(s event.FlowState) (string, tone) {
	tones := map[event.FlowState]tone{event.Stalled: alarm, event.Recovered: relief}
	return s.String(), tones[s]
}

func slotRange(f *event.FlowHistory) string {
	if f.MinSlots == f.MaxSlots {
		return strconv.Itoa(f.MaxSlots)
	}
	return strconv.Itoa(f.MinSlots) + "-" + strconv.Itoa(f.MaxSlots)
}

// since is how long ago something was.
func (m *model) since(t time.Time) string {
	d := max(m.time().Sub(t), 0).Truncate(time.Second)
	if d < time.Minute {
		return strconv.Itoa(int(d/time.Second)) + " s" // what moves faster is not worth a drawing
	}
	return output.Seconds(d)
}

// leastFlow fits most pairs of IPv4 addresses and ports.
const leastFlow = 42

// shortenEnds shortens both ends of a flow in their middle: first and last parts of
// addresses, and ports, matter most.
func shortenEnds(text string, columns int, more string) string {
	const arrow = " > "
	source, destination, isPair := strings.Cut(text, arrow)
	if width(text) <= columns || !isPair {
		return cut(text, columns, more)
	}
	room := columns - len(arrow)
	return shortenMiddle(source, room/2, more) + arrow + shortenMiddle(destination, room-room/2, more)
}

func shortenMiddle(text string, columns int, more string) string {
	if width(text) <= columns {
		return text
	}
	room := max(columns-width(more), 0)
	return text[:room/2] + more + text[len(text)-(room-room/2):] // addresses are ASCII
}

func processName(p *event.Process) string {
	if p == nil {
		return "?"
	}
	return strconv.Itoa(p.PID) + " " + name(p.Comm)
}

// An order is what flows are sorted by, the worst first.
type order int

const (
	byStalled order = iota
	byDrops
	bySeen
	bySndQ
	orders
)

func (o order) String() string {
	return [...]string{"stalled time", "drops", "last seen", "sndq"}[o]
}

func (o order) next() order { return (o + 1) % orders }

// compare orders two flows: the one with more of the sort key comes first.
func (o order) compare(a, b event.FlowHistory) int {
	worse := 0
	switch o {
	case byStalled:
		worse = cmp.Or(cmp.Compare(rank(a), rank(b)), cmp.Compare(a.StalledFor, b.StalledFor))
	case bySeen:
		worse = a.Last.Compare(b.Last)
	case bySndQ:
		worse = cmp.Compare(sndQ(a), sndQ(b))
	}
	if worse = cmp.Or(worse, cmp.Compare(a.Drops, b.Drops)); worse != 0 {
		return -worse
	}
	return cmp.Or(a.Source.Compare(b.Source), a.Destination.Compare(b.Destination)) // they stay where they are
}

// rank sorts stalled flows before those that recovered.
func rank(f event.FlowHistory) int {
	switch f.State {
	case event.Stalled:
		return 2
	case event.Troubled:
		return 1
	default:
		return 0
	}
}

func sndQ(f event.FlowHistory) uint32 {
	if f.TCP == nil {
		return 0
	}
	return f.TCP.SndQBytes
}
