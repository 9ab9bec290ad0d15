package output

import (
	"bytes"
	"encoding/json"
	"maps"
	"slices"
	"strconv"
	"time"

	"xentrace/internal/event"
	"xentrace/internal/slots"
	"xentrace/internal/verdict"
)

// The objects of the JSON output. Their tags are the contract: keys, order and units.
// docs/schema.json describes them.

func encode(b []byte, v any) []byte {
	line := bytes.NewBuffer(b)
	encoder := json.NewEncoder(line)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(v); err != nil {
		panic("json: " + err.Error()) // of plain data, which always can be encoded
	}
	return line.Bytes()
}

type nullable string

func (t nullable) MarshalJSON() ([]byte, error) { return appendOrNull(nil, string(t)), nil }

type stamp time.Time

func (s stamp) MarshalJSON() ([]byte, error) {
	if time.Time(s).IsZero() {
		return []byte("null"), nil
	}
	return append(appendTime([]byte{'"'}, time.Time(s)), '"'), nil
}

// An object keeps the order of its keys.
type object []member

type member struct {
	key   string
	value any
}

func (o object) MarshalJSON() ([]byte, error) {
	b := []byte{'{'}
	for i, m := range o {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(appendString(b, m.key), ':')
		b = bytes.TrimSuffix(encode(b, m.value), []byte{'\n'})
	}
	return append(b, '}'), nil
}

// causesObject has every cause, in the order of the driver's tests.
func causesObject(counts *[event.NumCauses]uint64) object {
	var o object
	for _, c := range event.Causes() {
		o = append(o, member{c.String(), counts[c]})
	}
	return o
}

func slotsObject(h *event.Histogram) object {
	o := object{}
	for n, packets := range h.All() {
		o = append(o, member{strconv.Itoa(n), packets})
	}
	return o
}

func factsObject(facts []event.Fact) object {
	o := object{}
	for _, fact := range facts {
		o = append(o, member{fact.Key, fact.Value})
	}
	return o
}

// reasonsObject names a drop elsewhere without a reason.
func reasonsObject(reasons map[string]uint64) object {
	o := object{}
	for _, reason := range slices.Sorted(maps.Keys(reasons)) {
		o = append(o, member{reasonOrUnknown(reason), reasons[reason]})
	}
	return o
}

// reasonOrUnknown is what a drop elsewhere counts as where the kernel reports no reason.
func reasonOrUnknown(reason string) string {
	if reason == "" {
		return "unknown"
	}
	return reason
}

func raw(part []byte, key string) json.RawMessage { return part[len(key):] }

type adviceObject struct {
	ID      string   `json:"id"`
	Command nullable `json:"command"`
	Effect  nullable `json:"effect"`
	Cost    nullable `json:"cost"`
}

func adviceObjects(advice []event.Advice) []adviceObject {
	all := []adviceObject{}
	for _, a := range advice {
		all = append(all, adviceObject{a.ID, nullable(a.Command), nullable(a.Effect), nullable(a.Cost)})
	}
	return all
}

type flowObject struct {
	Type         string          `json:"type"`
	Time         stamp           `json:"time"`
	Event        string          `json:"event"`
	NetNS        uint32          `json:"netns"`
	Ifname       string          `json:"ifname"`
	Flow         json.RawMessage `json:"flow"`
	Process      json.RawMessage `json:"process"`
	Drops        uint64          `json:"drops"`
	Retransmits  *uint32         `json:"retransmits"`
	Seq          *uint32         `json:"seq"`
	FirstDrop    stamp           `json:"first_drop"`
	LastDrop     stamp           `json:"last_drop"`
	StalledMS    int64           `json:"stalled_ms"`
	SndQBytes    *uint32         `json:"sndq_bytes"`
	Causes       object          `json:"causes"`
	Layout       nullable        `json:"layout"`
	Advice       []adviceObject  `json:"advice"`
	Reasons      object          `json:"reasons"`
	SameSeqDrops *int            `json:"same_seq_drops"`
	RTOMS        *int64          `json:"rto_ms"`
	Backoff      *int            `json:"backoff"`
	MinSlots     int             `json:"min_slots"`
	MaxSlots     int             `json:"max_slots"`
}

// AppendFlow appends a line of type flow.
func (JSON) AppendFlow(b []byte, e *event.FlowEvent) []byte {
	f := &e.Flow
	o := flowObject{
		Type: e.Type(), Time: stamp(e.Time), Event: f.State.String(), NetNS: f.NetNS, Ifname: f.Interface.Name,
		Flow:    raw(appendFlow(nil, headersOf(f)), `,"flow":`),
		Process: raw(appendProcess(nil, f.Process), `,"process":`),
		Drops:   f.Drops, FirstDrop: stamp(f.FirstDrop), LastDrop: stamp(f.LastDrop), StalledMS: f.StalledFor.Milliseconds(),
		Causes: causesObject(&f.Causes), Layout: nullable(f.Layout), Advice: adviceObjects(f.Advice), Reasons: reasonsObject(f.Reasons),
		MinSlots: f.MinSlots, MaxSlots: f.MaxSlots,
	}
	if t := f.TCP; t != nil {
		rto := t.RTO.Milliseconds()
		o.Retransmits, o.Seq, o.SndQBytes, o.SameSeqDrops, o.RTOMS, o.Backoff = &t.Retransmits, &t.Seq, &t.SndQBytes, &t.SameSeq, &rto, &t.Backoff
	}
	return encode(b, o)
}

func headersOf(f *event.FlowHistory) *event.Flow {
	return &event.Flow{Proto: f.Proto, Source: f.Source, Destination: f.Destination}
}

type summaryObject struct {
	Type         string            `json:"type"`
	Time         stamp             `json:"time"`
	DurationMS   int64             `json:"duration_ms"`
	Interfaces   []interfaceObject `json:"interfaces"`
	FlowsStalled *uint64           `json:"flows_stalled"`
	Events       uint64            `json:"events"`
	Lost         lostObject        `json:"lost"`
	Gaps         []gapObject       `json:"gaps"`
	Filter       []string          `json:"filter"`
	LeftOut      uint64            `json:"left_out"`
	Missing      map[string]string `json:"missing"`
}

type lostObject struct {
	Ring      uint64  `json:"ring"`
	Flows     *uint64 `json:"flows"`
	Recursion *uint64 `json:"recursion"`
	Missed    *uint64 `json:"missed"`
}

type gapObject struct {
	From   stamp           `json:"from"`
	To     stamp           `json:"to"` // null: it lasted to the end
	Reason event.GapReason `json:"reason"`
}

type interfaceObject struct {
	Ifname         string        `json:"ifname"`
	Ifindex        int           `json:"ifindex"`
	NetNS          uint32        `json:"netns"`
	Driver         string        `json:"driver"`
	Backend        event.Backend `json:"backend"`
	Limit          int           `json:"limit"`
	Packets        uint64        `json:"packets"`
	Bytes          uint64        `json:"bytes"`
	Slots          object        `json:"slots"`
	OverLimit      uint64        `json:"over_limit"`
	Dropped        uint64        `json:"dropped"`
	Linearized     uint64        `json:"linearized"`
	Bounced        uint64        `json:"bounced"`
	Rejected       *uint64       `json:"rejected"`
	Causes         object        `json:"causes"`
	TxDroppedDelta *uint64       `json:"tx_dropped_delta"`
	StuckMS        *int64        `json:"stuck_ms"`
	Elsewhere      *uint64       `json:"elsewhere"`
	Reasons        any           `json:"reasons"`
}

// AppendSummary appends the line of type summary. The keys of missing name each
// null in it and say why it is one.
func (JSON) AppendSummary(b []byte, s *event.Summary) []byte {
	o := summaryObject{
		Type: s.Type(), Time: stamp(s.Time), DurationMS: s.Duration.Milliseconds(), Interfaces: []interfaceObject{},
		Events: s.Events, Lost: lostObject{Ring: s.Lost.Ring, Recursion: s.Lost.Recursion, Missed: s.Lost.Missed},
		Gaps: []gapObject{}, Filter: append([]string{}, s.Filter...), LeftOut: s.LeftOut, Missing: map[string]string{},
	}
	for i := range s.Interfaces {
		o.Interfaces = append(o.Interfaces, interfaceOf(&s.Totals, &s.Interfaces[i]))
	}
	for _, gap := range s.Gaps {
		o.Gaps = append(o.Gaps, gapObject{stamp(gap.From), stamp(gap.To), gap.Reason})
	}
	if s.Flows != nil {
		o.FlowsStalled, o.Lost.Flows = &s.Flows.EverStalled, &s.Flows.Lost
	} else {
		const reason = "only watch tracks flows"
		o.Missing["flows_stalled"], o.Missing["flows"] = reason, reason
	}
	maps.Copy(o.Missing, s.Missing)
	return encode(b, o)
}

func interfaceOf(totals *event.Totals, t *event.InterfaceTotals) interfaceObject {
	o := interfaceObject{
		Ifname: t.Name, Ifindex: t.Index, NetNS: t.NetNS, Driver: t.Driver, Backend: t.Backend, Limit: slots.Limit,
		Packets: t.Packets, Bytes: t.Bytes, Slots: slotsObject(&t.Slots), OverLimit: t.OverLimit,
		Dropped: t.Dropped, Linearized: t.Linearized, Bounced: t.Bounced, Rejected: t.Rejected,
		Causes: causesObject(&t.Causes), TxDroppedDelta: t.TxDroppedDelta, StuckMS: in(time.Millisecond, t.Stuck),
	}
	if totals.Drops == event.DropsAll {
		o.Elsewhere = &t.Elsewhere
		if t.Reasons != nil {
			o.Reasons = reasonsObject(t.Reasons)
		}
	}
	return o
}

// in is a duration in that unit; null if it is not known.
func in(unit time.Duration, d *time.Duration) *int64 {
	if d == nil {
		return nil
	}
	n := int64(*d / unit)
	return &n
}

type findingObject struct {
	Type     string          `json:"type"`
	ID       event.FindingID `json:"id"`
	Status   string          `json:"status"`
	Ifname   nullable        `json:"ifname"`
	NetNS    *uint32         `json:"netns"`
	Message  string          `json:"message"`
	Evidence object          `json:"evidence"`
	Advice   []adviceObject  `json:"advice"`
}

type ec2rlObject struct {
	Type    string   `json:"type"`
	Module  string   `json:"module"`
	Ifname  nullable `json:"ifname"`
	Verdict nullable `json:"verdict"`
	Right   *bool    `json:"right"`
	Message string   `json:"message"`
}

// AppendReport appends a line of type finding for each, and one of type ec2rl for
// each verdict of ec2rl.
func (JSON) AppendReport(b []byte, r *event.Report) []byte {
	for n := range r.Findings {
		f := &r.Findings[n]
		b = encode(b, findingObject{
			f.Type(), f.ID, f.Status.String(), nullable(f.Interface), namespace(f.NetNS), f.Message, factsObject(f.Evidence), adviceObjects(f.Advice),
		})
	}
	for n := range r.EC2RL {
		o := &r.EC2RL[n]
		b = encode(b, ec2rlObject{"ec2rl", o.Module, nullable(o.Interface), nullable(o.Verdict), o.Right, o.Message})
	}
	return b
}

func namespace(inum uint32) *uint32 {
	if inum == 0 {
		return nil
	}
	return &inum
}

type probeObject struct {
	Type     string          `json:"type"`
	Time     stamp           `json:"time"`
	Ifname   string          `json:"ifname"`
	Flow     json.RawMessage `json:"flow"`
	Slots    *int            `json:"slots"`
	Limit    int             `json:"limit"`
	Verdict  nullable        `json:"verdict"`
	Cause    nullable        `json:"cause"`
	Attempts int             `json:"attempts"`
	Answer   nullable        `json:"answer"`
	Reason   nullable        `json:"reason"`
	Message  string          `json:"message"`
}

// AppendProbe appends a line of type probe.
func (JSON) AppendProbe(b []byte, r *event.Probe) []byte {
	o := probeObject{
		Type: r.Type(), Time: stamp(r.Time), Ifname: r.Interface.Name, Flow: raw(appendFlow(nil, r.Flow), `,"flow":`), Limit: r.Limit,
		Verdict: nullable(verdictText(r)), Cause: nullable(r.Cause.String()), Attempts: r.Attempts, Answer: nullable(r.Answer),
		Reason: nullable(r.Reason), Message: verdict.ProbeSentence(r),
	}
	if r.Seen {
		o.Slots = &r.Slots
	}
	return encode(b, o)
}

type fixObject struct {
	Type    string   `json:"type"`
	Step    string   `json:"step"`
	Ifname  nullable `json:"ifname"`
	NetNS   *uint32  `json:"netns"`
	Command nullable `json:"command"`
	Effect  nullable `json:"effect"`
	Cost    nullable `json:"cost"`
	Status  string   `json:"status"`
	Message nullable `json:"message"`
	Path    nullable `json:"path"`
	Content nullable `json:"content"`
}

// AppendFix appends a line of type fix.
func (JSON) AppendFix(b []byte, s *event.FixStep) []byte {
	return encode(b, fixObject{
		s.Type(), s.Name, nullable(s.Interface), namespace(s.NetNS), nullable(s.Command), nullable(s.Effect), nullable(s.Cost),
		s.Status.String(), nullable(s.Message), nullable(s.Path), nullable(s.Content),
	})
}
