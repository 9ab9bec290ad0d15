package output

import (
	"bytes"
	"encoding/json"
	"maps"
	"time"

	"xentrace/internal/event"
	"xentrace/internal/slots"
	"xentrace/internal/verdict"
)

// The objects of the JSON output. Their tags are the contract: keys, order and units.
// docs/schema.json describes them. Parse reads them back.

// AppendObject appends a value as a line of JSON in which no character hides. It panics on what
// JSON cannot express.
func AppendObject(b []byte, v any) []byte { return encode(b, v) }

func encode(b []byte, v any) []byte {
	from := len(b)
	line := bytes.NewBuffer(b)
	encoder := json.NewEncoder(line)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(v); err != nil {
		panic("json: " + err.Error()) // of plain data, which always can be encoded
	}
	return escapeHidden(line.Bytes(), from)
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
	Type  string        `json:"type"`
	Time  stamp         `json:"time"`
	Event flowStateWord `json:"event"`
	historyObject
}

// A flowEntry is a flow in a summary.
type flowEntry struct {
	State flowStateWord `json:"state"`
	historyObject
}

type historyObject struct {
	NetNS        uint32         `json:"netns"`
	Ifname       string         `json:"ifname"`
	Flow         flowHeaders    `json:"flow"`
	Process      processObject  `json:"process"`
	Drops        uint64         `json:"drops"`
	Retransmits  *uint32        `json:"retransmits"`
	Seq          *uint32        `json:"seq"`
	FirstDrop    stamp          `json:"first_drop"`
	LastDrop     stamp          `json:"last_drop"`
	StalledMS    int64          `json:"stalled_ms"`
	SndQBytes    *uint32        `json:"sndq_bytes"`
	Causes       causeCounts    `json:"causes"`
	Layout       nullable       `json:"layout"`
	Advice       []adviceObject `json:"advice"`
	Reasons      reasonCounts   `json:"reasons"`
	SameSeqDrops *int           `json:"same_seq_drops"`
	RTOMS        *int64         `json:"rto_ms"`
	Backoff      *int           `json:"backoff"`
	MinSlots     int            `json:"min_slots"`
	MaxSlots     int            `json:"max_slots"`
	Elsewhere    uint64         `json:"elsewhere"`
	Linearized   uint64         `json:"linearized"`
	Bounced      uint64         `json:"bounced"`
	Rejected     uint64         `json:"rejected"`
	OverLimit    uint64         `json:"over_limit"`
	Stalls       int            `json:"stalls"`
	StalledAtEnd bool           `json:"stalled_at_end"`
	Last         lastObject     `json:"last"`
	Inferred     bool           `json:"inferred,omitempty"`
	BeforeNAT    *carriedFlow   `json:"before_nat,omitempty"`
}

type carriedFlow struct {
	Flow flowHeaders `json:"flow"`
}

// A lastObject is the last packet of a flow that went wrong, as far as filters ask for it.
type lastObject struct {
	Layer   string   `json:"layer"`
	Verdict string   `json:"verdict"`
	Cause   nullable `json:"cause"`
	Slots   int      `json:"slots"`
	Limit   int      `json:"limit"`
	Len     int      `json:"len"`
	Header  []byte   `json:"header"`
}

// AppendFlow appends a line of type flow.
func (JSON) AppendFlow(b []byte, e *event.FlowEvent) []byte {
	return encode(b, flowObject{e.Type(), stamp(e.Time), flowStateWord(e.Flow.State), historyOf(&e.Flow)})
}

func historyOf(f *event.FlowHistory) historyObject {
	p := &f.Packet
	o := historyObject{
		NetNS: f.NetNS, Ifname: f.Interface.Name, Flow: flowHeaders{headersOf(f)}, Process: processObject{f.Process},
		Drops: f.Drops, FirstDrop: stamp(f.FirstDrop), LastDrop: stamp(f.LastDrop), StalledMS: f.StalledFor.Milliseconds(),
		Causes: f.Causes, Layout: nullable(f.Layout), Advice: adviceObjects(f.Advice), Reasons: reasonCounts{f.Reasons, true},
		MinSlots: f.MinSlots, MaxSlots: f.MaxSlots, Elsewhere: f.Elsewhere,
		Linearized: f.Linearized, Bounced: f.Bounced, Rejected: f.Rejected, OverLimit: f.OverLimit,
		Stalls: f.Stalls, StalledAtEnd: f.StalledAtEnd,
		Last: lastObject{p.Layer.String(), p.Verdict.String(), nullable(p.Cause.String()), p.Slots, p.Limit, p.Len, p.Header},
	}
	if p.BeforeNAT != nil {
		o.BeforeNAT = &carriedFlow{flowHeaders{p.BeforeNAT}}
	}
	switch t := f.TCP; {
	case t == nil:
	case f.Inferred:
		o.Inferred, o.Seq, o.SameSeqDrops = true, &t.Seq, &t.SameSeq
	default:
		rto := t.RTO.Milliseconds()
		o.Retransmits, o.Seq, o.SndQBytes, o.SameSeqDrops, o.RTOMS, o.Backoff = &t.Retransmits, &t.Seq, &t.SndQBytes, &t.SameSeq, &rto, &t.Backoff
	}
	return o
}

func headersOf(f *event.FlowHistory) *event.Flow {
	return &event.Flow{Proto: f.Proto, Source: f.Source, Destination: f.Destination}
}

// A summaryObject is also an interval: what was counted since the one before.
type summaryObject struct {
	Type            string              `json:"type"`
	Time            stamp               `json:"time"`
	DurationMS      int64               `json:"duration_ms"`
	Interfaces      []interfaceObject   `json:"interfaces"`
	FlowsStalled    *uint64             `json:"flows_stalled"`
	Events          uint64              `json:"events"`
	Lost            lostObject          `json:"lost"`
	Gaps            []gapObject         `json:"gaps"`
	Filter          []string            `json:"filter"`
	LeftOut         uint64              `json:"left_out"`
	Missing         map[string]string   `json:"missing"`
	Drops           event.Drops         `json:"drops"`
	Suppressed      []suppressedObject  `json:"suppressed"`
	Explained       []explanationObject `json:"explained"`
	FlowsTracked    *int                `json:"flows_tracked"`
	FlowsStalledNow *int                `json:"flows_stalled_now"`
	FlowsLosing     *int                `json:"flows_losing,omitempty"` // in summaries
	Flows           []flowEntry         `json:"flows"`
}

type suppressedObject struct {
	Verdict string   `json:"verdict"`
	Cause   nullable `json:"cause"`
	Records uint64   `json:"records"`
}

type explanationObject struct {
	Name    string         `json:"name"`
	Verdict string         `json:"verdict"`
	Count   uint64         `json:"count"`
	Meaning string         `json:"meaning"`
	Advice  []adviceObject `json:"advice"`
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
	Ifname         string         `json:"ifname"`
	Ifindex        int            `json:"ifindex"`
	NetNS          uint32         `json:"netns"`
	Driver         string         `json:"driver"`
	Backend        *event.Backend `json:"backend"` // null if only records are known of a run
	Limit          int            `json:"limit"`
	Packets        uint64         `json:"packets"`
	Bytes          uint64         `json:"bytes"`
	Slots          slotCounts     `json:"slots"`
	OverLimit      uint64         `json:"over_limit"`
	Dropped        uint64         `json:"dropped"`
	Linearized     uint64         `json:"linearized"`
	Bounced        uint64         `json:"bounced"`
	Rejected       *uint64        `json:"rejected"`
	Causes         causeCounts    `json:"causes"`
	TxDroppedDelta *uint64        `json:"tx_dropped_delta"`
	StuckMS        *int64         `json:"stuck_ms"`
	Elsewhere      *uint64        `json:"elsewhere"`
	Reasons        reasonCounts   `json:"reasons"`
	Queues         int            `json:"queues"`
	Gone           bool           `json:"gone"`
	StuckNow       bool           `json:"stuck_now"`
	XDPPackets     *uint64        `json:"xdp_packets"`
	XDPDropped     *uint64        `json:"xdp_dropped"`

	Conntrack *conntrackObject `json:"conntrack,omitempty"`
}

type conntrackObject struct {
	InsertFailed uint64 `json:"insert_failed"`
	Dropped      uint64 `json:"drop"`
	EarlyDropped uint64 `json:"early_drop"`
}

// AppendSummary appends the line of type summary. The keys of missing name each
// null in it, with the reason.
func (JSON) AppendSummary(b []byte, s *event.Summary) []byte {
	o := totalsOf(s.Type(), &s.Totals, s.Explained)
	o.Filter, o.LeftOut = append(o.Filter, s.Filter...), s.LeftOut
	if f := s.Flows; f != nil {
		o.FlowsStalled, o.Lost.Flows, o.FlowsTracked, o.FlowsStalledNow = &f.EverStalled, &f.Lost, &f.FlowCounts.Flows, &f.Stalled
		o.Flows, o.FlowsLosing = []flowEntry{}, &f.Losing
		for i := range f.Flows {
			o.Flows = append(o.Flows, flowEntry{flowStateWord(f.Flows[i].State), historyOf(&f.Flows[i])})
		}
		for _, key := range onlySummaries {
			delete(o.Missing, key)
		}
	}
	return encode(b, o)
}

// AppendInterval appends a line of type interval.
func (JSON) AppendInterval(b []byte, i *event.Interval) []byte {
	return encode(b, totalsOf(i.Type(), &i.Totals, i.Explained))
}

// onlySummaries are what only a summary of watch has.
var onlySummaries = [...]string{"flows_stalled", "flows", "flows_tracked", "flows_stalled_now"}

func totalsOf(kind string, t *event.Totals, explained []event.Explanation) summaryObject {
	o := summaryObject{
		Type: kind, Time: stamp(t.Time), DurationMS: t.Duration.Milliseconds(), Interfaces: []interfaceObject{},
		Events: t.Events, Lost: lostObject{Ring: t.Lost.Ring, Recursion: t.Lost.Recursion, Missed: t.Lost.Missed},
		Gaps: []gapObject{}, Filter: []string{}, Missing: map[string]string{},
		Drops: t.Drops, Suppressed: []suppressedObject{}, Explained: []explanationObject{},
	}
	if kind != "interval" { // a quiet recording is mostly intervals, of which it would be a tenth
		for _, key := range onlySummaries {
			o.Missing[key] = "only watch tracks flows"
		}
	}
	maps.Copy(o.Missing, t.Missing)
	for i := range t.Interfaces {
		o.Interfaces = append(o.Interfaces, interfaceOf(t, &t.Interfaces[i]))
	}
	for _, gap := range t.Gaps {
		o.Gaps = append(o.Gaps, gapObject{stamp(gap.From), stamp(gap.To), gap.Reason})
	}
	for _, s := range t.Suppressed {
		o.Suppressed = append(o.Suppressed, suppressedObject{s.Verdict.String(), nullable(s.Cause.String()), s.Records})
	}
	for i := range explained {
		e := &explained[i]
		o.Explained = append(o.Explained, explanationObject{e.Name, e.Verdict.String(), e.Count, e.Meaning, adviceObjects(e.Advice)})
	}
	return o
}

func interfaceOf(totals *event.Totals, t *event.InterfaceTotals) interfaceObject {
	o := interfaceObject{
		Ifname: t.Name, Ifindex: t.Index, NetNS: t.NetNS, Driver: t.Driver, Backend: backendOrNull(t.Backend), Limit: slots.Limit,
		Packets: t.Packets, Bytes: t.Bytes, Slots: slotCounts(t.Slots), OverLimit: t.OverLimit,
		Dropped: t.Dropped, Linearized: t.Linearized, Bounced: t.Bounced, Rejected: t.Rejected,
		Causes: t.Causes, TxDroppedDelta: t.TxDroppedDelta, StuckMS: in(time.Millisecond, t.Stuck), Conntrack: (*conntrackObject)(t.Conntrack),
		Queues: t.Queues, Gone: t.Gone, StuckNow: t.StuckNow,
	}
	if t.XDP {
		o.XDPPackets, o.XDPDropped = &t.XDPPackets, &t.XDPDropped
	}
	if totals.Drops == event.DropsAll {
		o.Elsewhere, o.Reasons = &t.Elsewhere, reasonCounts{t.Reasons, t.Reasons != nil}
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
	Evidence evidence        `json:"evidence"`
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
		b = encode(b, findingOf(&r.Findings[n]))
	}
	for n := range r.EC2RL {
		o := &r.EC2RL[n]
		b = encode(b, ec2rlObject{"ec2rl", o.Module, nullable(o.Interface), nullable(o.Verdict), o.Right, o.Message})
	}
	return b
}

func findingOf(f *event.Finding) findingObject {
	return findingObject{
		f.Type(), f.ID, f.Status.String(), nullable(f.Interface), namespace(f.NetNS), f.Message, evidence(f.Evidence), adviceObjects(f.Advice),
	}
}

func namespace(inum uint32) *uint32 {
	if inum == 0 {
		return nil
	}
	return &inum
}

type probeObject struct {
	Type     string      `json:"type"`
	Time     stamp       `json:"time"`
	Ifname   string      `json:"ifname"`
	Flow     flowHeaders `json:"flow"`
	Slots    *int        `json:"slots"`
	Limit    int         `json:"limit"`
	Verdict  nullable    `json:"verdict"`
	Cause    nullable    `json:"cause"`
	Attempts int         `json:"attempts"`
	Answer   nullable    `json:"answer"`
	Reason   nullable    `json:"reason"`
	Message  string      `json:"message"`
}

// AppendProbe appends a line of type probe.
func (JSON) AppendProbe(b []byte, r *event.Probe) []byte {
	o := probeObject{
		Type: r.Type(), Time: stamp(r.Time), Ifname: r.Interface.Name, Flow: flowHeaders{r.Flow}, Limit: r.Limit,
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

func backendOrNull(b event.Backend) *event.Backend {
	if b == "" {
		return nil
	}
	return &b
}
