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

type bars struct {
	all, most             uint64 // counted; in one bucket
	label, numbers, space int    // width of the columns of buckets and counts, and of the longest bar
}

func (t *Text) newBars(all, most uint64, label int, heading string) bars {
	numbers := max(len(heading), len(Grouped(most)))
	return bars{all, most, label, numbers, max(t.width()-label-2-numbers-2-len("100.0 %")-2, 1)}
}

// appendBars draws one histogram: a line per bucket that is not empty, a mark
// where buckets are left out, and a line at the limit.
func (t *Text) appendBars(b []byte, counts *event.InterfaceTotals) []byte {
	all, most := counts.Slots.Packets(), uint64(0)
	if all == 0 {
		return b
	}
	for _, n := range counts.Slots.All() {
		most = max(most, n)
	}
	g := t.newBars(all, most, len("slots"), "packets")
	b = t.appendColoured(append(b, '\n'), bold, fmt.Sprintf("slots  %*s  %7s", g.numbers, "packets", "share"))
	b = append(b, '\n')
	previous, marked := 0, false
	for n, packets := range counts.Slots.All() {
		if n > slots.Limit && !marked {
			b, marked = t.appendLimit(b), true
			previous = max(previous, slots.Limit)
		}
		if n > previous+1 && previous > 0 {
			b = append(b, "  ...\n"...)
		}
		label, c := strconv.Itoa(n), cyan
		if n == event.Buckets-1 {
			label += "+"
		}
		if n > slots.Limit {
			c = red
		}
		b = t.appendBar(b, g, label, packets, c)
		previous = n
	}
	if !marked {
		b = t.appendLimit(b)
	}
	return append(b, '\n')
}

func (t *Text) appendBar(b []byte, g bars, label string, n uint64, c colour) []byte {
	b = appendRight(b, label, g.label)
	b = appendRight(append(b, "  "...), Grouped(n), g.numbers)
	b = fmt.Appendf(b, "  %5s %%", share(n, g.all))
	if n > 0 {
		b = t.appendColoured(append(b, "  "...), c, t.bar(n, g.most, g.space))
	}
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
func (t *Text) appendLimit(b []byte) []byte {
	dash := "-"
	if t.Blocks {
		dash = "─"
	}
	words := fmt.Sprintf(" limit: %d slots ", slots.Limit)
	line := strings.Repeat(dash, 3) + words + strings.Repeat(dash, max(t.width()-3-len(words), 0))
	return append(t.appendColoured(b, yellow, line), '\n')
}

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
		{fmt.Sprintf("completion: driver to TX response, 1 packet in %d", event.CompletionSample), "up to", r.Total.Latency, inMicroseconds},
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
	g := t.newBars(h.Count(), most, len("16.8 s+")+2, "count")
	b = t.appendColoured(append(b, '\n'), bold, title)
	b = appendRight(append(b, '\n'), unit, g.label)
	b = appendRight(append(b, "  "...), "count", g.numbers)
	b = append(b, "    share\n"...)
	for bucket := first; bucket <= last; bucket++ {
		text := label(event.Log2Bound(bucket))
		if bucket == len(h)-1 {
			text += "+"
		}
		b = t.appendBar(b, g, text, h[bucket], cyan)
	}
	return b
}
