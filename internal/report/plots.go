package report

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"xentrace/internal/event"
	"xentrace/internal/slots"
)

const (
	laneHeight = 62 // pixels, its title included
	laneTitle  = 18
	plotHeight = laneHeight - laneTitle - 6
	axisHeight = 24
)

// A timelineView is the plot of all series over one axis, and its numbers.
type timelineView struct {
	Lanes  []laneView
	Spans  []spanMark
	Ticks  []tick
	Height int
	Bars   int   // buckets shown
	FromMS int64 // Unix time
	StepMS float64
	Width  string // of a bucket, in words
	Title  string
	Text   string // what the plot shows, for those who do not see it
	Rows   []timelineRow
	Quiet  int // rows left out because all counts are 0
}

type laneView struct {
	Name       string
	Sum, Most  string
	Class      string
	Path       string
	Y, TextY   int
	PlotY      int
	PlotHeight int
	BaseY      int
}

type timelineRow struct {
	Index  int
	Time   string
	Values []string
}

// A spanMark is where something is on an axis, in percent.
type spanMark struct {
	X, Width string
	A, B     string // the same as fractions, for zooming
	Text     string
}

type tick struct {
	X    string
	Text string
}

// A lane is a quantity before it is drawn.
type lane struct {
	name, class string
	values      [pageBuckets]uint64
	sum         uint64
	peakOnly    bool // values do not add up, as of how many connections are stalled
}

// lanes are the quantities that are not 0 everywhere; packets always.
func (c *Collector) lanes() []lane {
	t := &c.timeline
	all := []lane{{name: "packets", class: "packets", values: t.counts[packetSeries], sum: t.sums[packetSeries]}}
	add := func(name, class string, s series) {
		if t.sums[s] > 0 {
			all = append(all, lane{name: name, class: class, values: t.counts[s], sum: t.sums[s]})
		}
	}
	if t.sums[packetSeries] == 0 && c.packets > 0 {
		all = all[:0]
	}
	for _, cause := range event.Causes() {
		add("dropped: "+cause.String(), "bad", causeSeries+series(cause))
	}
	add("dropped before the driver", "bad", elsewhereSeries)
	add("rejected by the backend", "bad", rejectedSeries)
	add("linearized", "warn", linearizedSeries)
	add("bounced", "note", bouncedSeries)
	add("over the slot limit", "warn", overLimitSeries)
	add("retransmissions", "warn", retransmissionSeries)
	if c.stalls > 0 {
		all = append(all, lane{name: "stalled connections", class: "bad", values: t.stalled(), sum: c.stalls, peakOnly: true})
	}
	add("records lost", "note", lostSeries)
	add("records suppressed", "note", suppressedSeries)
	return all
}

// shown is the range of buckets between the first and the last event.
func (c *Collector) shown() (low, high int) {
	t := &c.timeline
	if t.base.IsZero() {
		t.at(c.first)
	}
	last := t.at(c.last)
	return min(t.at(c.first), last), last
}

func (c *Collector) timelineView() *timelineView {
	if c.first.IsZero() || !c.first.Before(c.last) {
		return nil
	}
	low, high := c.shown()
	t := &c.timeline
	v := &timelineView{Bars: high - low + 1, FromMS: t.start(low).UnixMilli(), StepMS: float64(t.width) / 1e6, Width: bucketWords(t.width)}
	lanes := c.lanes()
	for i := range lanes {
		v.Lanes = append(v.Lanes, drawLane(&lanes[i], low, high, i*laneHeight, v.Width))
	}
	v.Height = len(lanes)*laneHeight + axisHeight
	from, to := t.start(low), t.start(high+1)
	for _, n := range c.spans.sorted() {
		v.Spans = append(v.Spans, markOf(n, from, to))
	}
	v.Ticks = ticks(from, to)
	v.Title = fmt.Sprintf("Timeline from %s to %s UTC", stamp(c.first), stamp(c.last))
	v.Text = c.timelineText(lanes, low, high)
	for b := low; b <= high; b++ {
		v.addRow(c, lanes, b, b-low)
	}
	return v
}

func (v *timelineView) addRow(c *Collector, lanes []lane, bucket, index int) {
	row := timelineRow{Index: index, Time: clockOf(c.timeline.start(bucket), c.last.Sub(c.first), c.first)}
	if c.timeline.width < time.Second {
		row.Time = clockOf(c.timeline.start(bucket), 0, c.timeline.start(bucket))
	}
	some := false
	for i := range lanes {
		n := lanes[i].values[bucket]
		some = some || n > 0
		row.Values = append(row.Values, number(n))
	}
	if !some {
		v.Quiet++
		return
	}
	v.Rows = append(v.Rows, row)
}

func drawLane(l *lane, low, high, y int, width string) laneView {
	most, _ := peak(l.values[low : high+1])
	sum, atMost := number(l.sum), fmt.Sprintf("at most %s per %s", number(most), width)
	if l.peakOnly {
		sum, atMost = plural(l.sum, "stall"), fmt.Sprintf("at most %s at once", number(most))
	}
	return laneView{
		Name: l.name, Sum: sum, Most: atMost, Class: l.class, Path: area(l.values[low:high+1], most),
		Y: y, TextY: y + 13, PlotY: y + laneTitle, PlotHeight: plotHeight, BaseY: y + laneTitle + plotHeight,
	}
}

func peak(values []uint64) (most uint64, at int) {
	for i, n := range values {
		if n > most {
			most, at = n, i
		}
	}
	return most, at
}

// leastHeight is the height in percent of a bar that is not 0, however small.
const leastHeight = 4

// area draws values as bars that touch, in a box of len(values) by 100.
func area(values []uint64, most uint64) string {
	var b strings.Builder
	open := false
	for i, n := range values {
		if n == 0 {
			if open {
				b.WriteString("V100z")
				open = false
			}
			continue
		}
		if !open {
			fmt.Fprintf(&b, "M%d 100", i)
			open = true
		}
		height := max(leastHeight, int(100*float64(n)/float64(most)))
		fmt.Fprintf(&b, "V%dh1", 100-height)
	}
	if open {
		b.WriteString("V100z")
	}
	return b.String()
}

func markOf(n span, from, to time.Time) spanMark {
	length := to.Sub(from).Seconds()
	a := min(max(n.from.Sub(from).Seconds()/length, 0), 1)
	b := min(max(n.to.Sub(from).Seconds()/length, a), 1)
	b = max(b, min(a+0.002, 1)) // short ones are seen, too
	return spanMark{percentOf(a), percentOf(b - a), fraction(a), fraction(b), fmt.Sprintf("unmonitored from %s for %s: %s", stamp(n.from), lasted(n.to.Sub(n.from)), clip(n.why, 200))}
}

func percentOf(f float64) string { return strconv.FormatFloat(100*f, 'f', 2, 64) + "%" }
func fraction(f float64) string  { return strconv.FormatFloat(f, 'f', 5, 64) }

func bucketWords(d time.Duration) string {
	switch {
	case d < time.Second:
		return strconv.FormatInt(d.Milliseconds(), 10) + " ms"
	case d < 2*time.Minute && d%time.Minute != 0:
		return strconv.FormatFloat(d.Seconds(), 'g', 4, 64) + " s"
	case d < 2*time.Hour:
		return strconv.FormatFloat(d.Minutes(), 'f', 0, 64) + " min"
	}
	return strconv.FormatFloat(d.Hours(), 'f', 1, 64) + " h"
}

var tickSteps = []time.Duration{
	100 * time.Millisecond, 200 * time.Millisecond, 500 * time.Millisecond,
	time.Second, 2 * time.Second, 5 * time.Second, 10 * time.Second, 15 * time.Second, 30 * time.Second,
	time.Minute, 2 * time.Minute, 5 * time.Minute, 10 * time.Minute, 15 * time.Minute, 30 * time.Minute,
	time.Hour, 2 * time.Hour, 3 * time.Hour, 6 * time.Hour, 12 * time.Hour, day, 2 * day, 7 * day, 30 * day, 365 * day,
}

// ticks are round times, few enough that their labels do not touch on a phone.
func ticks(from, to time.Time) (all []tick) {
	const most = 5
	length := to.Sub(from)
	step := tickSteps[len(tickSteps)-1]
	for _, s := range tickSteps {
		if length/s < most {
			step = s
			break
		}
	}
	for at := from.Truncate(step); !at.After(to); at = at.Add(step) {
		f := at.Sub(from).Seconds() / length.Seconds()
		if f < 0 || f > 1 {
			continue
		}
		all = append(all, tick{percentOf(f), tickText(at, step)})
	}
	return all
}

func tickText(at time.Time, step time.Duration) string {
	at = at.UTC()
	switch {
	case step < time.Second:
		return at.Format("15:04:05.0")
	case step < time.Minute:
		return at.Format("15:04:05")
	case step < day && (at.Hour() != 0 || at.Minute() != 0):
		return at.Format("15:04")
	}
	return at.Format("Jan 2")
}

func (c *Collector) timelineText(lanes []lane, low, high int) string {
	var parts []string
	for i := range lanes {
		l := &lanes[i]
		most, at := peak(l.values[low : high+1])
		when := c.clock(c.timeline.start(low + at))
		if l.peakOnly {
			parts = append(parts, fmt.Sprintf("%s: %s, at most %s at once (%s)", l.name, plural(l.sum, "stall"), number(most), when))
			continue
		}
		parts = append(parts, fmt.Sprintf("%s: %s, most at %s (%s in %s)", l.name, number(l.sum), when, number(most), bucketWords(c.timeline.width)))
	}
	text := strings.Join(parts, "; ")
	if n := len(c.spans.all) + c.spans.more; n > 0 {
		text += "; " + plural(uint64(n), "unmonitored interval") + " hatched"
	}
	return text + "."
}

// A slotsView is the histogram of slots per packet, and its numbers.
type slotsView struct {
	Bars   []slotBar
	LimitX string // between the last bar within the limit and the first over it
	Title  string
	Text   string
	Height int
	BaseY  int
}

type slotBar struct {
	X, Middle, Width string
	Y, Height, TextY int
	Name             string
	Shown            bool // its name is drawn: all do not fit
	Count, Share     string
	Over             bool
}

const mostSlotBars = 36 // the last one holds all above

// slotsView draws the logarithm of the counts: packets over the limit are few.
func (c *Collector) slotsView() *slotsView {
	h := c.histogram()
	total := h.Packets()
	if total == 0 {
		return nil
	}
	count := max(min(h.Max(), mostSlotBars), slots.Limit+2)
	v := &slotsView{Height: 190, BaseY: 160}
	most := uint64(0)
	values := make([]uint64, count+1)
	for n := range h {
		values[min(n, count)] += h[n]
		most = max(most, values[min(n, count)])
	}
	for n := 1; n <= count; n++ {
		x := float64(n-1) / float64(count)
		width := 1 / float64(count)
		b := slotBar{
			X: percentOf(x + 0.1*width), Middle: percentOf(x + width/2), Width: percentOf(0.8 * width), Name: strconv.Itoa(n), Over: n > slots.Limit,
			Count: number(values[n]), Share: share(values[n], total), Y: v.BaseY, Shown: n == 1 || n%5 == 0 && n < count-2 || n == count || n == slots.Limit,
		}
		if n == count && h.Max() > count {
			b.Name += "+"
		}
		if b.Shown = b.Shown && n != 20; values[n] > 0 {
			b.Height = 4 + int(130*logarithm(values[n])/logarithm(most))
			b.Y -= b.Height
		}
		v.Bars = append(v.Bars, b)
	}
	v.LimitX = percentOf(float64(slots.Limit) / float64(count))
	over := h.Over(slots.Limit)
	v.Title = "Slots per packet"
	v.Text = fmt.Sprintf("%s; largest %s; %s over the limit of %d (%s). The scale is logarithmic.", plural(total, "packet"),
		plural(uint64(h.Max()), "slot"), are(over, "packet"), slots.Limit, share(over, total))
	return v
}
