package output

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"xentrace/internal/event"
	"xentrace/internal/slots"
	"xentrace/test/schema"
)

// The structures below are the contract as encoding/json writes it.
type packetLine struct {
	Type       string       `json:"type"`
	Time       string       `json:"time"`
	CPU        int          `json:"cpu"`
	Layer      string       `json:"layer"`
	Ifname     string       `json:"ifname"`
	Ifindex    int          `json:"ifindex"`
	Netns      uint32       `json:"netns"`
	Queue      int          `json:"queue"`
	Verdict    string       `json:"verdict"`
	Cause      *string      `json:"cause"`
	Slots      int          `json:"slots"`
	Limit      int          `json:"limit"`
	Len        int          `json:"len"`
	HeadOffset int          `json:"head_offset"`
	HeadLen    int          `json:"head_len"`
	Frags      []fragPart   `json:"frags"`
	GSOSize    int          `json:"gso_size"`
	GSOSegs    int          `json:"gso_segs"`
	Flow       *flowPart    `json:"flow"`
	TCP        *tcpPart     `json:"tcp"`
	Process    *processPart `json:"process"`
	Reason     *string      `json:"reason"`
	Stack      []string     `json:"stack"`
	Seq        *uint32      `json:"seq"`
	EtherType  *uint16      `json:"ethertype"`
	Inner      *innerPart   `json:"inner"`
	Header     []byte       `json:"header"`
	BeforeNAT  *innerPart   `json:"before_nat,omitempty"`
}

type innerPart struct {
	Flow *flowPart `json:"flow"`
}

type fragPart struct {
	Offset uint32 `json:"offset"`
	Size   uint32 `json:"size"`
	Slots  uint32 `json:"slots"`
}

type flowPart struct {
	Family string `json:"family"`
	Proto  string `json:"proto"`
	Saddr  string `json:"saddr"`
	Sport  uint16 `json:"sport"`
	Daddr  string `json:"daddr"`
	Dport  uint16 `json:"dport"`
}

type tcpPart struct {
	State       string `json:"state"`
	Seq         uint32 `json:"seq"`
	SndUna      uint32 `json:"snd_una"`
	SndNxt      uint32 `json:"snd_nxt"`
	WriteSeq    uint32 `json:"write_seq"`
	Retransmits int    `json:"retransmits"`
	RTO         int64  `json:"rto_ms"`
	SRTT        int64  `json:"srtt_us"`
	SndQ        uint32 `json:"sndq_bytes"`
}

type processPart struct {
	PID       int     `json:"pid"`
	Comm      string  `json:"comm"`
	UID       uint32  `json:"uid"`
	Unit      *string `json:"unit"`
	Container *string `json:"container"`
}

func orNull(text string) *string {
	if text == "" {
		return nil
	}
	return &text
}

func headersOfFlow(f *event.Flow) *flowPart {
	if f == nil {
		return nil
	}
	family := "ipv4"
	if f.Source.Addr().Is6() {
		family = "ipv6"
	}
	proto := map[uint8]string{1: "icmp", 6: "tcp", 17: "udp"}[f.Proto]
	return &flowPart{family, proto, f.Source.Addr().String(), f.Source.Port(), f.Destination.Addr().String(), f.Destination.Port()}
}

// line converts a packet the slow way.
func line(p *event.Packet) packetLine {
	l := packetLine{
		Type: "packet", Time: p.Time.UTC().Format("2006-01-02T15:04:05.000000000Z07:00"), CPU: p.CPU, Layer: "driver",
		Ifname: p.Interface.Name, Ifindex: p.Interface.Index, Netns: p.Interface.NetNS, Queue: p.Queue,
		Verdict: p.Verdict.String(), Slots: p.Slots, Limit: p.Limit, Len: p.Len, HeadOffset: p.HeadOffset, HeadLen: p.HeadLen,
		Frags: []fragPart{}, GSOSize: p.GSOSize, GSOSegs: p.GSOSegs, Stack: []string{},
	}
	if p.Cause != event.CauseNone {
		cause := p.Cause.String()
		l.Cause = &cause
	}
	if p.Layer == event.LayerElsewhere {
		l.Layer = "elsewhere"
		l.Stack = append(l.Stack, p.Stack...)
	}
	if p.Reason != "" {
		l.Reason = &p.Reason
	}
	for _, f := range p.Frags {
		l.Frags = append(l.Frags, fragPart{f.Offset, f.Size, slots.Of(f.Offset, f.Size)})
	}
	l.Flow, l.Header = headersOfFlow(p.Flow), p.Header
	if p.Flow != nil && p.Flow.SeqKnown {
		l.Seq = &p.Flow.Seq
	}
	if p.EtherType != 0 {
		l.EtherType = &p.EtherType
	}
	if p.Inner != nil {
		l.Inner = &innerPart{headersOfFlow(p.Inner)}
	}
	if p.BeforeNAT != nil {
		l.BeforeNAT = &innerPart{headersOfFlow(p.BeforeNAT)}
	}
	if o := p.Process; o != nil {
		l.Process = &processPart{PID: o.PID, Comm: o.Comm, UID: o.UID, Unit: orNull(o.Unit), Container: orNull(o.Container)}
	}
	if s := p.TCP; s != nil {
		l.TCP = &tcpPart{"ESTABLISHED", s.Seq, s.SndUna, s.SndNxt, s.WriteSeq, s.Retransmits, s.RTO.Milliseconds(), s.SRTT.Microseconds(), s.SndQBytes}
	}
	return l
}

func TestPacketIsWhatEncodingJSONWrites(t *testing.T) {
	for _, p := range samplePackets() {
		want, err := json.Marshal(line(&p))
		if err != nil {
			t.Fatal(err)
		}
		got := JSON{}.AppendPacket(nil, &p)
		if string(got) != string(want)+"\n" {
			t.Errorf("got\n%swant\n%s", got, want)
		}
	}
}

// keys returns the keys of an object and all objects in it, in order, each with
// the keys above it: interfaces.slots.1.
func keys(t *testing.T, object []byte) []string {
	t.Helper()
	decoder := json.NewDecoder(bytes.NewReader(object))
	var found []string
	var walk func(prefix string) error
	walk = func(prefix string) error {
		token, err := decoder.Token()
		if err != nil {
			return err
		}
		delim, ok := token.(json.Delim)
		if !ok {
			return nil
		}
		for decoder.More() {
			inner := prefix
			if delim == '{' {
				key, err := decoder.Token()
				if err != nil {
					return err
				}
				inner = strings.TrimPrefix(prefix+"."+key.(string), ".")
				if !slices.Contains(found, inner) {
					found = append(found, inner)
				}
			}
			if err := walk(inner); err != nil {
				return err
			}
		}
		_, err = decoder.Token()
		return err
	}
	if err := walk(""); err != nil && !errors.Is(err, io.EOF) {
		t.Fatalf("%v in %s", err, object)
	}
	return found
}

const packetKeys = "type time cpu layer ifname ifindex netns queue verdict cause slots limit len head_offset head_len " +
	"frags frags.offset frags.size frags.slots gso_size gso_segs " +
	"flow flow.family flow.proto flow.saddr flow.sport flow.daddr flow.dport " +
	"tcp tcp.state tcp.seq tcp.snd_una tcp.snd_nxt tcp.write_seq tcp.retransmits tcp.rto_ms tcp.srtt_us tcp.sndq_bytes " +
	"process process.pid process.comm process.uid process.unit process.container reason stack " +
	"seq ethertype inner header"

const summaryKeys = "type time duration_ms interfaces interfaces.ifname interfaces.ifindex interfaces.netns interfaces.driver " +
	"interfaces.backend interfaces.limit interfaces.packets interfaces.bytes interfaces.slots interfaces.slots.1 interfaces.slots.2 " +
	"interfaces.slots.3 interfaces.slots.17 interfaces.slots.18 interfaces.slots.19 interfaces.slots.20 interfaces.slots.35 " +
	"interfaces.over_limit interfaces.dropped interfaces.linearized interfaces.bounced interfaces.rejected interfaces.causes " +
	"interfaces.causes.no_queues interfaces.causes.device_broken interfaces.causes.too_big interfaces.causes.too_many_slots " +
	"interfaces.causes.linearize_failed interfaces.causes.bounce_failed interfaces.causes.no_carrier interfaces.causes.sg_off " +
	"interfaces.causes.needs_gso interfaces.causes.unknown interfaces.tx_dropped_delta interfaces.stuck_ms " +
	"interfaces.elsewhere interfaces.reasons interfaces.queues interfaces.gone interfaces.stuck_now interfaces.xdp_packets interfaces.xdp_dropped flows_stalled events " +
	"lost lost.ring lost.flows lost.recursion lost.missed gaps filter left_out missing " +
	"missing.flows missing.flows_stalled missing.flows_stalled_now missing.flows_tracked missing.recursion missing.rejected missing.stuck_ms " +
	"missing.tx_dropped_delta missing.xdp_dropped missing.xdp_packets drops suppressed explained explained.name explained.verdict explained.count explained.meaning explained.advice " +
	"explained.advice.id explained.advice.command explained.advice.effect explained.advice.cost flows_tracked flows_stalled_now flows"

func TestKeysAndTheirOrder(t *testing.T) {
	packet := samplePackets()[0]
	packet.Process = &event.Process{PID: 1, Comm: "init"}
	for name, c := range map[string]struct {
		line []byte
		want string
	}{
		"packet":  {JSON{}.AppendPacket(nil, &packet), packetKeys},
		"summary": {JSON{}.AppendSummary(nil, summaryOf(sampleTotals())), summaryKeys},
	} {
		t.Run(name, func(t *testing.T) {
			if got := strings.Join(keys(t, c.line), " "); got != c.want {
				t.Errorf("got\n%s\nwant\n%s", got, c.want)
			}
			if bytes.Count(c.line, []byte("\n")) != 1 || c.line[len(c.line)-1] != '\n' {
				t.Errorf("not one line: %q", c.line)
			}
		})
	}
}

func TestSummaryValues(t *testing.T) {
	var got struct {
		Time       time.Time
		DurationMS int `json:"duration_ms"`
		Interfaces []struct {
			Ifname         string
			Slots          map[string]uint64
			Packets        uint64
			OverLimit      uint64 `json:"over_limit"`
			Rejected       *uint64
			Causes         map[string]uint64
			TxDroppedDelta *uint64 `json:"tx_dropped_delta"`
			StuckMS        *uint64 `json:"stuck_ms"`
		}
		FlowsStalled *uint64 `json:"flows_stalled"`
		Events       uint64
		Lost         struct {
			Ring                     uint64
			Flows, Recursion, Missed *uint64
		}
		Missing map[string]string
	}
	if err := json.Unmarshal(JSON{}.AppendSummary(nil, summaryOf(sampleTotals())), &got); err != nil {
		t.Fatal(err)
	}
	eth0 := got.Interfaces[0]
	if eth0.Packets != 21204 || eth0.Slots["35"] != 1 || eth0.Slots["2"] != 19000 || len(eth0.Slots) != 8 || eth0.OverLimit != 601 {
		t.Errorf("eth0 is %+v", eth0)
	}
	if eth0.Causes["too_many_slots"] != 401 || eth0.Causes["sg_off"] != 2 || len(eth0.Causes) != event.NumCauses-1 {
		t.Errorf("causes are %v", eth0.Causes)
	}
	if *eth0.TxDroppedDelta != 401 || got.Interfaces[1].TxDroppedDelta != nil || *eth0.Rejected != 9 || *eth0.StuckMS != 4200 ||
		got.Interfaces[1].Rejected != nil || got.Interfaces[1].StuckMS != nil || got.FlowsStalled != nil {
		t.Errorf("nulls are wrong: %+v", got)
	}
	if got.DurationMS != 12000 || got.Events != 612 || got.Lost.Ring != 3 || got.Lost.Recursion != nil || *got.Lost.Missed != 0 || got.Lost.Flows != nil {
		t.Errorf("got %+v", got)
	}
	if !got.Time.Equal(sampleTotals().Time) {
		t.Errorf("time is %v, want %v", got.Time, sampleTotals().Time)
	}
	for _, key := range []string{"flows", "flows_stalled", "recursion", "rejected", "stuck_ms", "tx_dropped_delta"} {
		if got.Missing[key] == "" {
			t.Errorf("no reason for %s being null", key)
		}
	}
}

func TestDropsElsewhereInTheSummary(t *testing.T) {
	type numbers struct {
		Interfaces []struct {
			Elsewhere *uint64
			Reasons   map[string]uint64
		}
	}
	var asked, notAsked, noReasons numbers
	without := elsewhereTotals()
	without.Interfaces[0].Reasons = nil
	for totals, into := range map[*event.Totals]*numbers{elsewhereTotals(): &asked, sampleTotals(): &notAsked, without: &noReasons} {
		if err := json.Unmarshal(JSON{}.AppendSummary(nil, summaryOf(totals)), into); err != nil {
			t.Fatal(err)
		}
	}
	if i := asked.Interfaces[0]; *i.Elsewhere != 1204 || !maps.Equal(i.Reasons, elsewhereTotals().Interfaces[0].Reasons) {
		t.Errorf("%d dropped elsewhere for %v", *i.Elsewhere, i.Reasons)
	}
	if i := asked.Interfaces[1]; *i.Elsewhere != 0 || i.Reasons == nil {
		t.Errorf("%d dropped elsewhere for %v, want 0 and {}", *i.Elsewhere, i.Reasons)
	}
	if i := notAsked.Interfaces[0]; i.Elsewhere != nil || i.Reasons != nil {
		t.Errorf("%v dropped elsewhere for %v, want nulls", i.Elsewhere, i.Reasons)
	}
	if i := noReasons.Interfaces[0]; *i.Elsewhere != 1204 || i.Reasons != nil {
		t.Errorf("%v dropped elsewhere for %v, want 1204 and null", i.Elsewhere, i.Reasons)
	}
}

func TestEmptySummaryIsWhole(t *testing.T) {
	line := JSON{}.AppendSummary(nil, &event.Summary{Totals: event.Totals{Time: start}})
	var got map[string]any
	if err := json.Unmarshal(line, &got); err != nil {
		t.Fatalf("%v in %s", err, line)
	}
	if list, ok := got["interfaces"].([]any); !ok || len(list) != 0 {
		t.Errorf("interfaces are %v, want []", got["interfaces"])
	}
}

func TestNumbersWithoutANameAreStrings(t *testing.T) {
	p := samplePackets()[0]
	flow, state := *p.Flow, *p.TCP
	flow.Proto, state.State = 253, 99
	p.Flow, p.TCP = &flow, &state
	got := string(JSON{}.AppendPacket(nil, &p))
	if !strings.Contains(got, `"proto":"253"`) || !strings.Contains(got, `"state":"99"`) {
		t.Errorf("got %s", got)
	}
}

func TestStringsAreJSON(t *testing.T) {
	for _, s := range []string{"eth0", "", `a"b\c`, "a\x1b[31m", "ümlaut", "bad\xff", "a<b>&c"} {
		got := appendString(nil, s)
		var back string
		if err := json.Unmarshal(got, &back); err != nil {
			t.Errorf("%q: %v", s, err)
		}
		if want := strings.ToValidUTF8(s, "\ufffd"); back != want {
			t.Errorf("%q came back as %q", s, back)
		}
	}
}

// Numbers of every length are written as strconv does.
func TestNumbersInJSON(t *testing.T) {
	values := []uint64{0, 1<<32 - 1, 1<<64 - 1}
	for power := uint64(1); power <= 1e18; power *= 10 {
		values = append(values, power-1, power, power+1, 5*power, 9*power)
	}
	for _, n := range values {
		if got, want := string(appendNumber([]byte("x"), n)), "x"+strconv.FormatUint(n, 10); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
	if got := string(appendInt(nil, "k:", -1470)); got != "k:-1470" {
		t.Errorf("%q", got)
	}
}

func BenchmarkPacketJSON(b *testing.B) {
	p := samplePackets()[0]
	p.Frags = slices.Repeat(p.Frags[:1], 17)
	var line []byte
	for b.Loop() {
		line = JSON{}.AppendPacket(line[:0], &p)
	}
	b.SetBytes(int64(len(line)))
	b.ReportAllocs()
}

// Every kind of object that the samples have is as docs/schema.json says.
func TestObjectsAreAsTheSchemaSays(t *testing.T) {
	var b []byte
	var sink JSON
	for _, p := range samplePackets() {
		b = sink.Append(b, &p)
	}
	for _, e := range sampleEvents() {
		b = sink.Append(b, &e)
	}
	b = sink.Append(b, sampleRun())
	for _, totals := range []*event.Totals{sampleTotals(), quietTotals()} {
		b = sink.Append(b, summaryOf(totals))
	}
	b = sink.Append(b, sampleReport())
	b = sink.Append(b, busyFrontend())
	probe := probed(func(*event.Probe) {})
	b = sink.Append(b, &probe)
	b = sink.Append(b, &event.FixStep{Name: "sg-on", Interface: "eth0", NetNS: 1, Command: "ethtool -K eth0 sg on", Status: event.Verified})
	if n := bytes.Count(b, []byte("\n")); n < 20 {
		t.Errorf("%d lines", n)
	}
	schema.Check(t, b)
}

func sampleGaps() []event.Gap {
	from := time.Date(2026, 11, 20, 12, 7, 20, 500_000_000, time.UTC)
	return []event.Gap{
		{From: from, To: from.Add(4200 * time.Millisecond), Reason: event.GapDriverUnloaded},
		{From: from.Add(time.Minute), To: from.Add(2 * time.Minute), Reason: event.GapSuspended},
		{From: from.Add(time.Hour), Reason: event.GapDriverUnloaded},
	}
}

func TestGapsInJSON(t *testing.T) {
	var summary struct {
		Gaps []struct {
			From   time.Time
			To     *time.Time
			Reason string
		}
	}
	if err := json.Unmarshal(JSON{}.AppendSummary(nil, &event.Summary{Totals: event.Totals{}}), &summary); err != nil {
		t.Fatal(err)
	}
	if summary.Gaps == nil || len(summary.Gaps) != 0 {
		t.Errorf("without a gap: %v, want an empty list", summary.Gaps)
	}
	want := sampleGaps()
	if err := json.Unmarshal(JSON{}.AppendSummary(nil, &event.Summary{Totals: event.Totals{Gaps: want}}), &summary); err != nil {
		t.Fatal(err)
	}
	if len(summary.Gaps) != len(want) {
		t.Fatalf("%d gaps, want %d", len(summary.Gaps), len(want))
	}
	for i, gap := range summary.Gaps {
		if !gap.From.Equal(want[i].From) || gap.Reason != string(want[i].Reason) {
			t.Errorf("gap %d from %v for %s, want %+v", i, gap.From, gap.Reason, want[i])
		}
		if open := want[i].To.IsZero(); open != (gap.To == nil) || !open && !gap.To.Equal(want[i].To) {
			t.Errorf("gap %d ends at %v, want %v", i, gap.To, want[i].To)
		}
	}
}

func TestGapsInText(t *testing.T) {
	wide := text(200)
	totals := &event.Totals{Gaps: sampleGaps()}
	for name, got := range map[string]string{
		"summary":   string(wide.AppendSummary(nil, summaryOf(totals))),
		"histogram": string(wide.AppendHistogram(nil, summaryOf(totals))),
	} {
		for _, want := range []string{
			"unmonitored from 12:07:20.500 to 12:07:24.700 (4.2 s): xen-netfront was not loaded",
			"unmonitored from 12:08:20.500 to 12:09:20.500 (1m 0s): machine was suspended",
			"unmonitored from 13:07:20.500 to the end: xen-netfront was not loaded",
		} {
			if !strings.Contains(got, want) {
				t.Errorf("%s\n%sdoes not say %q", name, got, want)
			}
		}
	}
}

// Times are as RFC 3339 has them, whatever the moment.
func TestTimesAreRFC3339(t *testing.T) {
	for _, at := range []time.Time{
		time.Unix(0, 0), time.Unix(1795766399, 999999999), time.Unix(1709164800, 1), time.Unix(951782400, 100000000), // 29 February
		time.Date(2026, 12, 31, 23, 59, 59, 5, time.FixedZone("", -3600)), {}, time.Date(999, 1, 2, 3, 4, 5, 6, time.UTC), time.Date(12345, 1, 2, 3, 4, 5, 6, time.UTC),
	} {
		if got, want := string(appendTime(nil, at)), at.UTC().Format(jsonTime); got != want {
			t.Errorf("%s, want %s", got, want)
		}
	}
}
