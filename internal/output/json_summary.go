package output

import (
	"maps"
	"slices"
	"time"

	"xentrace/internal/event"
	"xentrace/internal/slots"
)

// notTracked names the keys of the summary that have no value where flows are not
// followed, and why.
var notTracked = map[string]string{
	"flows_stalled": "flows are followed by watch only",
	"flows":         "flows are followed by watch only",
}

// AppendSummary appends the line of type summary. The keys of missing name each
// null in it and say why it is one.
func (JSON) AppendSummary(b []byte, r *event.Summary) []byte {
	t := &r.Totals
	var stalled, lost *uint64
	if r.Flows != nil {
		stalled, lost = &r.Flows.EverStalled, &r.Flows.Lost
	}
	b = append(b, `{"type":"summary","time":"`...)
	b = appendTime(b, t.Time)
	b = appendInt(b, `","duration_ms":`, int(t.Duration.Milliseconds()))
	b = append(b, `,"interfaces":[`...)
	for i := range t.Interfaces {
		if i > 0 {
			b = append(b, ',')
		}
		b = appendInterface(b, t, &t.Interfaces[i])
	}
	b = appendMaybe(b, `],"flows_stalled":`, stalled)
	b = appendUint(b, `,"events":`, t.Events)
	b = appendUint(b, `,"lost":{"ring":`, t.Lost.Ring)
	b = appendMaybe(b, `,"flows":`, lost)
	b = appendMaybe(b, `,"recursion":`, t.Lost.Recursion)
	b = appendMaybe(b, `,"missed":`, t.Lost.Missed)
	b = appendGaps(append(b, '}'), t.Gaps)
	b = append(b, `,"filter":[`...)
	for i, flag := range r.Filter {
		if i > 0 {
			b = append(b, ',')
		}
		b = appendString(b, flag)
	}
	b = appendUint(b, `],"left_out":`, r.LeftOut)
	b = append(b, `,"missing":`...)
	b = appendMissing(b, r)
	return append(b, "}\n"...)
}

func appendInterface(b []byte, totals *event.Totals, t *event.InterfaceTotals) []byte {
	b = append(b, `{"ifname":`...)
	b = appendString(b, t.Name)
	b = appendInt(b, `,"ifindex":`, t.Index)
	b = appendUint(b, `,"netns":`, uint64(t.NetNS))
	b = append(b, `,"driver":`...)
	b = appendString(b, t.Driver)
	b = append(b, `,"backend":`...)
	b = appendString(b, string(t.Backend))
	b = appendInt(b, `,"limit":`, slots.Limit)
	b = appendUint(b, `,"packets":`, t.Packets)
	b = appendUint(b, `,"bytes":`, t.Bytes)
	b = appendSlots(b, &t.Slots)
	b = appendUint(b, `,"over_limit":`, t.OverLimit)
	b = appendUint(b, `,"dropped":`, t.Dropped)
	b = appendUint(b, `,"linearized":`, t.Linearized)
	b = appendUint(b, `,"bounced":`, t.Bounced)
	b = appendMaybe(b, `,"rejected":`, t.Rejected)
	b = append(b, `,"causes":{`...)
	for i, c := range event.Causes() {
		if i > 0 {
			b = append(b, ',')
		}
		b = appendString(b, c.String())
		b = appendUint(b, `:`, t.Causes[c])
	}
	b = appendMaybe(b, `},"tx_dropped_delta":`, t.TxDroppedDelta)
	b = appendMaybe(b, `,"stuck_ms":`, milliseconds(t.Stuck))
	b = appendElsewhere(b, totals, t)
	return append(b, '}')
}

// appendGaps appends when nothing could be counted; null is the end of one that
// lasted to the end.
func appendGaps(b []byte, gaps []event.Gap) []byte {
	b = append(b, `,"gaps":[`...)
	for i, gap := range gaps {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(b, `{"from":"`...)
		b = appendTime(b, gap.From)
		b = append(b, `","to":`...)
		if gap.To.IsZero() {
			b = append(b, "null"...)
		} else {
			b = appendTime(append(b, '"'), gap.To)
			b = append(b, '"')
		}
		b = append(b, `,"reason":"`...)
		b = append(b, gap.Reason...)
		b = append(b, `"}`...)
	}
	return append(b, ']')
}

// appendSlots appends the histogram: slots to packets, fewest slots first,
// without the empty buckets.
func appendSlots(b []byte, h *event.Histogram) []byte {
	b = append(b, `,"slots":{`...)
	first := true
	for n, packets := range h.All() {
		if !first {
			b = append(b, ',')
		}
		first = false
		b = appendInt(b, `"`, n)
		b = appendUint(b, `":`, packets)
	}
	return append(b, '}')
}

func appendMaybe(b []byte, key string, value *uint64) []byte {
	if value == nil {
		return append(append(b, key...), "null"...)
	}
	return appendUint(b, key, *value)
}

func milliseconds(d *time.Duration) *uint64 {
	if d == nil {
		return nil
	}
	ms := uint64(d.Milliseconds())
	return &ms
}

func appendMissing(b []byte, r *event.Summary) []byte {
	missing := make(map[string]string)
	if r.Flows == nil {
		maps.Copy(missing, notTracked)
	}
	maps.Copy(missing, r.Missing)
	b = append(b, '{')
	for i, key := range slices.Sorted(maps.Keys(missing)) {
		if i > 0 {
			b = append(b, ',')
		}
		b = appendString(b, key)
		b = append(b, ':')
		b = appendString(b, missing[key])
	}
	return append(b, '}')
}
