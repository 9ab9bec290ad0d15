package live

import (
	"fmt"
	"strconv"
	"strings"

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

// fill makes it as many lines as there are rows.
func fill(lines []line, rows int) []line {
	for len(lines) < rows {
		lines = append(lines, nil)
	}
	return lines[:rows]
}

// tooSmall shows the size that is needed, cut to the screen.
func (m *model) tooSmall(columns, rows int) []line {
	text := fmt.Sprintf("The terminal is too small: %dx%d, needs %dx%d. Still counting; q quits.", columns, rows, leastColumns, leastRows)
	var lines []line
	for _, part := range wrap(text, columns) {
		lines = append(lines, line{{part, plain}})
	}
	return lines
}

// more stands for what is cut off.
func (m *model) more() string {
	if m.blocks {
		return "…"
	}
	return "~"
}

// rule is a line with a heading in it.
func (m *model) rule(text string, columns int) line {
	dash := "-"
	if m.blocks {
		dash = "─"
	}
	l := line{{dash + dash + " ", plain}, {text, heading}, {" ", plain}}
	for n := l.width(); n < columns; n++ {
		l[2].text += dash
	}
	return l
}

// titleLines show what runs, for how long, and whether the display is paused.
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

// countLines are the totals and rates, what was lost, and how many flows stand still.
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
	now := sumOf(&m.latest.Totals)
	spans := []span{
		m.countSpan("packets", now.packets, 0, func(s sums) uint64 { return s.packets }),
		m.countSpan("dropped", now.dropped, toneDropped.colour, func(s sums) uint64 { return s.dropped }),
		m.countSpan("linearized", now.linearized, toneLinearized.colour, func(s sums) uint64 { return s.linearized }),
		m.countSpan("bounced", now.bounced, toneBounced.colour, func(s sums) uint64 { return s.bounced }),
		m.countSpan("over_limit", now.overLimit, toneOverLimit.colour, func(s sums) uint64 { return s.overLimit }),
	}
	if m.elsewhere() {
		spans = append(spans, m.countSpan("elsewhere", now.elsewhere, toneDropped.colour, func(s sums) uint64 { return s.elsewhere }))
	}
	if now.rejected != nil {
		spans = append(spans, m.countSpan("rejected", *now.rejected, toneDropped.colour, func(s sums) uint64 {
			if s.rejected == nil {
				return 0
			}
			return *s.rejected
		}))
	}
	return spans
}

// countSpan is one count and how fast it moves; in colour unless it is 0.
func (m *model) countSpan(name string, now uint64, colour int, of func(sums) uint64) span {
	if now == 0 {
		colour = 0
	}
	rate := m.rates.per(totalsCount(of))
	return span{fmt.Sprintf("%-10s %9s %6s/s", name, output.Grouped(now), output.Grouped(rate)), tone{colour: colour}}
}

// lostSpan shows what was lost, by cause.
func (m *model) lostSpan() span {
	lost, flows := &m.latest.Totals.Lost, m.latest.FlowsLost
	sum := output.LostRecords(&m.latest.Totals) + flows
	s := span{fmt.Sprintf("lost %s (ring %s, flows %s, recursion %s, missed %s)", output.Grouped(sum),
		output.Grouped(lost.Ring), output.Grouped(flows), known(lost.Recursion), known(lost.Missed)), plain}
	if sum != 0 {
		s.tone = alarm
	}
	return s
}

// known is a count, or ? if this kernel does not report it.
func known(n *uint64) string {
	if n == nil {
		return "?"
	}
	return output.Grouped(*n)
}

func (m *model) stalledSpan() span {
	s := span{"stalled now " + strconv.Itoa(m.latest.Stalled), plain}
	if m.latest.Stalled != 0 {
		s.tone = alarm
	}
	return s
}

// keyLine lists the keys of this page.
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

// scrollWords is how much of a page is below the screen.
func (m *model) scrollWords() string {
	switch below := m.overflow - m.scroll; {
	case below > 0:
		return fmt.Sprintf("up/down (%d lines below)  ", below)
	case m.overflow > 0:
		return "up/down  "
	}
	return ""
}

// pageLines is the part of a page that has room, as far as it was rolled.
func (m *model) pageLines(all []line, room int) []line {
	m.listed, m.overflow = room, max(len(all)-room, 0)
	m.scroll = min(m.scroll, m.overflow)
	return all[m.scroll:min(m.scroll+room, len(all))]
}
