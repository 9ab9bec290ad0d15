package output

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"xentrace/internal/event"
)

const congestionLabel = len("notifications") + 2

// AppendCongestion appends what was measured on one interface: the bottleneck, the
// figures, the histograms, and what could not be measured.
func (t *Text) AppendCongestion(b []byte, c *event.Congestion) []byte {
	b = t.appendCongestionHeading(b, c.Report)
	b = t.appendJudgment(b, &c.Judgment)
	b = append(b, '\n')
	b = t.appendCongestionRows(b, congestionRows(c.Report))
	b = t.appendCongestionRows(b, queueRows(c.Report))
	b = t.appendCongestionRows(b, changeRows(c.Changes))
	b = t.appendHistograms(b, c.Report)
	return t.appendMissingRows(b, c.Report)
}

// AppendCongestionShort appends the bottleneck and the figures, for an update every
// second.
func (t *Text) AppendCongestionShort(b []byte, c *event.Congestion) []byte {
	b = t.appendCongestionHeading(b, c.Report)
	if c.Judgment.SmallPackets {
		b = appendWrapped(b, c.Judgment.Sentence, 0, t.width())
	} else {
		for _, limit := range c.Judgment.Limits {
			b = t.appendCongestionRows(b, []congestionRow{{"bottleneck", string(limit.ID) + evidenceOf(&limit)}})
		}
	}
	b = t.appendCongestionRows(b, congestionRows(c.Report))
	b = t.appendCongestionRows(b, changeRows(c.Changes))
	return append(b, '\n')
}

func (t *Text) appendCongestionHeading(b []byte, r *event.CongestionReport) []byte {
	b = t.appendColoured(b, bold, Escape(r.Name))
	return fmt.Appendf(b, ": %s, %s, %s\n", driverName(r.Driver), plural(uint64(len(r.Queues)), "queue"), Seconds(r.Duration))
}

func (t *Text) appendJudgment(b []byte, j *event.Judgment) []byte {
	if j.SmallPackets {
		start := len(b)
		b = appendWrapped(append(b, '\n'), j.Sentence, 0, t.width())
		b = append(t.appendColoured(b[:start], red, string(b[start:len(b)-1])), '\n')
	}
	for _, limit := range j.Limits {
		c := red
		if limit.ID == event.LimitNone {
			c = green
		}
		b = t.appendParagraph(append(b, '\n'), c, string(limit.ID), ": "+limit.Meaning)
		if evidence := evidenceOf(&limit); evidence != "" {
			b = appendWrapped(b, strings.TrimSpace(evidence), 2, t.width())
		}
		b = t.appendAdvice(b, limit.Advice, adviceIndent)
	}
	return b
}

func evidenceOf(limit *event.Bottleneck) string {
	if len(limit.Evidence) == 0 {
		return ""
	}
	var parts []string
	for _, figure := range limit.Evidence {
		parts = append(parts, figureText(figure))
	}
	return " (" + strings.Join(parts, ", ") + ")"
}

// figureText names a figure by its key, which ends in the unit.
func figureText(figure event.Fact) string {
	name := strings.ReplaceAll(figure.Key, "_", " ")
	switch value := figure.Value.(type) {
	case float64:
		name = strings.TrimSuffix(name, " share")
		if figure.Key == "pps_bound_share" {
			name = "of it sent"
		}
		return name + " " + percent(value)
	case int64:
		if before, is := strings.CutSuffix(name, " us"); is {
			return before + " " + inMicroseconds(uint64(value))
		}
	case uint64:
		if before, is := strings.CutSuffix(name, " us"); is {
			return before + " " + inMicroseconds(value)
		}
	}
	if figure.Key == "pps_bound" {
		name = "bound in packets/s"
	}
	return fmt.Sprintf("%s %v", name, figure.Value)
}

func percent(value float64) string { return strconv.FormatFloat(100*value, 'f', 1, 64) + " %" }

type congestionRow struct{ name, text string }

func congestionRows(r *event.CongestionReport) []congestionRow {
	t := &r.Total
	rows := []congestionRow{
		{"sent", fmt.Sprintf("%s packets, %s packets/s, %s/s", Grouped(t.Packets), Grouped(uint64(r.Rate(t.Packets)+0.5)), ByteSize(uint64(r.Rate(t.Bytes)+0.5)))},
		{"small", fmt.Sprintf("%s under 256 B; %.0f B of payload per slot, %.2f slots per packet", percent(t.SmallShare()), t.BytesPerSlot(), event.Ratio(t.Slots, t.Packets))},
	}
	rows = append(rows, ringRows(r)...)
	if t.Copied != nil {
		rows = append(rows, congestionRow{"copies", fmt.Sprintf("%s packets (%s)", Grouped(*t.Copied), percent(event.Ratio(*t.Copied, t.Packets)))})
	}
	if rx := r.Receive; rx != nil {
		rows = append(rows, congestionRow{"received", fmt.Sprintf("%s packets in %s NAPI polls (%.1f each); %s used the whole budget",
			Grouped(rx.Packets), Grouped(rx.Polls), event.Ratio(rx.Packets, rx.Polls), Grouped(rx.Exhausted))})
	}
	rows = append(append(rows, cpuRows(r)...), connectionRows(r)...)
	if r.Missed != nil && *r.Missed > 0 {
		rows = append(rows, congestionRow{"not counted", fmt.Sprintf("kernel skipped %s BPF program runs (recursion)", Grouped(*r.Missed))})
	}
	return rows
}

func ringRows(r *event.CongestionReport) []congestionRow {
	t := &r.Total
	full := fmt.Sprintf("%s stops", Grouped(t.Stops))
	if t.Full != nil {
		full = fmt.Sprintf("%s of the time, ", percent(r.FullShare())) + full
		if t.Wake.Count() > 0 {
			full += fmt.Sprintf(", half of them up to %s", inMicroseconds(t.Wake.Quantile(0.5)))
		}
	}
	rows := []congestionRow{{"ring full", full}}
	if t.MeanLatency != nil {
		text := fmt.Sprintf("mean %s, 99 %% within %s (1 packet in %d)", inMicroseconds(uint64(t.MeanLatency.Microseconds())), inMicroseconds(t.Latency.Quantile(0.99)), event.CompletionSample)
		rows = append(rows, congestionRow{"completion", text})
	}
	if t.Notifications != nil {
		text := fmt.Sprintf("%s (%.2f per packet)", Grouped(*t.Notifications), event.Ratio(*t.Notifications, t.Packets))
		if t.Runs != nil && *t.Runs > 0 {
			text += fmt.Sprintf("; %.1f TX responses per run", event.Ratio(*t.Responses, *t.Runs))
		}
		rows = append(rows, congestionRow{"notifications", text})
	}
	if bound := r.Bound; bound != nil {
		rows = append(rows, congestionRow{"bound", fmt.Sprintf("%s/s = %d x %d slots / (%.2f slots x %s); %s sent",
			Grouped(uint64(bound.PacketsPerSecond)), bound.Queues, event.UsableSlots, bound.SlotsPerPacket, inMicroseconds(uint64(bound.Latency.Microseconds())), percent(bound.Share))})
	}
	return rows
}

func cpuRows(r *event.CongestionReport) []congestionRow {
	c := r.CPU
	if c == nil {
		return nil
	}
	text := fmt.Sprintf("CPU %d of %d %s busy, %s in interrupts", c.Hottest, c.Count, percent(c.HottestBusy), percent(c.HottestInterrupts))
	if c.Count > 1 {
		text += fmt.Sprintf("; the rest %s", percent(c.RestBusy))
	}
	rows := []congestionRow{{"CPUs", text + fmt.Sprintf("; steal %s", percent(c.Steal))}}
	if r.Total.Interrupts != nil && c.InterruptShare != nil {
		rows = append(rows, congestionRow{"interrupts", fmt.Sprintf("%s, %s of them on CPU %d", Grouped(*r.Total.Interrupts), percent(*c.InterruptShare), c.InterruptsCPU)})
	}
	return rows
}

func connectionRows(r *event.CongestionReport) []congestionRow {
	t := r.TCP
	if t == nil {
		return nil
	}
	text := fmt.Sprintf("%.1f opened/s, %.1f closed/s, %.1f incoming/s", r.Rate(t.Opened), r.Rate(t.Closed), r.Rate(t.Established))
	rows := []congestionRow{{"connections", text}}
	if t.Accepts != nil {
		text := fmt.Sprintf("%.1f/s", r.Rate(*t.Accepts))
		if t.Accept.Count() > 0 {
			text += fmt.Sprintf(", half within %s of the SYN, 99 %% within %s", inMicroseconds(t.Accept.Quantile(0.5)), inMicroseconds(t.Accept.Quantile(0.99)))
		}
		rows = append(rows, congestionRow{"accepted", text})
	}
	if t.Overflows != nil && (*t.Overflows > 0 || *t.Drops > 0) {
		rows = append(rows, congestionRow{"listen drops", fmt.Sprintf("%s with the accept queue full, %s in all", Grouped(*t.Overflows), Grouped(*t.Drops))})
	}
	for _, l := range t.Listeners {
		if l.Full > 0 {
			rows = append(rows, congestionRow{"listener", fmt.Sprintf("port %d: %s accepts, longest queue %d (backlog %d)", l.Port, Grouped(l.Accepts), l.Longest, l.Limit)})
		}
	}
	return rows
}

// queueRows has a row for each queue, where there are several.
func queueRows(r *event.CongestionReport) (rows []congestionRow) {
	if len(r.Queues) < 2 {
		return nil
	}
	for i := range r.Queues {
		q := &r.Queues[i]
		if q.Packets == 0 && q.Stops == 0 {
			continue
		}
		text := fmt.Sprintf("%s packets (%s), %s stops", Grouped(q.Packets), percent(event.Ratio(q.Packets, r.Total.Packets)), Grouped(q.Stops))
		if q.Full != nil {
			text += fmt.Sprintf(", full %s", percent(q.Full.Seconds()/max(r.Duration.Seconds(), 1e-9)))
		}
		if q.MeanLatency != nil {
			text += fmt.Sprintf(", completion %s", inMicroseconds(uint64(q.MeanLatency.Microseconds())))
		}
		rows = append(rows, congestionRow{"queue " + strconv.Itoa(q.Number), text})
	}
	return rows
}

func (t *Text) appendCongestionRows(b []byte, rows []congestionRow) []byte {
	for _, row := range rows {
		b = appendHanging(appendLeft(b, row.name, congestionLabel), row.text, congestionLabel, t.width())
	}
	return b
}

func changeRows(changes []event.Change) (rows []congestionRow) {
	for _, c := range changes {
		if c.Before == nil || c.Now == nil || *c.Before == *c.Now {
			continue
		}
		name, isShare := strings.CutSuffix(c.Key, "_share")
		write := plain
		if isShare {
			write = percent
		}
		text := fmt.Sprintf("%s %s, was %s", strings.ReplaceAll(name, "_", " "), write(*c.Now), write(*c.Before))
		if *c.Before >= 0.05 && !isShare { // less is written as 0.0
			text += fmt.Sprintf(" (%+.0f %%)", 100*(*c.Now / *c.Before - 1))
		}
		rows = append(rows, congestionRow{"changed", text})
	}
	return rows
}

func plain(value float64) string {
	if value >= 100 {
		return Grouped(uint64(value + 0.5))
	}
	return strconv.FormatFloat(value, 'f', 1, 64)
}

func inMicroseconds(us uint64) string {
	switch d := time.Duration(us) * time.Microsecond; {
	case d < time.Millisecond:
		return strconv.FormatUint(us, 10) + " us"
	case d < time.Second:
		return strconv.FormatFloat(float64(us)/1000, 'f', 1, 64) + " ms"
	default:
		return Seconds(d)
	}
}

// appendMissingRows lists what could not be measured, each reason once.
func (t *Text) appendMissingRows(b []byte, r *event.CongestionReport) []byte {
	if len(r.Missing) == 0 {
		return b
	}
	byReason := make(map[string][]string)
	for key, reason := range r.Missing {
		byReason[reason] = append(byReason[reason], key)
	}
	b = append(b, '\n')
	for _, reason := range slices.Sorted(maps.Keys(byReason)) {
		keys := byReason[reason]
		slices.Sort(keys)
		b = appendWrapped(b, "not measured: "+strings.Join(keys, ", ")+": "+reason, 0, t.width())
	}
	return b
}
