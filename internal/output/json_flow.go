package output

import (
	"maps"
	"slices"
	"time"

	"xentrace/internal/event"
)

// AppendFlow appends a line of type flow.
func (JSON) AppendFlow(b []byte, e *event.FlowEvent) []byte {
	f := &e.Flow
	b = append(b, `{"type":"flow","time":"`...)
	b = appendTime(b, e.Time)
	b = append(b, `","event":"`...)
	b = append(b, f.State.String()...)
	b = appendUint(b, `","netns":`, uint64(f.NetNS))
	b = append(b, `,"ifname":`...)
	b = appendString(b, f.Interface.Name)
	b = appendFlow(b, headersOf(f))
	b = appendProcess(b, f.Process)
	b = appendUint(b, `,"drops":`, f.Drops)
	b = appendOfConnection(b, f, `,"retransmits":`, func(t *event.FlowTCP) uint64 { return uint64(t.Retransmits) })
	b = appendOfConnection(b, f, `,"seq":`, func(t *event.FlowTCP) uint64 { return uint64(t.Seq) })
	b = appendMoment(b, `,"first_drop":`, f.FirstDrop)
	b = appendMoment(b, `,"last_drop":`, f.LastDrop)
	b = appendInt(b, `,"stalled_ms":`, int(f.StalledFor.Milliseconds()))
	b = appendOfConnection(b, f, `,"sndq_bytes":`, func(t *event.FlowTCP) uint64 { return uint64(t.SndQBytes) })
	b = appendFlowCauses(b, f)
	b = appendNamed(b, `,"layout":`, f.Layout)
	b = appendFlowAdvice(b, f)
	b = appendFlowReasons(b, f)
	b = appendOfConnection(b, f, `,"same_seq_drops":`, func(t *event.FlowTCP) uint64 { return uint64(t.SameSeq) })
	b = appendOfConnection(b, f, `,"rto_ms":`, func(t *event.FlowTCP) uint64 { return uint64(t.RTO.Milliseconds()) })
	b = appendOfConnection(b, f, `,"backoff":`, func(t *event.FlowTCP) uint64 { return uint64(t.Backoff) })
	b = appendInt(b, `,"min_slots":`, f.MinSlots)
	b = appendInt(b, `,"max_slots":`, f.MaxSlots)
	return append(b, "}\n"...)
}

func appendFlowAdvice(b []byte, f *event.FlowHistory) []byte {
	b = append(b, `,"advice":[`...)
	for n, a := range f.Advice {
		if n > 0 {
			b = append(b, ',')
		}
		b = appendFindingAdvice(b, adviceFor(a, f))
	}
	return append(b, ']')
}

// adviceFor returns advice with its command complete.
func adviceFor(a event.Advice, f *event.FlowHistory) event.Advice {
	a.Command = a.For(f.Interface.Name)
	return a
}

// headersOf returns the addresses of a flow as a packet's headers have them.
func headersOf(f *event.FlowHistory) *event.Flow {
	return &event.Flow{Proto: f.Proto, Source: f.Source, Destination: f.Destination}
}

// appendOfConnection appends what only a connection of this machine has.
func appendOfConnection(b []byte, f *event.FlowHistory, key string, value func(*event.FlowTCP) uint64) []byte {
	if f.TCP == nil {
		return append(append(b, key...), "null"...)
	}
	return appendUint(b, key, value(f.TCP))
}

// appendFlowCauses appends how often the driver dropped packets of a flow for each cause.
func appendFlowCauses(b []byte, f *event.FlowHistory) []byte {
	b = append(b, `,"causes":{`...)
	for i, c := range event.Causes() {
		if i > 0 {
			b = append(b, ',')
		}
		b = appendUint(appendString(b, c.String()), ":", f.Causes[c])
	}
	return append(b, '}')
}

// appendFlowReasons appends how often packets of a flow were dropped elsewhere, for each
// reason that occurred.
func appendFlowReasons(b []byte, f *event.FlowHistory) []byte {
	b = append(b, `,"reasons":{`...)
	for i, reason := range slices.Sorted(maps.Keys(f.Reasons)) {
		if i > 0 {
			b = append(b, ',')
		}
		b = appendUint(appendString(b, reasonOrUnknown(reason)), ":", f.Reasons[reason])
	}
	return append(b, '}')
}

// reasonOrUnknown is what a drop elsewhere is counted as where the kernel tells no
// reason.
func reasonOrUnknown(reason string) string {
	if reason == "" {
		return "unknown"
	}
	return reason
}

// appendMoment appends a time, or null for none.
func appendMoment(b []byte, key string, t time.Time) []byte {
	b = append(b, key...)
	if t.IsZero() {
		return append(b, "null"...)
	}
	return append(appendTime(append(b, '"'), t), '"')
}

// appendProcess appends whose socket it is, null where that is not known.
func appendProcess(b []byte, p *event.Process) []byte {
	if p == nil {
		return append(b, `,"process":null`...)
	}
	b = appendInt(b, `,"process":{"pid":`, p.PID)
	b = appendNamed(b, `,"comm":`, p.Comm)
	b = appendUint(b, `,"uid":`, uint64(p.UID))
	b = appendNamed(b, `,"unit":`, p.Unit)
	b = appendNamed(b, `,"container":`, p.Container)
	return append(b, '}')
}
