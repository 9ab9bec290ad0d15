package output

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"xentrace/internal/event"
	"xentrace/internal/slots"
	"xentrace/internal/verdict"
)

// AppendSummary appends what was counted for each interface, what each thing
// that went wrong means and what to do about it, and the closing line.
func (t *Text) AppendSummary(b []byte, r *event.Summary) []byte {
	totals := &r.Totals
	for i := range totals.Interfaces {
		b = append(b, '\n')
		b = t.appendInterface(b, totals, i)
	}
	b = t.appendFlows(b, r.Flows)
	b = t.appendExplained(b, r.Explained)
	return t.appendEnd(b, r)
}

// appendEnd appends what concerns the whole run.
func (t *Text) appendEnd(b []byte, r *event.Summary) []byte {
	b = append(b, '\n')
	for _, gap := range r.Gaps {
		b = appendWrapped(b, t.gapSentence(gap), 0, t.width())
	}
	if more := r.Missing["gaps"]; more != "" {
		b = appendWrapped(b, Escape(more), 0, t.width())
	}
	if len(r.Filter) > 0 {
		b = appendWrapped(b, filterSentence(r), 0, t.width())
	}
	if len(r.Suppressed) > 0 {
		b = appendWrapped(b, suppressedSentence(&r.Totals), 0, t.width())
	}
	return appendClosing(b, &r.Totals, t.width())
}

func suppressedSentence(totals *event.Totals) string {
	var parts []string
	for _, s := range totals.Suppressed {
		parts = append(parts, strings.TrimSpace(s.Verdict.String()+" "+s.Cause.String())+" "+Grouped(s.Records))
	}
	return plural(totals.SuppressedRecords(), "record") + " suppressed by --rate (" + strings.Join(parts, ", ") + "); their packets are counted"
}

func filterSentence(r *event.Summary) string {
	return fmt.Sprintf("filter %s: %s left out; counts are of all packets", Escape(strings.Join(r.Filter, " ")), plural(r.LeftOut, "event"))
}

func (t *Text) gapSentence(gap event.Gap) string {
	from := gap.From.In(t.location()).Format(timeLayout)
	until, length := "the end", ""
	if !gap.To.IsZero() {
		until, length = gap.To.In(t.location()).Format(timeLayout), " ("+Seconds(gap.To.Sub(gap.From))+")"
	}
	why := "xen-netfront was not loaded; packets sent right after it was loaded are not counted"
	if gap.Reason == event.GapSuspended {
		why = "machine was suspended, or saved and restored"
	}
	return "unmonitored from " + from + " to " + until + length + ": " + why
}

// A row of the table of one interface: a number and a note on it.
type row struct {
	name   string
	value  string
	note   string
	colour colour
}

func (t *Text) appendInterface(b []byte, totals *event.Totals, i int) []byte {
	counts := &totals.Interfaces[i]
	b = t.appendHeading(b, totals, counts)
	return t.appendRows(b, interfaceRows(totals, counts))
}

func (t *Text) appendHeading(b []byte, totals *event.Totals, counts *event.InterfaceTotals) []byte {
	b = t.appendColoured(b, bold, Escape(counts.Name))
	b = append(b, ": "...)
	return append(append(b, describe(totals, counts)...), '\n')
}

func (t *Text) appendRows(b []byte, rows []row) []byte {
	width := 0
	for _, r := range rows {
		width = max(width, len(r.value))
	}
	for _, r := range rows {
		b = t.appendRow(b, r, width)
	}
	return b
}

func describe(totals *event.Totals, counts *event.InterfaceTotals) string {
	about := []string{driverName(counts.Driver)}
	if counts.Backend != "" {
		about = append(about, Escape(string(counts.Backend)))
	}
	if counts.Queues != 0 {
		about = append(about, plural(uint64(counts.Queues), "queue"))
	}
	for i := range totals.Interfaces {
		if totals.Interfaces[i].NetNS != counts.NetNS {
			about = append(about, "network namespace "+strconv.FormatUint(uint64(counts.NetNS), 10))
			break
		}
	}
	if counts.Gone {
		about = append(about, "gone")
	}
	return strings.Join(about, ", ")
}

func interfaceRows(totals *event.Totals, counts *event.InterfaceTotals) []row {
	rows := []row{
		{"packets", Grouped(counts.Packets), fmt.Sprintf("%s, %s packets/s for %s", ByteSize(counts.Bytes),
			Grouped(PerSecond(counts.Packets, totals.Duration)), Seconds(totals.Duration)), ""},
		{"over limit", Grouped(counts.OverLimit), overLimitNote(counts), verdictColour(event.OverLimit)},
	}
	if counts.Driver == verdict.Netfront || counts.Dropped+counts.Linearized+counts.Bounced != 0 {
		rows = append(rows,
			row{"dropped", Grouped(counts.Dropped), causesNote(counts), verdictColour(event.Dropped)},
			row{"linearized", Grouped(counts.Linearized), "", verdictColour(event.Linearized)},
			row{"bounced", Grouped(counts.Bounced), "", verdictColour(event.Bounced)})
	}
	if totals.Drops == event.DropsAll {
		rows = append(rows, row{"elsewhere", Grouped(counts.Elsewhere), elsewhereNote(counts), verdictColour(event.Dropped)})
	}
	if counts.Rejected != nil {
		rows = append(rows, row{"rejected", Grouped(*counts.Rejected), rejectedNote(counts), verdictColour(event.Rejected)})
	}
	if counts.XDPPackets+counts.XDPDropped != 0 {
		rows = append(rows, row{"xdp", Grouped(counts.XDPPackets), xdpNote(counts), ""})
	}
	if counts.Stuck != nil && *counts.Stuck != 0 {
		rows = append(rows, row{"stuck", Seconds(*counts.Stuck), stuckNote(counts), red})
	}
	return append(rows, txDroppedRow(totals, counts))
}

func xdpNote(counts *event.InterfaceTotals) string {
	note := "frames sent by XDP programs; in tx_packets, not in the packets above"
	if counts.XDPDropped != 0 {
		note += "; " + Grouped(counts.XDPDropped) + " more not accepted"
	}
	return note
}

func stuckNote(counts *event.InterfaceTotals) string {
	note := "a TX queue was full and the backend consumed nothing"
	if counts.StuckNow {
		note += "; still stuck: nothing is sent through it"
	}
	return note
}

func rejectedNote(counts *event.InterfaceTotals) string {
	if *counts.Rejected == 0 {
		return ""
	}
	return "rejected by the backend; the interface counts them as sent"
}

func overLimitNote(counts *event.InterfaceTotals) string {
	if counts.Packets == 0 {
		return "no packets"
	}
	largest := plural(uint64(counts.Slots.Max()), "slot")
	if counts.Slots.Max() == event.Buckets-1 {
		largest += " or more"
	}
	limit := "limit"
	if counts.Driver != verdict.Netfront {
		limit = "limit of xen-netfront"
	}
	return fmt.Sprintf("largest packet: %s (%s: %d)", largest, limit, slots.Limit)
}

func causesNote(counts *event.InterfaceTotals) string {
	var causes []string
	for _, c := range event.Causes() {
		if n := counts.Causes[c]; n != 0 {
			causes = append(causes, c.String()+" "+Grouped(n))
		}
	}
	return strings.Join(causes, ", ")
}

func txDroppedRow(totals *event.Totals, counts *event.InterfaceTotals) row {
	if counts.TxDroppedDelta == nil {
		return row{"tx_dropped", "?", "unknown: " + totals.Missing["tx_dropped_delta"], ""}
	}
	note := verdict.Difference(counts)
	switch {
	case note != "":
	case counts.Elsewhere != 0:
		note = "delta of the interface's own counter: equals the driver's drops; drops outside it are not in it"
	case counts.Driver != verdict.Netfront:
		note = "delta of the interface's own counter"
	default:
		note = "delta of the interface's own counter: equals dropped"
	}
	return row{"tx_dropped", Grouped(*counts.TxDroppedDelta), note, ""}
}

// appendRow appends a row; its note is wrapped into its own column.
func (t *Text) appendRow(b []byte, r row, valueWidth int) []byte {
	const indent, nameWidth = 2, len("tx_dropped")
	b = appendLeft(appendSpaces(b, indent), r.name, nameWidth)
	b = appendSpaces(b, 2+valueWidth-len(r.value))
	if r.value == "0" {
		r.colour = ""
	}
	b = t.appendColoured(b, r.colour, r.value)
	if r.note == "" {
		return append(b, '\n')
	}
	column := indent + nameWidth + 2 + valueWidth + 2
	return appendHanging(append(b, "  "...), r.note, column, t.width())
}

// appendClosing appends the last lines: how many packets were seen, how many
// records were written and what was lost, by cause.
func appendClosing(b []byte, totals *event.Totals, width int) []byte {
	if totals.Lost.Ring > 0 {
		b = appendWrapped(b, plural(totals.Lost.Ring, "record")+" lost because the ring buffer was full: use a larger --ring-size", 0, width)
	}
	line := fmt.Sprintf("%s seen, %s, %s lost", plural(totals.Sum().Packets, "packet"), plural(totals.Events, "event"), Grouped(LostRecords(totals)))
	parts := []string{"ring " + Grouped(totals.Lost.Ring)}
	for _, known := range []struct {
		name  string
		value *uint64
	}{{"recursion", totals.Lost.Recursion}, {"missed", totals.Lost.Missed}} {
		switch {
		case known.value != nil:
			parts = append(parts, known.name+" "+Grouped(*known.value))
		default:
			parts = append(parts, strings.TrimSuffix(known.name+" unknown: "+totals.Missing[known.name], ": "))
		}
	}
	return appendWrapped(b, line+" ("+strings.Join(parts, ", ")+")", 0, width)
}

// LostRecords is the sum of the losses that the kernel reports.
func LostRecords(totals *event.Totals) uint64 {
	lost := totals.Lost.Ring
	for _, n := range []*uint64{totals.Lost.Recursion, totals.Lost.Missed} {
		if n != nil {
			lost += *n
		}
	}
	return lost
}

// elsewhereNote lists the reasons of drops outside the driver.
func elsewhereNote(counts *event.InterfaceTotals) string {
	if counts.Elsewhere == 0 {
		return "no drops outside the driver"
	}
	var reasons []string
	for _, reason := range slices.Sorted(maps.Keys(counts.Reasons)) {
		reasons = append(reasons, Escape(reason)+" "+Grouped(counts.Reasons[reason]))
	}
	if len(reasons) == 0 {
		return "dropped outside the driver"
	}
	return "dropped outside the driver: " + strings.Join(reasons, ", ")
}
