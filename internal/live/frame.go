package live

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"xentrace/internal/event"
	"xentrace/internal/output"
)

// What a screen must have at least.
const (
	leastColumns = 60
	leastRows    = 15
)

// frame returns what is on the screen: as many lines as it has rows, none wider than
// it is.
func (m *model) frame(columns, rows int) []line {
	if columns < leastColumns || rows < leastRows {
		return fill(m.tooSmall(columns, rows), rows)
	}
	top := append(m.titleLines(columns), m.countLines(columns)...)
	top = append(top, m.interfaceLines(columns, rows)...)
	room := max(rows-len(top)-1, 0)
	var body []line
	switch m.page {
	case details:
		body = m.pageLines(m.detailLines(columns), room)
	case help:
		body = m.pageLines(m.helpLines(columns), room)
	default:
		body = m.overviewLines(columns, room)
	}
	frame := append(fill(append(top, body...), rows-1), m.keyLine(columns))
	for i, l := range frame {
		frame[i] = cutLine(l, columns, m.more())
	}
	return frame
}

func fill(lines []line, rows int) []line {
	return append(lines, make([]line, max(rows-len(lines), 0))...)[:rows]
}

// tooSmall shows the size that is needed, cut to the screen.
func (m *model) tooSmall(columns, rows int) []line {
	text := fmt.Sprintf("The terminal is too small: %dx%d, needs %dx%d. Still counting; q quits.", columns, rows, leastColumns, leastRows)
	return appendLabelled(nil, span{}, 0, span{text, plain}, columns)
}

func (m *model) more() string {
	if m.blocks {
		return "…"
	}
	return "~"
}

func (m *model) rule(text string, columns int) line {
	dash := "-"
	if m.blocks {
		dash = "─"
	}
	l := line{{dash + dash + " ", plain}, {text, heading}, {" ", plain}}
	l[2].text += strings.Repeat(dash, max(columns-l.width(), 0))
	return l
}

func (m *model) titleLines(columns int) []line {
	spans := []span{{"xentrace watch", heading}, {output.Clock(m.duration()), plain}}
	if left := m.until.Sub(m.time()); !m.until.IsZero() {
		spans[1].text += " (" + output.Clock(max(left, 0)) + " to go)"
	}
	spans = append(spans, span{"backend " + string(m.backend), plain})
	if m.paused {
		spans = append(spans, span{"PAUSED at " + m.pausedAt.Format(timeLayout) + ", still counting", alarm})
	}
	return wrapSpans(spans, 3, columns)
}

const timeLayout = "15:04:05"

func (m *model) countLines(columns int) []line {
	spans := m.countSpans()
	cellWidth := 0
	for _, s := range spans {
		cellWidth = max(cellWidth, width(s.text))
	}
	const gap = 2
	for i := range spans { // in columns, so that they stay where they are
		spans[i].text = left(spans[i].text, cellWidth)
		if 2*cellWidth+gap > columns { // large numbers on a narrow screen
			spans[i].text = strings.Join(strings.Fields(spans[i].text), " ")
		}
	}
	return append(wrapSpans(spans, gap, columns), wrapSpans([]span{m.lostSpan(), m.stalledSpan()}, 3, columns)...)
}

func (m *model) countSpans() []span {
	type sum = *event.InterfaceTotals
	spans := []span{
		m.countSpan("packets", plain, func(s sum) uint64 { return s.Packets }),
		m.countSpan("dropped", toneDropped, func(s sum) uint64 { return s.Dropped }),
		m.countSpan("linearized", toneLinearized, func(s sum) uint64 { return s.Linearized }),
		m.countSpan("bounced", toneBounced, func(s sum) uint64 { return s.Bounced }),
		m.countSpan("over_limit", toneOverLimit, func(s sum) uint64 { return s.OverLimit }),
	}
	if m.elsewhere() {
		spans = append(spans, m.countSpan("elsewhere", toneDropped, func(s sum) uint64 { return s.Elsewhere }))
	}
	if m.latest.Totals.Sum().Rejected != nil {
		spans = append(spans, m.countSpan("rejected", toneDropped, func(s sum) uint64 {
			if s.Rejected == nil {
				return 0
			}
			return *s.Rejected
		}))
	}
	return spans
}

// countSpan is one count and how fast it moves; in colour unless it is 0.
func (m *model) countSpan(name string, t tone, of func(*event.InterfaceTotals) uint64) span {
	count := func(t *event.Totals) uint64 {
		sum := t.Sum()
		return of(&sum)
	}
	now := count(&m.latest.Totals)
	if now == 0 {
		t = plain
	}
	return span{fmt.Sprintf("%-10s %9s %6s/s", name, output.Grouped(now), output.Grouped(m.rates.per(count))), t}
}

func (m *model) lostSpan() span {
	lost, flows := &m.latest.Totals.Lost, m.latest.FlowsLost
	sum := output.LostRecords(&m.latest.Totals) + flows
	return alarmIf(sum != 0, fmt.Sprintf("lost %s (ring %s, flows %s, recursion %s, missed %s)", output.Grouped(sum),
		output.Grouped(lost.Ring), output.Grouped(flows), known(lost.Recursion), known(lost.Missed)))
}

func alarmIf(bad bool, text string) span {
	if bad {
		return span{text, alarm}
	}
	return span{text, plain}
}

// known is a count, or ? if this kernel does not report it.
func known(n *uint64) string {
	if n == nil {
		return "?"
	}
	return output.Grouped(*n)
}

func (m *model) stalledSpan() span {
	return alarmIf(m.latest.Stalled != 0, "stalled now "+strconv.Itoa(m.latest.Stalled))
}

func (m *model) keyLine(columns int) line {
	keys := "up/down  enter details  s sort  p pause  ? help  q quit"
	switch m.page {
	case details:
		keys = m.scrollWords() + "esc back  p pause  ? help  q quit"
	case help:
		keys = m.scrollWords() + "esc back  q quit"
	}
	return line{{left(keys, columns), selected}}
}

func (m *model) scrollWords() string {
	switch below := m.overflow - m.scroll; {
	case below > 0:
		return fmt.Sprintf("up/down (%d lines below)  ", below)
	case m.overflow > 0:
		return "up/down  "
	}
	return ""
}

func (m *model) pageLines(all []line, room int) []line {
	m.listed, m.overflow = room, max(len(all)-room, 0)
	m.scroll = min(m.scroll, m.overflow)
	return all[m.scroll:min(m.scroll+room, len(all))]
}

// A Help is a key of the screen, or a word on it, and what it does or means.
type Help struct{ What, Means string }

// Keys are those of the screen.
func Keys() []Help { return keyTexts }

var keyTexts = []Help{
	{"up down", "select a flow, also k and j; scroll a page that is longer than the screen"},
	{"page up/down", "one screen up or down, also b and space"},
	{"home end", "first and last, also g and G"},
	{"enter", "details of the selected flow, and what to do about it; enter or esc returns"},
	{"s", "sort by stalled time, drops, last seen or sndq in turn"},
	{"p", "pause or resume the display; counting continues"},
	{"^L", "redraw the screen"},
	{"^Z", "suspend; fg resumes. Events that find the ring buffer full meanwhile count in lost"},
	{"?", "this page, also h"},
	{"q", "quit, also ^C; prints the summary"},
}

var wordTexts = []Help{
	{"over_limit", "packets over the slot limit (18), whatever their verdict"},
	{"tx_dropped", "delta of the interface's own counter since the start"},
	{"lost", "not recorded. ring: ring buffer full; flows: flow table full (the counts are right in both cases); recursion and missed: the kernel skipped a BPF program, and its packet may not be counted. ?: this kernel does not report it"},
	{"stalled", "the same sequence number was dropped at least twice, and nothing was acknowledged since the first drop; recovered: it was acknowledged"},
	{"flow", "source and destination; TCP unless another protocol is named"},
	{"sndq", "unacknowledged bytes (write_seq - snd_una)"},
	{"retrans", "segments retransmitted since the first drop"},
}

func (m *model) helpLines(columns int) []line {
	const indent = 14
	lines := []line{m.rule("help", columns)}
	for _, h := range slices.Concat(keyTexts, []Help{{}}, wordTexts) {
		lines = appendLabelled(lines, span{h.What, heading}, indent, span{h.Means, plain}, columns)
	}
	return lines
}

var (
	toneDropped    = toneOf(event.Dropped)
	toneLinearized = toneOf(event.Linearized)
	toneBounced    = toneOf(event.Bounced)
	toneOverLimit  = toneOf(event.OverLimit)
)

func toneOf(v event.Verdict) tone { return tone{colour: output.VerdictColour(v)} }

// elsewhere reports whether drops outside the driver are counted.
func (m *model) elsewhere() bool { return m.latest.Totals.Drops == event.DropsAll }

// interfaceLines is a table of the interfaces, those that lost most first. It uses a
// sixth of the rows at most.
func (m *model) interfaceLines(columns, rows int) []line {
	all := slices.Clone(m.latest.Totals.Interfaces)
	slices.SortStableFunc(all, func(a, b event.InterfaceTotals) int {
		return -cmp.Or(cmp.Compare(a.Dropped+a.Elsewhere, b.Dropped+b.Elsewhere), cmp.Compare(a.OverLimit, b.OverLimit), cmp.Compare(a.Packets, b.Packets))
	})
	if len(all) == 0 {
		return []line{{{"no interface yet", plain}}}
	}
	most := max(rows/6, 2)
	shown := all
	if len(all) > most {
		shown = all[:most-1]
	}
	head, body := table(m.interfaceColumns(shown), len(shown), columns, m.more())
	lines := append([]line{head}, body...)
	if hidden := len(all) - len(shown); hidden > 0 {
		lines = append(lines, line{{fmt.Sprintf("%d more interfaces with no more drops than these", hidden), plain}})
	}
	return lines
}

func (m *model) interfaceColumns(all []event.InterfaceTotals) []column {
	columns := []column{
		{name: "INTERFACE", worth: essential, least: 9}, {name: "DRIVER", worth: essential, least: 8},
		{name: "BACKEND", worth: 2}, {name: "QUEUES", worth: 1, toRight: true},
		{name: "PACKETS", worth: 3, toRight: true}, {name: "PACKETS/S", worth: 5, toRight: true},
		{name: "DROPPED", worth: essential, toRight: true}, {name: "LINEARIZED", worth: 7, toRight: true},
		{name: "BOUNCED", worth: 4, toRight: true}, {name: "OVER_LIMIT", worth: 8, toRight: true}, {name: "TX_DROPPED", worth: essential, toRight: true},
	}
	for i := range all {
		for c, entry := range m.interfaceCells(&all[i]) {
			columns[c].cells = append(columns[c].cells, entry)
		}
	}
	return columns
}

// interfaceCells are in the order of the columns.
func (m *model) interfaceCells(t *event.InterfaceTotals) []cell {
	count := func(n uint64, colour tone) cell {
		if n == 0 {
			colour = plain
		}
		return cell{output.Grouped(n), colour}
	}
	ifname, ifnameTone := name(t.Name), heading
	if t.Gone {
		ifname, ifnameTone = ifname+" (gone)", plain
	}
	moved := cell{"?", plain}
	if t.TxDroppedDelta != nil {
		moved = count(*t.TxDroppedDelta, toneDropped)
	}
	return []cell{
		{ifname, ifnameTone}, {steady(output.DriverName(t)), plain}, {string(t.Backend), plain}, {strconv.Itoa(t.Queues), plain},
		count(t.Packets, plain), count(m.rates.packets(t.Device), plain),
		count(t.Dropped, toneDropped), count(t.Linearized, toneLinearized), count(t.Bounced, toneBounced),
		count(t.OverLimit, toneOverLimit), moved,
	}
}
