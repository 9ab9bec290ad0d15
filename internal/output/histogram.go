package output

import (
	"fmt"
	"strconv"
	"strings"

	"xentrace/internal/event"
	"xentrace/internal/slots"
)

// AppendHistogram appends, for each interface, how many packets needed how many
// slots, the totals, and the closing line.
func (t *Text) AppendHistogram(b []byte, r *event.Summary) []byte {
	totals := &r.Totals
	for i := range totals.Interfaces {
		if i > 0 {
			b = append(b, '\n')
		}
		counts := &totals.Interfaces[i]
		b = t.appendHeading(b, totals, counts)
		b = t.appendBars(b, counts)
		b = t.appendRows(b, interfaceRows(totals, counts))
	}
	if len(r.Explained) > 0 {
		b = appendWrapped(append(b, '\n'), "Run xentrace watch to see these packets, the causes and what to do.", 0, t.width())
	}
	return t.appendEnd(b, r)
}

// bars is the geometry of one drawn histogram.
type bars struct {
	packets uint64 // all
	most    uint64 // in one bucket
	numbers int    // width of the column of packets
	room    int    // columns for the longest bar
}

// appendBars draws one histogram: a line per bucket that is not empty, a mark
// where buckets are left out, and a line at the limit.
func (t *Text) appendBars(b []byte, counts *event.InterfaceTotals) []byte {
	g := bars{packets: counts.Slots.Packets()}
	if g.packets == 0 {
		return b
	}
	for _, n := range counts.Slots.All() {
		g.most = max(g.most, n)
	}
	width := t.width()
	g.numbers = max(len("packets"), len(Grouped(g.most)))
	g.room = max(width-len("slots")-2-g.numbers-2-len("100.0 %")-2, 1)

	b = append(b, '\n')
	b = t.appendColoured(b, bold, fmt.Sprintf("slots  %*s  %7s", g.numbers, "packets", "share"))
	b = append(b, '\n')
	previous, marked := 0, false
	for n, packets := range counts.Slots.All() {
		if n > slots.Limit && !marked {
			b, marked = t.appendLimit(b, width), true
			previous = max(previous, slots.Limit)
		}
		if n > previous+1 && previous > 0 {
			b = append(b, "  ...\n"...)
		}
		b = t.appendBar(b, g, n, packets)
		previous = n
	}
	if !marked {
		b = t.appendLimit(b, width)
	}
	return append(b, '\n')
}

func (t *Text) appendBar(b []byte, g bars, n int, packets uint64) []byte {
	label := strconv.Itoa(n)
	if n == event.Buckets-1 {
		label += "+"
	}
	b = appendRight(b, label, len("slots"))
	b = appendRight(append(b, "  "...), Grouped(packets), g.numbers)
	b = append(b, fmt.Sprintf("  %5s %%  ", share(packets, g.packets))...)
	c := cyan
	if n > slots.Limit {
		c = red
	}
	b = t.appendColoured(b, c, t.bar(packets, g.most, g.room))
	return append(b, '\n')
}

// share is a percentage with one decimal. Only 0 reads 0.0, and only all of it 100.0.
func share(part, whole uint64) string {
	percent := 100 * float64(part) / float64(whole)
	switch {
	case part != 0 && percent < 0.05:
		return "<0.1"
	case part != whole && percent >= 99.95:
		return ">99.9"
	}
	return strconv.FormatFloat(percent, 'f', 1, 64)
}

// eighths are the block characters of 1/8 to 7/8 of a cell.
var eighths = [...]string{"", "▏", "▎", "▍", "▌", "▋", "▊", "▉"}

// bar draws value to the scale at which most takes room cells; anything over 0 shows.
func (t *Text) bar(value, most uint64, room int) string {
	fraction := float64(value) / float64(most) * float64(room)
	if !t.Blocks {
		return strings.Repeat("#", max(int(fraction+0.5), 1))
	}
	cells := max(int(fraction*8+0.5), 1)
	return strings.Repeat("█", cells/8) + eighths[cells%8]
}

// appendLimit draws the line between what fits and what does not.
func (t *Text) appendLimit(b []byte, width int) []byte {
	dash := "-"
	if t.Blocks {
		dash = "─"
	}
	words := fmt.Sprintf(" limit: %d slots ", slots.Limit)
	line := strings.Repeat(dash, 3) + words + strings.Repeat(dash, max(width-3-len(words), 0))
	return append(t.appendColoured(b, yellow, line), '\n')
}

// appendHistograms draws what was counted in buckets.
func (t *Text) appendHistograms(b []byte, r *event.CongestionReport) []byte {
	for _, h := range []struct {
		title, unit string
		values      event.Log2
		label       func(uint64) string
	}{
		{"packet size", "bytes", r.Sizes, Grouped},
		{"slots per packet", "slots", r.Slots, Grouped},
		{"ring slots in use at each packet", "slots", r.Total.Occupancy, Grouped},
		{"queue stop to wake", "up to", r.Total.Wake, inMicroseconds},
		{"completion: driver to TX response", "up to", r.Total.Latency, inMicroseconds},
		{"SYN to accept", "up to", acceptTimes(r), inMicroseconds},
	} {
		if h.values.Count() > 0 {
			b = t.appendLog2(b, h.title, h.unit, h.values, h.label)
		}
	}
	return b
}

func acceptTimes(r *event.CongestionReport) event.Log2 {
	if r.TCP == nil {
		return nil
	}
	return r.TCP.Accept
}

// appendLog2 draws one histogram, each line with the upper bound of its bucket; empty
// buckets between others are drawn, those at the ends are not.
func (t *Text) appendLog2(b []byte, title, unit string, h event.Log2, label func(uint64) string) []byte {
	var most uint64
	first, last := -1, 0
	for bucket, n := range h {
		if n == 0 {
			continue
		}
		most, last = max(most, n), bucket
		if first < 0 {
			first = bucket
		}
	}
	const bound = len("16.8 s+") + 2
	numbers := max(len("count"), len(Grouped(most)))
	room := max(t.width()-bound-2-numbers-2-len("100.0 %")-2, 1)
	b = t.appendColoured(append(b, '\n'), bold, title)
	b = append(b, '\n')
	b = appendRight(b, unit, bound)
	b = appendRight(append(b, "  "...), "count", numbers)
	b = append(b, "    share\n"...)
	for bucket := first; bucket <= last; bucket++ {
		text := label(event.Log2Bound(bucket))
		if bucket == len(h)-1 {
			text += "+"
		}
		b = appendRight(b, text, bound)
		b = appendRight(append(b, "  "...), Grouped(h[bucket]), numbers)
		b = append(b, fmt.Sprintf("  %5s %%", share(h[bucket], h.Count()))...)
		if h[bucket] > 0 {
			b = t.appendColoured(append(b, "  "...), cyan, t.bar(h[bucket], most, room))
		}
		b = append(b, '\n')
	}
	return b
}
