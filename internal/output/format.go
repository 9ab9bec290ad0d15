// Package output turns what the tracer tells into text and JSON: one line per
// packet, a histogram, a summary. Formats append to a buffer and write nothing;
// Stream and Console do the writing.
package output

import (
	"xentrace/internal/check"
	"xentrace/internal/fix"
	"xentrace/internal/trace"
)

// A Format is one way of telling a user what was seen. Every method appends
// whole lines to b and returns it.
type Format interface {
	// AppendPacket appends the record of one packet.
	AppendPacket(b []byte, p *trace.Packet) []byte
	// AppendHistogram appends slots per packet and totals: the end of hist.
	AppendHistogram(b []byte, t *trace.Totals) []byte
	// AppendSummary appends what was counted: the end of watch.
	AppendSummary(b []byte, t *trace.Totals) []byte
	// AppendReport appends what check found.
	AppendReport(b []byte, r *check.Report) []byte
	// AppendFix appends what became of a step of fix.
	AppendFix(b []byte, s *fix.Step) []byte
}

// AnyDropped tells whether a packet was dropped on any interface: by the driver, or
// elsewhere where that was asked for.
func AnyDropped(t *trace.Totals) bool {
	for i := range t.Interfaces {
		if t.Interfaces[i].Dropped+t.Interfaces[i].Elsewhere != 0 {
			return true
		}
	}
	return false
}
