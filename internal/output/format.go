// Package output turns what the tracer tells into text and JSON: one line per
// packet, a histogram, a summary. Formats append to a buffer and write nothing;
// Stream and Console do the writing.
package output

import (
	"xentrace/internal/check"
	"xentrace/internal/event"
	"xentrace/internal/fix"
	"xentrace/internal/probe"
)

// A Format is one way of telling a user what was seen. Every method appends
// whole lines to b and returns it.
type Format interface {
	// AppendPacket appends the record of one packet.
	AppendPacket(b []byte, p *event.Packet) []byte
	// AppendFlow appends that a flow stalled, recovered or is closed.
	AppendFlow(b []byte, e *event.FlowEvent) []byte
	// AppendHistogram appends slots per packet and totals: the end of hist.
	AppendHistogram(b []byte, r *Run) []byte
	// AppendSummary appends what was counted: the end of watch.
	AppendSummary(b []byte, r *Run) []byte
	// AppendReport appends what check found.
	AppendReport(b []byte, r *check.Report) []byte
	// AppendProbe appends what became of one probe.
	AppendProbe(b []byte, r *probe.Result) []byte
	// AppendProbeEnd appends what is to be said once all probes are made.
	AppendProbeEnd(b []byte, results []probe.Result) []byte
	// AppendFix appends what became of a step of fix.
	AppendFix(b []byte, s *fix.Step) []byte
}

// A Run is what there is to tell at the end of one.
type Run struct {
	*event.Totals
	Flows *event.FlowSummary // nil where flows were not followed

	Filter  []string // what chose the events that were shown, as flags; empty if all were
	LeftOut uint64   // events that were not shown because of that
}

// AnyDropped tells whether a packet was dropped on any interface: by the driver, or
// elsewhere where that was asked for.
func AnyDropped(t *event.Totals) bool {
	for i := range t.Interfaces {
		if t.Interfaces[i].Dropped+t.Interfaces[i].Elsewhere != 0 {
			return true
		}
	}
	return false
}
