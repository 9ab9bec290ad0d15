// Package output turns events into text and JSON. Text and JSON are sinks: they write
// whole lines to a writer; Stream writes in the background, Console to standard error.
package output

import (
	"fmt"
	"io"

	"xentrace/internal/event"
)

// A Lines is a sink that writes each event as lines.
type Lines struct {
	out    io.Writer
	append func(b []byte, e event.Event) []byte
	buffer []byte
}

// NewJSON returns a sink that writes one object a line.
func NewJSON(out io.Writer) *Lines { return &Lines{out: out, append: JSON{}.Append} }

// NewText returns a sink that writes for people.
func NewText(out io.Writer, t *Text) *Lines { return &Lines{out: out, append: t.Append} }

// Emit writes the lines of one event.
func (l *Lines) Emit(e event.Event) error {
	l.buffer = l.append(l.buffer[:0], e)
	if len(l.buffer) == 0 {
		return nil
	}
	_, err := l.out.Write(l.buffer)
	return err
}

// Append appends the line of an event, or the lines of one that is several objects.
func (j JSON) Append(b []byte, e event.Event) []byte {
	switch e := e.(type) {
	case *event.Packet:
		return j.AppendPacket(b, e)
	case *event.FlowEvent:
		return j.AppendFlow(b, e)
	case *event.Summary:
		return j.AppendSummary(b, e)
	case *event.Report:
		return j.AppendReport(b, e)
	case *event.Probe:
		return j.AppendProbe(b, e)
	case *event.Probes:
		return b // each was a line
	case *event.FixStep:
		return j.AppendFix(b, e)
	case *event.Congestion:
		return j.AppendCongestion(b, e)
	}
	panic(fmt.Sprintf("event of type %s has no JSON", e.Type()))
}

// Append appends the lines of an event.
func (t *Text) Append(b []byte, e event.Event) []byte {
	switch e := e.(type) {
	case *event.Packet:
		return t.AppendPacket(b, e)
	case *event.FlowEvent:
		return t.AppendFlow(b, e)
	case *event.Summary:
		if t.Histogram {
			return t.AppendHistogram(b, e)
		}
		return t.AppendSummary(b, e)
	case *event.Report:
		return t.AppendReport(b, e)
	case *event.Probe:
		return t.AppendProbe(b, e)
	case *event.Probes:
		return t.AppendProbeEnd(b, e)
	case *event.FixStep:
		return t.AppendFix(b, e)
	case *event.Congestion:
		if t.Short {
			return t.AppendCongestionShort(b, e)
		}
		return t.AppendCongestion(b, e)
	}
	panic(fmt.Sprintf("event of type %s has no text", e.Type()))
}
