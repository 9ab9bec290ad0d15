package pcapng

import (
	"fmt"
	"strings"
	"time"

	"xentrace/internal/event"
	"xentrace/internal/output"
)

// counts are of one interface since the section began.
type counts struct {
	packets uint64 // handed to the driver
	dropped uint64 // by the driver
	lost    uint64 // records
}

func countsOf(t *event.InterfaceTotals) counts {
	return counts{t.Packets, t.Dropped, t.RingLost}
}

// remark writes a comment: in a statistics block of the interface that it is about, which
// has a time, or in a name resolution block without names.
func (s *Sink) remark(at time.Time, d event.Device, sentence string) {
	if sentence == "" {
		return
	}
	if d.Name == "" {
		if !at.IsZero() {
			sentence = at.UTC().Format(time.RFC3339Nano) + " " + sentence
		}
		k := begin(s.buffer, blockNames)
		k.u32(0) // nrb_record_end
		k.text(optComment, sentence)
		s.buffer = k.end()
		return
	}
	c := s.captured(d)
	k := begin(s.buffer, blockStatistics)
	k.u32(c.number)
	k.stamp(at)
	k.text(optComment, sentence)
	s.buffer = k.end()
}

// interval writes the sums so far of each interface: the format counts from the beginning.
func (s *Sink) interval(t *event.Totals) {
	if s.began.IsZero() {
		s.began = t.Time.Add(-t.Duration)
	}
	for i := range t.Interfaces {
		n := &t.Interfaces[i]
		c := s.captured(n.Device)
		more := countsOf(n)
		c.counts.packets += more.packets
		c.counts.dropped += more.dropped
		c.counts.lost += more.lost
		s.statistics(t.Time, n, "interval of "+output.Seconds(t.Duration)+": ")
	}
}

func (s *Sink) summary(e *event.Summary) {
	s.began = e.Time.Add(-e.Duration)
	for i := range e.Interfaces {
		n := &e.Interfaces[i]
		s.captured(n.Device).counts = countsOf(n)
		s.statistics(e.Time, n, "")
	}
	s.remark(e.Time, event.Device{}, closing(e))
}

func (s *Sink) statistics(at time.Time, n *event.InterfaceTotals, prefix string) {
	c := s.captured(n.Device)
	k := begin(s.buffer, blockStatistics)
	k.u32(c.number)
	k.stamp(at)
	k.text(optComment, prefix+totalsSentence(n))
	k.optionTime(isbStart, s.began)
	k.optionTime(isbEnd, at)
	k.option64(isbReceived, c.counts.packets)
	k.option64(isbDropped, c.counts.dropped)
	k.option64(isbOSDropped, c.counts.lost)
	k.option64(isbDelivered, c.delivered)
	s.buffer = k.end()
}

// totalsSentence is what was counted of an interface.
func totalsSentence(n *event.InterfaceTotals) string {
	parts := []string{
		"packets " + output.Grouped(n.Packets), "over the slot limit " + output.Grouped(n.OverLimit),
		"dropped " + output.Grouped(n.Dropped) + causesOf(n), "linearized " + output.Grouped(n.Linearized), "bounced " + output.Grouped(n.Bounced),
	}
	if n.Rejected != nil {
		parts = append(parts, "rejected by the backend "+output.Grouped(*n.Rejected))
	}
	if n.Elsewhere != 0 {
		parts = append(parts, "dropped before the driver "+output.Grouped(n.Elsewhere))
	}
	if n.TxDroppedDelta != nil {
		parts = append(parts, "tx_dropped delta "+output.Grouped(*n.TxDroppedDelta))
	}
	return strings.Join(parts, ", ")
}

func causesOf(n *event.InterfaceTotals) string {
	var causes []string
	for _, c := range event.Causes() {
		if n.Causes[c] != 0 {
			causes = append(causes, c.String()+" "+output.Grouped(n.Causes[c]))
		}
	}
	if len(causes) == 0 {
		return ""
	}
	return " (" + strings.Join(causes, ", ") + ")"
}

// closing is what a summary has that is not of one interface.
func closing(e *event.Summary) string {
	parts := []string{fmt.Sprintf("events %d, records lost %d", e.Events, output.LostRecords(&e.Totals))}
	if e.Flows != nil {
		parts = append(parts, fmt.Sprintf("flows stalled %d", e.Flows.EverStalled))
	}
	for _, held := range e.Suppressed {
		what := held.Verdict.String()
		if held.Cause != event.CauseNone {
			what += " " + held.Cause.String()
		}
		parts = append(parts, fmt.Sprintf("records suppressed %d (%s)", held.Records, what))
	}
	if len(e.Filter) > 0 {
		parts = append(parts, fmt.Sprintf("events left out %d by %s", e.LeftOut, output.Escape(strings.Join(e.Filter, " "))))
	}
	for _, gap := range e.Gaps {
		parts = append(parts, "unmonitored from "+gap.From.UTC().Format(time.RFC3339)+" ("+string(gap.Reason)+")")
	}
	return strings.Join(parts, ", ")
}
