package output

import (
	"encoding/json"
	"net/netip"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"xentrace/internal/event"
	"xentrace/internal/verdict"
)

// sampleEvents holds an event of every kind, of flows of every shape.
func sampleEvents() []event.FlowEvent {
	base := event.FlowHistory{
		FlowKey:   event.FlowKey{NetNS: 4026531840, Proto: 6, Source: netip.MustParseAddrPort("10.0.0.5:49152"), Destination: netip.MustParseAddrPort("10.0.0.9:5001")},
		Interface: event.Device{Name: "eth0", Index: 2, NetNS: 4026531840},
		State:     event.Stalled, Drops: 2, MinSlots: 19, MaxSlots: 35,
		First: start, Last: start.Add(204 * time.Millisecond), FirstDrop: start, LastDrop: start.Add(204 * time.Millisecond),
		StalledSince: start, StalledFor: 204 * time.Millisecond, Stalls: 1,
		TCP: &event.FlowTCP{Asked: start, State: 1, Seq: 3012345678, SameSeq: 2, SndUna: 3012345678, WriteSeq: 3012354382,
			SndQBytes: 8704, Retransmits: 1, RTO: 408 * time.Millisecond, Backoff: 1},
		Packet: event.Packet{Limit: 18}, Advice: verdict.ForStall(sampleFacts(event.Device{Name: "eth0"}), event.TooManySlots),
	}
	base.Causes[event.TooManySlots] = 2
	with := func(after time.Duration, change func(*event.FlowHistory)) event.FlowEvent {
		f := base
		tcp := *base.TCP
		f.TCP = &tcp
		change(&f)
		return event.FlowEvent{Time: start.Add(after), Flow: f}
	}
	return []event.FlowEvent{
		with(204*time.Millisecond, func(*event.FlowHistory) {}),
		with(12*time.Second, func(f *event.FlowHistory) {
			f.State, f.StalledFor, f.Drops, f.Causes[event.TooManySlots] = event.Recovered, 12*time.Second, 8, 8
			f.TCP.SameSeq, f.TCP.Retransmits, f.TCP.SndQBytes = 8, 13, 2808
		}),
		with(200*time.Second, func(f *event.FlowHistory) {
			f.State, f.StalledAtEnd, f.StalledFor, f.Drops, f.Causes[event.TooManySlots] = event.Closed, true, 200*time.Second, 9, 8
			f.Elsewhere, f.Reasons = 1, map[string]uint64{"QDISC_DROP": 1}
			f.Source, f.Destination = netip.MustParseAddrPort("[2001:db8:1234:5678:9abc:def0:1234:5678]:49152"), netip.MustParseAddrPort("[2001:db8:8765:4321:fedc:ba98:8765:4321]:65535")
			f.Process = &event.Process{PID: 1234, Comm: "cu\x1brl", UID: 1000, Unit: "sync.service"}
			f.Layout = "17 fragments of 512 bytes, all straddling a page boundary"
		}),
		with(30*time.Second, func(f *event.FlowHistory) {
			f.State, f.StalledFor, f.StalledSince, f.Drops, f.Stalls, f.Causes[event.TooManySlots] = event.Closed, 0, time.Time{}, 1, 0, 1
			f.TCP.SameSeq, f.TCP.SndQBytes = 1, 0
		}),
	}
}

func sampleRun() *event.Summary {
	flows := event.FlowSummary{FlowCounts: event.FlowCounts{Flows: 7, Stalled: 1, EverStalled: 3, Lost: 2}, Losing: 12}
	for _, e := range sampleEvents() {
		flows.Flows = append(flows.Flows, e.Flow)
	}
	udp := flows.Flows[3]
	udp.State, udp.TCP, udp.Proto, udp.Elsewhere, udp.Reasons = event.Troubled, nil, 17, 1, map[string]uint64{"": 1}
	udp.Causes = [event.NumCauses]uint64{}
	flows.Flows = append(flows.Flows, udp)
	summary := summaryOf(sampleTotals())
	summary.Flows = &flows
	return summary
}

func flowLines(f *Text) []byte {
	packets := samplePackets()
	b := f.AppendPacket(nil, &packets[0])
	for _, e := range sampleEvents() {
		b = f.AppendFlow(b, &e)
	}
	return b
}

func TestFlowGolden(t *testing.T) {
	whole := text(80)
	whole.Whole = true
	colour := text(100)
	colour.Color = true
	for name, got := range map[string][]byte{
		"flows-100.txt":     flowLines(text(100)),
		"flows-80.txt":      flowLines(text(80)),
		"flows-file.txt":    flowLines(whole),
		"flows-colour.txt":  flowLines(colour),
		"summary-flows.txt": text(100).AppendSummary(nil, sampleRun()),
	} {
		t.Run(name, func(t *testing.T) { golden(t, name, got) })
	}
}

func TestFlowsStayWithinTheWidth(t *testing.T) {
	for width := 72; width <= 140; width++ {
		f := text(width)
		for line := range strings.Lines(string(flowLines(f)) + string(f.AppendSummary(nil, sampleRun()))) {
			line = strings.TrimSuffix(line, "\n")
			if n := utf8.RuneCountInString(line); n > width && !isCommandOrAddress(line) && !strings.Contains(line, "[2001:") {
				t.Errorf("width %d: %d columns in %q", width, n, line)
			}
			if strings.TrimRight(line, " ") != line {
				t.Errorf("width %d: space at the end of %q", width, line)
			}
		}
	}
}

const flowKeys = "type time event netns ifname flow flow.family flow.proto flow.saddr flow.sport flow.daddr flow.dport process " +
	"drops retransmits seq first_drop last_drop stalled_ms sndq_bytes causes causes.no_queues causes.device_broken causes.too_big " +
	"causes.too_many_slots causes.linearize_failed causes.bounce_failed causes.no_carrier causes.sg_off causes.needs_gso causes.unknown " +
	"layout advice advice.id advice.command advice.effect advice.cost reasons same_seq_drops rto_ms backoff min_slots max_slots " +
	"elsewhere linearized bounced rejected over_limit stalls stalled_at_end last last.layer last.verdict last.cause last.slots last.limit last.len last.header"

func TestFlowKeysAndTheirOrder(t *testing.T) {
	line := JSON{}.AppendFlow(nil, &sampleEvents()[0])
	if got := strings.Join(keys(t, line), " "); got != flowKeys {
		t.Errorf("got\n%s\nwant\n%s", got, flowKeys)
	}
	if strings.Count(string(line), "\n") != 1 {
		t.Errorf("not one line: %q", line)
	}
}

func TestFlowValues(t *testing.T) {
	type object struct {
		Event       string
		Retransmits *uint64
		Seq         *uint32
		StalledMS   int        `json:"stalled_ms"`
		SndQBytes   *uint32    `json:"sndq_bytes"`
		FirstDrop   *time.Time `json:"first_drop"`
		Causes      map[string]uint64
		Reasons     map[string]uint64
		Layout      *string
		Process     *struct {
			PID       int
			Comm      string
			UID       int
			Unit      *string
			Container *string
		}
		Advice []struct{ ID, Command, Effect, Cost *string }
	}
	read := func(e event.FlowEvent) (o object) {
		t.Helper()
		if err := json.Unmarshal(JSON{}.AppendFlow(nil, &e), &o); err != nil {
			t.Fatal(err)
		}
		return o
	}
	events := sampleEvents()
	stalled := read(events[0])
	if stalled.Event != "stalled" || *stalled.Retransmits != 1 || *stalled.Seq != 3012345678 || stalled.StalledMS != 204 || *stalled.SndQBytes != 8704 {
		t.Errorf("%+v", stalled)
	}
	if stalled.Process != nil || stalled.Layout != nil || stalled.Causes["too_many_slots"] != 2 || len(stalled.Causes) != event.NumCauses-1 || len(stalled.Reasons) != 0 {
		t.Errorf("%+v", stalled)
	}
	first, last := stalled.Advice[0], stalled.Advice[len(stalled.Advice)-1]
	if first.ID == nil || *first.ID == "" || first.Command == nil || *first.Command != "ip link set dev eth0 mtu 1500" || last.Command != nil {
		t.Errorf("advice %+v", stalled.Advice)
	}
	closed := read(events[2])
	if closed.Event != "closed" || closed.Reasons["QDISC_DROP"] != 1 || closed.Layout == nil || closed.Process == nil {
		t.Fatalf("%+v", closed)
	}
	if p := closed.Process; p.PID != 1234 || p.Comm != "cu\x1brl" || p.UID != 1000 || *p.Unit != "sync.service" || p.Container != nil {
		t.Errorf("process %+v", p)
	}
	bare := events[0]
	bare.Flow.TCP, bare.Flow.FirstDrop = nil, time.Time{}
	if o := read(bare); o.Retransmits != nil || o.Seq != nil || o.SndQBytes != nil || o.FirstDrop != nil {
		t.Errorf("%+v", o)
	}
}

// The summary of a run that followed flows has their numbers, and no reason for a null.
func TestSummaryOfFlows(t *testing.T) {
	var got struct {
		FlowsStalled *uint64 `json:"flows_stalled"`
		Lost         struct{ Flows *uint64 }
		Missing      map[string]string
	}
	if err := json.Unmarshal(JSON{}.AppendSummary(nil, sampleRun()), &got); err != nil {
		t.Fatal(err)
	}
	if got.FlowsStalled == nil || *got.FlowsStalled != 3 || got.Lost.Flows == nil || *got.Lost.Flows != 2 || got.Missing["flows"]+got.Missing["flows_stalled"] != "" {
		t.Errorf("%+v", got)
	}
}

func TestFramesHaveNames(t *testing.T) {
	for etherType, want := range map[uint16]string{
		0: "not IP", 0x0806: "ARP", 0x88cc: "LLDP", 0x8809: "LACP", 0x8847: "MPLS", 0x8864: "PPPoE", 0x9100: "QinQ", 0x0026: "LLC", 0x05ff: "LLC",
		0x0800: "IP, header incomplete", 0x86dd: "IP, header incomplete", 0x1234: "EtherType 0x1234", 0x0600: "EtherType 0x0600",
	} {
		if got := Frame(&event.Packet{EtherType: etherType}); got != want {
			t.Errorf("0x%04x: %q, want %q", etherType, got, want)
		}
	}
	if got := protocolName(4); got != "ipip" {
		t.Errorf("protocol 4 is %q", got)
	}
}
