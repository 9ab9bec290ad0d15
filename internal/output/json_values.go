package output

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"time"

	"xentrace/internal/event"
)

// The values of the JSON objects that encoding/json does not write as the contract has
// them, each in both directions.

// A nullable is a string, null if it is empty.
type nullable string

func (t nullable) MarshalJSON() ([]byte, error) { return appendOrNull(nil, string(t)), nil }

// A stamp is a time, null if it is zero.
type stamp time.Time

func (s stamp) MarshalJSON() ([]byte, error) {
	if time.Time(s).IsZero() {
		return []byte("null"), nil
	}
	return append(appendTime([]byte{'"'}, time.Time(s)), '"'), nil
}

func (s *stamp) UnmarshalJSON(b []byte) error { return (*time.Time)(s).UnmarshalJSON(b) }

type flowStateWord event.FlowState

func (w flowStateWord) MarshalJSON() ([]byte, error) {
	return appendString(nil, event.FlowState(w).String()), nil
}

func (w *flowStateWord) UnmarshalJSON(b []byte) error {
	for state := event.Troubled; state <= event.Closed; state++ {
		if string(b) == `"`+state.String()+`"` {
			*w = flowStateWord(state)
			return nil
		}
	}
	return fmt.Errorf("flow state %.40s: unknown", b)
}

type flowHeaders struct{ *event.Flow }

func (f flowHeaders) MarshalJSON() ([]byte, error) { return appendFlow(nil, f.Flow), nil }

func (f *flowHeaders) UnmarshalJSON(b []byte) error {
	var o *struct {
		Proto string     `json:"proto"`
		SAddr netip.Addr `json:"saddr"`
		SPort uint16     `json:"sport"`
		DAddr netip.Addr `json:"daddr"`
		DPort uint16     `json:"dport"`
	}
	if err := json.Unmarshal(b, &o); err != nil || o == nil {
		return err
	}
	proto, known := protocolNumber(o.Proto)
	if !known || !o.SAddr.IsValid() || !o.DAddr.IsValid() {
		return errors.New("flow: protocol or address is missing")
	}
	f.Flow = &event.Flow{Proto: proto, Source: netip.AddrPortFrom(o.SAddr, o.SPort), Destination: netip.AddrPortFrom(o.DAddr, o.DPort)}
	return nil
}

func protocolNumber(name string) (uint8, bool) {
	for number, known := range ipProtocols {
		if known == name {
			return number, true
		}
	}
	number, err := strconv.ParseUint(name, 10, 8)
	return uint8(number), err == nil
}

type processObject struct{ *event.Process }

func (p processObject) MarshalJSON() ([]byte, error) { return appendProcess(nil, p.Process), nil }

func (p *processObject) UnmarshalJSON(b []byte) error {
	var o *struct {
		PID       int    `json:"pid"`
		Comm      string `json:"comm"`
		UID       uint32 `json:"uid"`
		Unit      string `json:"unit"`
		Container string `json:"container"`
	}
	if err := json.Unmarshal(b, &o); err != nil || o == nil {
		return err
	}
	p.Process = &event.Process{PID: o.PID, Comm: o.Comm, UID: o.UID, Unit: o.Unit, Container: o.Container}
	return nil
}

// causeCounts has every cause, in the order of the driver's tests.
type causeCounts [event.NumCauses]uint64

func (c causeCounts) MarshalJSON() ([]byte, error) {
	var o object
	for _, cause := range event.Causes() {
		o = append(o, member{cause.String(), c[cause]})
	}
	return o.MarshalJSON()
}

func (c *causeCounts) UnmarshalJSON(b []byte) error {
	var counts map[string]uint64
	if err := json.Unmarshal(b, &counts); err != nil {
		return err
	}
	for _, cause := range event.Causes() {
		c[cause] = counts[cause.String()]
	}
	return nil
}

// slotCounts has the buckets that are not empty, fewest slots first.
type slotCounts event.Histogram

func (h slotCounts) MarshalJSON() ([]byte, error) {
	o := object{}
	for n, packets := range (*event.Histogram)(&h).All() {
		o = append(o, member{strconv.Itoa(n), packets})
	}
	return o.MarshalJSON()
}

func (h *slotCounts) UnmarshalJSON(b []byte) error {
	var counts map[string]uint64
	if err := json.Unmarshal(b, &counts); err != nil {
		return err
	}
	for text, packets := range counts {
		n, err := strconv.Atoi(text)
		if err != nil || n < 0 || n >= event.Buckets {
			return fmt.Errorf("slots: %.20q is not a number from 0 to %d", text, event.Buckets-1)
		}
		h[n] = packets
	}
	return nil
}

// reasonCounts are drops outside the driver by reason; null where they were not asked for.
// One without a reason counts as "unknown".
type reasonCounts struct {
	counts map[string]uint64
	known  bool
}

const unknownReason = "unknown"

func (r reasonCounts) MarshalJSON() ([]byte, error) {
	if !r.known {
		return []byte("null"), nil
	}
	o := object{}
	for _, reason := range slices.Sorted(maps.Keys(r.counts)) {
		name := reason
		if name == "" {
			name = unknownReason
		}
		o = append(o, member{name, r.counts[reason]})
	}
	return o.MarshalJSON()
}

func (r *reasonCounts) UnmarshalJSON(b []byte) error {
	if err := json.Unmarshal(b, &r.counts); err != nil {
		return err
	}
	r.known = r.counts != nil
	if n, there := r.counts[unknownReason]; there {
		r.counts[""] = n
		delete(r.counts, unknownReason)
	}
	return nil
}

// evidence keeps the order of the facts.
type evidence []event.Fact

func (e evidence) MarshalJSON() ([]byte, error) {
	o := object{}
	for _, fact := range e {
		o = append(o, member{fact.Key, fact.Value})
	}
	return o.MarshalJSON()
}

// UnmarshalJSON keeps numbers as they are written.
func (e *evidence) UnmarshalJSON(b []byte) error {
	d := json.NewDecoder(bytes.NewReader(b))
	d.UseNumber()
	if start, err := d.Token(); err != nil || start != json.Delim('{') {
		return errors.New("evidence: not an object")
	}
	for d.More() {
		key, err := d.Token()
		if err != nil {
			return err
		}
		value, err := d.Token()
		if err != nil {
			return err
		}
		if _, nested := value.(json.Delim); nested {
			return fmt.Errorf("evidence: %.40v is not a plain value", key)
		}
		*e = append(*e, event.Fact{Key: key.(string), Value: value})
	}
	return nil
}
