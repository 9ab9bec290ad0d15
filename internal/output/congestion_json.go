package output

import (
	"encoding/json"
	"maps"
	"slices"
	"strconv"
	"time"

	"xentrace/internal/congestion"
	"xentrace/internal/verdict"
)

// AppendCongestion appends a line of type congestion.
func (JSON) AppendCongestion(b []byte, c *Congestion) []byte {
	r := c.Report
	b = append(b, `{"type":"congestion","time":"`...)
	b = appendTime(b, r.Time)
	b = append(b, `","ifname":`...)
	b = appendString(b, r.Name)
	b = appendInt(b, `,"ifindex":`, r.Index)
	b = appendUint(b, `,"netns":`, uint64(r.NetNS))
	b = append(b, `,"driver":`...)
	b = appendString(b, r.Driver)
	b = appendInt(b, `,"duration_ms":`, int(r.Duration.Milliseconds()))
	b = appendUint(b, `,"packets":`, r.Total.Packets)
	b = appendUint(b, `,"bytes":`, r.Total.Bytes)
	b = appendNumber(b, `,"packets_per_second":`, r.Rate(r.Total.Packets))
	b = append(b, `,"queues":[`...)
	for i := range r.Queues {
		if i > 0 {
			b = append(b, ',')
		}
		b = appendQueue(b, &r.Queues[i])
	}
	b = appendLog2(append(b, ']'), `,"size_bytes":`, r.Sizes)
	b = appendLog2(b, `,"slots":`, r.Slots)
	b = appendTotals(b, r)
	b = appendReceive(b, r.Receive)
	b = appendCPU(b, r.CPU)
	b = appendConnections(b, r)
	b = appendJudgment(b, &c.Judgment)
	b = appendChanges(b, c.Changes)
	b = append(appendMaybe(b, `,"lost":{"recursion":`, r.Missed), '}')
	b = append(b, `,"missing":{`...)
	missing := allMissing(r)
	for i, key := range slices.Sorted(maps.Keys(missing)) {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(appendString(b, key), ':')
		b = appendString(b, missing[key])
	}
	return append(b, "}}\n"...)
}

// reckonedFrom are the keys that are null where another is, for the same reason.
var reckonedFrom = map[string]string{
	"full_share":               "full_ms",
	"completion_mean_us":       "pps_bound",
	"response_runs":            "responses",
	"responses_per_run":        "responses",
	"pps_bound_share":          "pps_bound",
	"notifications_per_packet": "notifications",
	"accepts_per_second":       "accepts",
	"interrupts_cpu":           "interrupts",
	"interrupts_share":         "interrupts",
}

func allMissing(r *congestion.Report) map[string]string {
	missing := maps.Clone(r.Missing)
	for key, from := range reckonedFrom {
		if reason := r.Missing[from]; reason != "" {
			missing[key] = reason
		}
	}
	return missing
}

func appendQueue(b []byte, q *congestion.Queue) []byte {
	b = appendInt(b, `{"queue":`, q.Number)
	b = appendUint(b, `,"packets":`, q.Packets)
	b = appendUint(b, `,"bytes":`, q.Bytes)
	b = appendUint(b, `,"slots":`, q.Slots)
	b = appendUint(b, `,"busy":`, q.Busy)
	b = appendLog2(b, `,"occupancy":`, q.Occupancy)
	b = appendMaybe(b, `,"full_ms":`, milliseconds(q.Full))
	b = appendUint(b, `,"stops":`, q.Stops)
	b = appendLog2(b, `,"wake_us":`, q.Wake)
	b = appendLog2(b, `,"completion_us":`, q.Latency)
	b = appendMaybe(b, `,"completion_mean_us":`, microseconds(q.MeanLatency))
	b = appendMaybe(b, `,"responses":`, q.Responses)
	b = appendMaybe(b, `,"response_runs":`, q.Runs)
	b = appendMaybe(b, `,"notifications":`, q.Notifications)
	b = appendMaybe(b, `,"copied":`, q.Copied)
	b = appendMaybe(b, `,"interrupts":`, q.Interrupts)
	return append(b, '}')
}

// appendTotals appends what is of all queues together.
func appendTotals(b []byte, r *congestion.Report) []byte {
	t := &r.Total
	b = appendNumber(b, `,"small_packet_share":`, t.SmallShare())
	b = appendNumber(b, `,"bytes_per_slot":`, t.BytesPerSlot())
	b = appendUint(b, `,"payload_bytes":`, t.Payload)
	if t.Full == nil {
		b = append(b, `,"full_share":null`...)
	} else {
		b = appendNumber(b, `,"full_share":`, r.FullShare())
	}
	b = appendMaybe(b, `,"completion_mean_us":`, microseconds(t.MeanLatency))
	b = appendMaybe(b, `,"copied":`, t.Copied)
	b = appendRatio(b, `,"notifications_per_packet":`, t.Notifications, t.Packets)
	b = appendPer(b, `,"responses_per_run":`, t.Responses, t.Runs)
	if r.Bound == nil {
		return append(b, `,"pps_bound":null,"pps_bound_share":null`...)
	}
	b = appendNumber(b, `,"pps_bound":`, r.Bound.PacketsPerSecond)
	return appendNumber(b, `,"pps_bound_share":`, r.Bound.Share)
}

func appendReceive(b []byte, r *congestion.Receive) []byte {
	if r == nil {
		return append(b, `,"receive":null`...)
	}
	b = appendUint(b, `,"receive":{"polls":`, r.Polls)
	b = appendUint(b, `,"packets":`, r.Packets)
	b = appendNumber(b, `,"packets_per_poll":`, congestion.Ratio(r.Packets, r.Polls))
	b = appendUint(b, `,"budget_exhausted":`, r.Exhausted)
	return append(b, '}')
}

func appendCPU(b []byte, c *congestion.CPU) []byte {
	if c == nil {
		return append(b, `,"cpu":null`...)
	}
	b = appendInt(b, `,"cpu":{"count":`, c.Count)
	b = appendInt(b, `,"hottest":`, c.Hottest)
	b = appendNumber(b, `,"hottest_softirq_share":`, c.HottestInterrupts)
	b = appendNumber(b, `,"mean_softirq_share":`, c.MeanInterrupts)
	b = appendNumber(b, `,"hottest_busy_share":`, c.HottestBusy)
	b = appendNumber(b, `,"rest_busy_share":`, c.RestBusy)
	b = appendNumber(b, `,"steal_share":`, c.Steal)
	if c.InterruptShare == nil {
		return append(b, `,"interrupts_cpu":null,"interrupts_share":null}`...)
	}
	b = appendInt(b, `,"interrupts_cpu":`, c.InterruptsCPU)
	b = appendNumber(b, `,"interrupts_share":`, *c.InterruptShare)
	return append(b, '}')
}

func appendConnections(b []byte, r *congestion.Report) []byte {
	t := r.TCP
	if t == nil {
		return append(b, `,"tcp":null`...)
	}
	b = appendMaybe(b, `,"tcp":{"accepts":`, t.Accepts)
	if t.Accepts == nil {
		b = append(b, `,"accepts_per_second":null`...)
	} else {
		b = appendNumber(b, `,"accepts_per_second":`, r.Rate(*t.Accepts))
	}
	b = appendLog2(b, `,"accept_us":`, t.Accept)
	b = appendMaybe(b, `,"listen_overflows":`, t.Overflows)
	b = appendMaybe(b, `,"listen_drops":`, t.Drops)
	b = appendUint(b, `,"established":`, t.Established)
	b = appendNumber(b, `,"established_per_second":`, r.Rate(t.Established))
	b = appendUint(b, `,"opened":`, t.Opened)
	b = appendUint(b, `,"closed":`, t.Closed)
	b = append(b, `,"listeners":[`...)
	for i, l := range t.Listeners {
		if i > 0 {
			b = append(b, ',')
		}
		b = appendUint(b, `{"port":`, uint64(l.Port))
		b = appendUint(b, `,"accepts":`, l.Accepts)
		b = appendUint(b, `,"longest_queue":`, uint64(l.Longest))
		b = appendUint(b, `,"backlog":`, uint64(l.Limit))
		b = appendUint(b, `,"full":`, l.Full)
		b = append(b, '}')
	}
	return append(b, "]}"...)
}

func appendJudgment(b []byte, j *verdict.Judgment) []byte {
	b = strconv.AppendBool(append(b, `,"small_packet_congestion":`...), j.SmallPackets)
	b = append(b, `,"verdict":[`...)
	for i, limit := range j.Limits {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(b, `{"id":`...)
		b = appendString(b, string(limit.ID))
		b = append(b, `,"message":`...)
		b = appendString(b, limit.Meaning)
		b = append(b, `,"evidence":{`...)
		for n, figure := range limit.Evidence {
			if n > 0 {
				b = append(b, ',')
			}
			b = append(appendString(b, figure.Key), ':')
			value, _ := json.Marshal(figure.Value) // of simple types, which always can be
			b = append(b, value...)
		}
		b = append(b, `},"advice":[`...)
		for n, a := range limit.Advice {
			if n > 0 {
				b = append(b, ',')
			}
			b = appendFindingAdvice(b, a)
		}
		b = append(b, "]}"...)
	}
	return append(b, ']')
}

// appendChanges appends how figures differ from an earlier run.
func appendChanges(b []byte, changes []congestion.Change) []byte {
	if changes == nil {
		return append(b, `,"baseline":null`...)
	}
	b = append(b, `,"baseline":{`...)
	for i, change := range changes {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(appendString(b, change.Key), `:{"before":`...)
		b = appendFloat(b, change.Before)
		b = append(b, `,"now":`...)
		b = append(appendFloat(b, change.Now), '}')
	}
	return append(b, '}')
}

func appendFloat(b []byte, value *float64) []byte {
	if value == nil {
		return append(b, "null"...)
	}
	return appendNumber(b, "", *value)
}

// appendLog2 appends a histogram, upper bound to count, without the empty buckets; null
// if there is none.
func appendLog2(b []byte, key string, h congestion.Histogram) []byte {
	b = append(b, key...)
	if h == nil {
		return append(b, "null"...)
	}
	b = append(b, '{')
	first := true
	for bound, n := range h.All() {
		if !first {
			b = append(b, ',')
		}
		first = false
		b = strconv.AppendUint(append(b, '"'), bound, 10)
		b = appendUint(b, `":`, n)
	}
	return append(b, '}')
}

// appendNumber appends a share or a rate, with four decimals at most.
func appendNumber(b []byte, key string, value float64) []byte {
	rounded, _ := strconv.ParseFloat(strconv.FormatFloat(value, 'f', 4, 64), 64)
	return strconv.AppendFloat(append(b, key...), rounded, 'f', -1, 64)
}

// appendRatio appends part of whole, null if the part is not known.
func appendRatio(b []byte, key string, part *uint64, whole uint64) []byte {
	if part == nil {
		return append(append(b, key...), "null"...)
	}
	return appendNumber(b, key, congestion.Ratio(*part, whole))
}

func appendPer(b []byte, key string, part, whole *uint64) []byte {
	if whole == nil {
		return append(append(b, key...), "null"...)
	}
	return appendRatio(b, key, part, *whole)
}

func microseconds(d *time.Duration) *uint64 {
	if d == nil {
		return nil
	}
	us := uint64(d.Microseconds())
	return &us
}
