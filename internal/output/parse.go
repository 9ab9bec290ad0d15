package output

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"time"

	"xentrace/internal/event"
)

// ErrUnknownType: a line is an object of a type that this version does not know.
var ErrUnknownType = errors.New("unknown type of object")

// Parse reads one line of a recording. Keys that it does not know are ignored; a line of a
// type that it does not know is ErrUnknownType.
func Parse(line []byte) (event.Event, error) {
	kind, err := typeOf(line)
	if err != nil {
		return nil, err
	}
	switch kind {
	case "packet":
		if p, ok := parsePacket(line); ok {
			return p, nil
		}
		return parsed(line, (*recordedPacket).event)
	case "flow":
		return parsed(line, (*flowObject).event)
	case "interval":
		return parsed(line, (*summaryObject).interval)
	case "summary":
		return parsed(line, (*summaryObject).summary)
	case "notice":
		return parsed(line, (*noticeObject).event)
	case "start":
		return parsed(line, (*startObject).event)
	case "finding":
		return parsed(line, (*findingObject).event)
	}
	return nil, ErrUnknownType
}

// typeOf reads the type, which xentrace writes first, without reading the rest.
func typeOf(line []byte) (string, error) {
	const first = `{"type":"`
	if len(line) > len(first) && string(line[:len(first)]) == first {
		for i, c := range line[len(first):] {
			if c == '"' {
				return string(line[len(first) : len(first)+i]), nil
			}
		}
	}
	var object struct {
		Type string `json:"type"`
	}
	if err := json.Unmarshal(line, &object); err != nil {
		return "", fmt.Errorf("not a JSON object: %w", err)
	}
	return object.Type, nil
}

func parsed[O any](line []byte, event func(*O) (event.Event, error)) (event.Event, error) {
	o := new(O)
	if err := json.Unmarshal(line, o); err != nil {
		return nil, err
	}
	return event(o)
}

// A recordedPacket is a line of type packet, which AppendPacket writes by hand.
type recordedPacket struct {
	Time       stamp         `json:"time"`
	CPU        int           `json:"cpu"`
	Layer      string        `json:"layer"`
	Ifname     string        `json:"ifname"`
	Ifindex    int           `json:"ifindex"`
	NetNS      uint32        `json:"netns"`
	Queue      int           `json:"queue"`
	Verdict    string        `json:"verdict"`
	Cause      string        `json:"cause"`
	Slots      int           `json:"slots"`
	Limit      int           `json:"limit"`
	Len        int           `json:"len"`
	HeadOffset int           `json:"head_offset"`
	HeadLen    int           `json:"head_len"`
	Frags      []event.Frag  `json:"frags"`
	GSOSize    int           `json:"gso_size"`
	GSOSegs    int           `json:"gso_segs"`
	Flow       flowHeaders   `json:"flow"`
	TCP        *recordedTCP  `json:"tcp"`
	Process    processObject `json:"process"`
	Reason     string        `json:"reason"`
	Stack      []string      `json:"stack"`
	Seq        *uint32       `json:"seq"`
	EtherType  uint16        `json:"ethertype"`
	Inner      *carriedFlow  `json:"inner"`
	Header     []byte        `json:"header"`
	BeforeNAT  *carriedFlow  `json:"before_nat"`
}

type recordedTCP struct {
	State       string `json:"state"`
	Seq         uint32 `json:"seq"`
	SndUna      uint32 `json:"snd_una"`
	SndNxt      uint32 `json:"snd_nxt"`
	WriteSeq    uint32 `json:"write_seq"`
	Retransmits int    `json:"retransmits"`
	RTOMS       int64  `json:"rto_ms"`
	SRTTUS      int64  `json:"srtt_us"`
	SndQBytes   uint32 `json:"sndq_bytes"`
}

func (o *recordedPacket) event() (event.Event, error) {
	p := &event.Packet{
		Time: time.Time(o.Time), CPU: o.CPU, Interface: event.Device{Name: o.Ifname, Index: o.Ifindex, NetNS: o.NetNS}, Queue: o.Queue,
		Slots: o.Slots, Limit: o.Limit, Len: o.Len, HeadOffset: o.HeadOffset, HeadLen: o.HeadLen, Frags: o.Frags,
		GSOSize: o.GSOSize, GSOSegs: o.GSOSegs, Flow: o.Flow.Flow, Process: o.Process.Process, Reason: o.Reason, Stack: o.Stack,
		EtherType: o.EtherType, Header: o.Header,
	}
	if o.Seq != nil && p.Flow != nil {
		p.Flow.Seq, p.Flow.SeqKnown = *o.Seq, true
	}
	if o.Inner != nil {
		p.Inner = o.Inner.Flow.Flow
	}
	if o.BeforeNAT != nil {
		p.BeforeNAT = o.BeforeNAT.Flow.Flow
	}
	var err error
	if p.Layer, p.Verdict, p.Cause, err = parseVerdict(o.Layer, o.Verdict, o.Cause); err != nil {
		return nil, err
	}
	if o.TCP != nil {
		p.TCP, err = o.TCP.state()
	}
	return p, err
}

func (o *recordedTCP) state() (*event.TCP, error) {
	state, err := parseTCPState(o.State)
	return &event.TCP{
		State: state, Seq: o.Seq, SndUna: o.SndUna, SndNxt: o.SndNxt, WriteSeq: o.WriteSeq, Retransmits: o.Retransmits,
		RTO: milliseconds(o.RTOMS), SRTT: time.Duration(o.SRTTUS) * time.Microsecond, SndQBytes: o.SndQBytes,
	}, err
}

// parseVerdict reads the words of a packet.
func parseVerdict(layer, verdict, cause string) (event.Layer, event.Verdict, event.Cause, error) {
	l, known := event.LayerDriver, layer == event.LayerDriver.String()
	if layer == event.LayerElsewhere.String() {
		l, known = event.LayerElsewhere, true
	}
	if !known {
		return 0, 0, 0, fmt.Errorf("layer %.20q: unknown", layer)
	}
	v := event.VerdictNone
	for v <= event.Accepted && v.String() != verdict {
		v++
	}
	if v > event.Accepted {
		return 0, 0, 0, fmt.Errorf("verdict %.20q: unknown", verdict)
	}
	c, err := parseCause(cause)
	return l, v, c, err
}

func parseCause(word string) (event.Cause, error) {
	if word == "" {
		return event.CauseNone, nil
	}
	for _, cause := range event.Causes() {
		if cause.String() == word {
			return cause, nil
		}
	}
	return 0, fmt.Errorf("cause %.20q: unknown", word)
}

func parseTCPState(word string) (uint8, error) {
	for state := range math.MaxUint8 + 1 {
		if TCPState(uint8(state)) == word {
			return uint8(state), nil
		}
	}
	return 0, fmt.Errorf("TCP state %.20q: unknown", word)
}

func milliseconds(n int64) time.Duration { return time.Duration(n) * time.Millisecond }

func (o *flowObject) event() (event.Event, error) {
	f, err := o.history(event.FlowState(o.Event))
	return &event.FlowEvent{Time: time.Time(o.Time), Flow: f}, err
}

func (o *historyObject) history(state event.FlowState) (event.FlowHistory, error) {
	if o.Flow.Flow == nil {
		return event.FlowHistory{}, errors.New("flow: missing")
	}
	f := event.FlowHistory{
		FlowKey: event.FlowKey{NetNS: o.NetNS, Proto: o.Flow.Proto, Source: o.Flow.Source, Destination: o.Flow.Destination},
		State:   state, Interface: event.Device{Name: o.Ifname, NetNS: o.NetNS}, Process: o.Process.Process,
		Drops: o.Drops, FirstDrop: time.Time(o.FirstDrop), LastDrop: time.Time(o.LastDrop), StalledFor: milliseconds(o.StalledMS),
		Causes: o.Causes, Layout: string(o.Layout), Advice: advice(o.Advice), Reasons: o.Reasons.counts, MinSlots: o.MinSlots, MaxSlots: o.MaxSlots,
		Elsewhere: o.Elsewhere, Linearized: o.Linearized, Bounced: o.Bounced, Rejected: o.Rejected, OverLimit: o.OverLimit,
		Stalls: o.Stalls, StalledAtEnd: o.StalledAtEnd,
	}
	if o.Retransmits != nil && o.Seq != nil && o.SndQBytes != nil && o.SameSeqDrops != nil && o.RTOMS != nil && o.Backoff != nil {
		f.TCP = &event.FlowTCP{
			Retransmits: *o.Retransmits, Seq: *o.Seq, SndQBytes: *o.SndQBytes, SameSeq: *o.SameSeqDrops, RTO: milliseconds(*o.RTOMS), Backoff: *o.Backoff,
		}
	}
	if o.Inferred && o.Seq != nil && o.SameSeqDrops != nil {
		f.TCP, f.Inferred = &event.FlowTCP{Seq: *o.Seq, SameSeq: *o.SameSeqDrops}, true
	}
	f.Packet = event.Packet{Interface: f.Interface, Flow: o.Flow.Flow, Process: f.Process, Slots: o.Last.Slots, Limit: o.Last.Limit, Len: o.Last.Len, Header: o.Last.Header}
	if o.BeforeNAT != nil {
		f.Packet.BeforeNAT = o.BeforeNAT.Flow.Flow
	}
	if o.Last.Verdict == "" { // of a version that did not write it
		return f, nil
	}
	var err error
	f.Packet.Layer, f.Packet.Verdict, f.Packet.Cause, err = parseVerdict(o.Last.Layer, o.Last.Verdict, string(o.Last.Cause))
	return f, err
}

func advice(objects []adviceObject) []event.Advice {
	var all []event.Advice
	for _, a := range objects {
		all = append(all, event.Advice{ID: a.ID, Command: string(a.Command), Effect: string(a.Effect), Cost: string(a.Cost)})
	}
	return all
}

func (o *summaryObject) totals() (event.Totals, []event.Explanation, error) {
	t := event.Totals{
		Time: time.Time(o.Time), Duration: milliseconds(o.DurationMS), Drops: o.Drops, Events: o.Events,
		Lost: event.Lost{Ring: o.Lost.Ring, Recursion: o.Lost.Recursion, Missed: o.Lost.Missed}, Missing: o.Missing,
	}
	for i := range o.Interfaces {
		t.Interfaces = append(t.Interfaces, o.Interfaces[i].totals())
	}
	for _, g := range o.Gaps {
		t.Gaps = append(t.Gaps, event.Gap{From: time.Time(g.From), To: time.Time(g.To), Reason: g.Reason})
	}
	for _, s := range o.Suppressed {
		_, v, c, err := parseVerdict(event.LayerDriver.String(), s.Verdict, string(s.Cause))
		if err != nil {
			return t, nil, err
		}
		t.Suppressed = append(t.Suppressed, event.Suppressed{Verdict: v, Cause: c, Records: s.Records})
	}
	var explained []event.Explanation
	for _, e := range o.Explained {
		_, v, _, err := parseVerdict(event.LayerDriver.String(), e.Verdict, "")
		if err != nil {
			return t, nil, err
		}
		explained = append(explained, event.Explanation{Name: e.Name, Verdict: v, Meaning: e.Meaning, Count: e.Count, Advice: advice(e.Advice)})
	}
	return t, explained, nil
}

func (o *interfaceObject) totals() event.InterfaceTotals {
	t := event.InterfaceTotals{
		Device: event.Device{Name: o.Ifname, Index: o.Ifindex, NetNS: o.NetNS}, Driver: o.Driver, Gone: o.Gone,
		Counts: event.Counts{
			Packets: o.Packets, Bytes: o.Bytes, Slots: event.Histogram(o.Slots), OverLimit: o.OverLimit,
			Dropped: o.Dropped, Linearized: o.Linearized, Bounced: o.Bounced, Causes: o.Causes,
		},
		Reasons: o.Reasons.counts, Rejected: o.Rejected, StuckNow: o.StuckNow, TxDroppedDelta: o.TxDroppedDelta, Queues: o.Queues,
		Conntrack: (*event.Conntrack)(o.Conntrack),
	}
	if o.Elsewhere != nil {
		t.Elsewhere = *o.Elsewhere
	}
	if o.Backend != nil {
		t.Backend = *o.Backend
	}
	t.XDP, t.XDPPackets, t.XDPDropped = o.XDPPackets != nil, valueOf(o.XDPPackets), valueOf(o.XDPDropped)
	if o.StuckMS != nil {
		stuck := milliseconds(*o.StuckMS)
		t.Stuck = &stuck
	}
	return t
}

func (o *summaryObject) interval() (event.Event, error) {
	totals, explained, err := o.totals()
	for _, key := range onlySummaries {
		delete(totals.Missing, key)
	}
	return &event.Interval{Totals: totals, Explained: explained}, err
}

func (o *summaryObject) summary() (event.Event, error) {
	totals, explained, err := o.totals()
	s := &event.Summary{Totals: totals, Explained: explained, Filter: o.Filter, LeftOut: o.LeftOut}
	if err != nil || o.FlowsStalled == nil {
		return s, err
	}
	s.Flows = &event.FlowSummary{FlowCounts: event.FlowCounts{EverStalled: *o.FlowsStalled, Lost: valueOf(o.Lost.Flows), Flows: valueOf(o.FlowsTracked), Stalled: valueOf(o.FlowsStalledNow)}, Losing: valueOf(o.FlowsLosing)}
	for i := range o.Flows {
		f, err := o.Flows[i].history(event.FlowState(o.Flows[i].State))
		if err != nil {
			return nil, err
		}
		s.Flows.Flows = append(s.Flows.Flows, f)
	}
	return s, nil
}

func valueOf[T any](p *T) (v T) {
	if p != nil {
		v = *p
	}
	return v
}

func (o *noticeObject) event() (event.Event, error) {
	n := o.Notice
	n.Time, n.ID = time.Time(o.Time), o.ID
	return &n, nil
}

func (o *findingObject) event() (event.Event, error) {
	f, err := o.finding()
	return &f, err
}

func (o *findingObject) finding() (event.Finding, error) {
	f := event.Finding{ID: o.ID, Interface: string(o.Ifname), NetNS: valueOf(o.NetNS), Message: o.Message, Evidence: o.Evidence, Advice: advice(o.Advice)}
	for _, status := range event.Statuses() {
		if status.String() == o.Status {
			f.Status = status
			return f, nil
		}
	}
	return f, fmt.Errorf("status %.20q: unknown", o.Status)
}

func (o *startObject) event() (event.Event, error) {
	if o.Format < 1 {
		return nil, errors.New("format: missing")
	}
	s := &event.Start{
		Time: time.Time(o.Time), Format: o.Format, Segment: o.Segment, Version: string(o.Xentrace.Version), Commit: string(o.Xentrace.Commit), Command: o.Command,
		BootID: string(o.BootID), Uptime: milliseconds(o.UptimeMS), Hostname: string(o.Hostname), Kernel: string(o.Kernel), Machine: string(o.Machine),
	}
	if o.Xen != nil {
		s.Xen = &event.Xen{Version: string(o.Xen.Version), Type: string(o.Xen.Type)}
	}
	for _, i := range o.Interfaces {
		s.Interfaces = append(s.Interfaces, event.StartInterface{
			Device: event.Device{Name: i.Ifname, Index: i.Ifindex, NetNS: i.NetNS}, Driver: i.Driver, MTU: i.MTU, Features: i.Features, Queues: i.Queues, Linearizes: i.Linearizes,
		})
	}
	if o.Check != nil {
		s.Check = []event.Finding{}
	}
	for i := range o.Check {
		f, err := o.Check[i].finding()
		if err != nil {
			return nil, err
		}
		s.Check = append(s.Check, f)
	}
	return s, nil
}
