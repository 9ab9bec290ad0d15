package output

import (
	"bytes"
	"errors"
	"net/netip"
	"reflect"
	"strings"
	"testing"
	"time"

	"xentrace/internal/event"
	"xentrace/test/memory"
	"xentrace/test/schema"
)

// sampleStart is of a machine of which all is known.
func sampleStart() *event.Start {
	yes := true
	return &event.Start{
		Time: start, Format: event.Format, Version: "1.2.3", Commit: "0123abc", Command: []string{"xentrace", "record", "--dir", "/var/log/x\"y"},
		BootID: "5e5b7c94-6c11-4f0b-8c43-d3bdb3a3c5c9", Uptime: 86_400_123 * time.Millisecond, Hostname: "guest", Kernel: "6.1.0-9-amd64", Machine: "x86_64",
		Xen: &event.Xen{Version: "4.17.5", Type: "PV"},
		Interfaces: []event.StartInterface{
			{Device: event.Device{Name: "eth0", Index: 2, NetNS: 4026531840}, Driver: "xen-netfront", MTU: 9001, Features: map[string]bool{"tx-scatter-gather": true}, Queues: 2, Linearizes: &yes},
			{Device: event.Device{Name: "veth1", Index: 9, NetNS: 4026532281}, Driver: "veth", MTU: 1500},
		},
		Check: []event.Finding{{
			ID: "mtu", Status: event.Warn, Interface: "eth0", NetNS: 4026531840, Message: "MTU is 9001.",
			Evidence: []event.Fact{{Key: "mtu", Value: 9001}, {Key: "share", Value: 0.25}, {Key: "unknown", Value: nil}, {Key: "name", Value: "a\"b"}, {Key: "on", Value: true}},
			Advice:   []event.Advice{{ID: "mtu-1500", Command: "ip link set dev eth0 mtu 1500", Effect: "An effect.", Cost: "A cost."}},
		}},
	}
}

// sampleInterval has what an interval can hold.
func sampleInterval() *event.Interval {
	s := summaryOf(elsewhereTotals())
	s.Gaps = []event.Gap{{From: start, To: start.Add(time.Second), Reason: event.GapSuspended}, {From: start.Add(2 * time.Second), Reason: event.GapDriverUnloaded}}
	s.Suppressed = []event.Suppressed{{Verdict: event.Dropped, Cause: event.TooManySlots, Records: 77}, {Verdict: event.Linearized, Records: 5}}
	return &event.Interval{Totals: s.Totals, Explained: s.Explained}
}

// recordedEvents has every type of event that a recording holds, in every shape.
func recordedEvents() []event.Event {
	queue, no := 3, false
	all := []event.Event{sampleStart(), &event.Start{Time: start, Format: 1}, sampleInterval(), summaryOf(quietTotals()), sampleRun()}
	packets, flows := samplePackets(), sampleEvents()
	for i := range packets {
		all = append(all, &packets[i])
	}
	for i := range flows {
		all = append(all, &flows[i])
	}
	return append(all,
		&event.Notice{Time: start, ID: event.NoticeQueueStuck, Device: event.Device{Name: "eth0", Index: 2, NetNS: 4026531840}, Queue: &queue, DurationMS: 4200},
		&event.Notice{Time: start, ID: event.NoticeLinearize, Linearizes: &no, Evidence: "its calls"},
		&event.Notice{Time: start, ID: event.NoticeClockStep, StepMS: -3600_000},
	)
}

// An interval gives no reason for keys that no interval has: it is written every 10 s for ever.
func TestIntervalWithoutReasonsForFlows(t *testing.T) {
	line := string(Recording{}.Append(nil, sampleInterval()))
	for _, key := range onlySummaries {
		if !strings.Contains(line, `"`+key+`":null`) || strings.Contains(line, `"`+key+`":"`) {
			t.Errorf("%s is not null, or has a reason:\n%s", key, line)
		}
	}
}

// Each line that is read back is written again as it was, as JSON and as text.
func TestRecordedEventsAreReadBack(t *testing.T) {
	for i, e := range recordedEvents() {
		line := Recording{}.Append(nil, e)
		schema.Check(t, line)
		back, err := Parse(line)
		if err != nil {
			t.Errorf("%d %s: %v in %s", i, e.Type(), err, line)
			continue
		}
		if again := (Recording{}).Append(nil, back); !bytes.Equal(again, line) {
			t.Errorf("%d %s: read back as\n%s, was\n%s", i, e.Type(), again, line)
		}
		for _, whole := range []bool{true, false} {
			text := func(e event.Event) string {
				return string((&Text{Whole: whole, Stacks: true, Color: true, Location: time.UTC}).Append(nil, e))
			}
			if was, is := text(e), text(back); was != is {
				t.Errorf("%d %s: read back as\n%s, was\n%s", i, e.Type(), is, was)
			}
		}
	}
}

func TestLinesThatAreNotEvents(t *testing.T) {
	for line, want := range map[string]string{
		``:                              "not a JSON object",
		`{"type":"packet"`:              "unexpected end",
		`[1]`:                           "not a JSON object",
		`{"type":"packet"}`:             "layer",
		`{"type":"start","format":0}`:   "format: missing",
		`{"type":"finding"}`:            "status",
		`{"type":"flow"}`:               "flow: missing",
		`{"type":"packet","slots":"1"}`: "slots",
	} {
		if _, err := Parse([]byte(line)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: error %v, want one with %q", line, err, want)
		}
	}
	for _, line := range []string{`{"type":"congestion","time":null}`, `{}`, `{"type":"of a later version","x":[1]}`} {
		if _, err := Parse([]byte(line)); !errors.Is(err, ErrUnknownType) {
			t.Errorf("%s: error %v, want that the type is unknown", line, err)
		}
	}
	// Keys of a later version are ignored, and the type need not come first.
	e, err := Parse([]byte(`{"time":"2026-11-22T10:48:03Z","new":{"a":1},"type":"notice","id":"waiting"}`))
	if n, ok := e.(*event.Notice); err != nil || !ok || n.ID != event.NoticeWaiting || !n.Time.Equal(start.Truncate(time.Second)) {
		t.Errorf("%v, %v", e, err)
	}
}

// A line that the fast parser reads is what encoding/json reads; it reads every line of
// plain names.
func TestPacketsReadTwice(t *testing.T) {
	fast := 0
	for _, p := range samplePackets() {
		line := bytes.TrimRight(JSON{}.AppendPacket(nil, &p), "\n")
		if samePacket(t, line) {
			fast++
		}
	}
	if want := len(samplePackets()) - 4; fast != want { // the others have names with control characters
		t.Errorf("%d lines were read the fast way, want %d", fast, want)
	}
	for _, line := range []string{`{"type":"packet"}`, `{"type":"packet","time":"x"`, ``, `{"type":"packet","time":"2026-11-27T02:10:00Z","cpu":01`} {
		if samePacket(t, []byte(line)) {
			t.Errorf("%s was read", line)
		}
	}
}

func samePacket(t *testing.T, line []byte) bool {
	fast, ok := parsePacket(line)
	if !ok {
		return false
	}
	slow, err := parsed(line, (*recordedPacket).event)
	if err != nil || !reflect.DeepEqual(event.Event(fast), slow) {
		t.Errorf("read fast as\n%+v, by encoding/json as\n%+v, %v\nfrom %s", fast, slow, err, line)
	}
	return true
}

func FuzzParsePacket(f *testing.F) {
	for _, p := range samplePackets() {
		f.Add(bytes.TrimRight(JSON{}.AppendPacket(nil, &p), "\n"))
	}
	f.Fuzz(func(t *testing.T, line []byte) {
		memory.Within(t, 1<<20+512*uint64(len(line)), func() { samePacket(t, line) })
	})
}

func FuzzParse(f *testing.F) {
	for _, e := range recordedEvents() {
		f.Add(Recording{}.Append(nil, e))
	}
	f.Add([]byte(`{"type":"notice","id":"` + strings.Repeat("\u202e", 1000) + `"}`))
	f.Add([]byte(strings.Repeat(`{"type":`, 5000)))
	f.Fuzz(func(t *testing.T, line []byte) {
		memory.Within(t, 1<<20+256*uint64(len(line)), func() {
			e, err := Parse(line)
			if err != nil {
				return
			}
			text := &Text{Whole: true, Location: time.UTC}
			text.Append(nil, e)
			again := Recording{}.Append(nil, e)
			if _, err := Parse(again); err != nil {
				t.Errorf("%v in %s", err, again)
			}
		})
	})
}

func BenchmarkParse(b *testing.B) {
	p := samplePackets()[1]
	for range 4 {
		p.Frags = append(p.Frags, p.Frags...)
	}
	line := bytes.TrimRight(JSON{}.AppendPacket(nil, &p), "\n")
	b.SetBytes(int64(len(line)))
	for b.Loop() {
		if _, err := Parse(line); err != nil {
			b.Fatal(err)
		}
	}
}

// What a filter expression is matched with is there for a flow's last packet too.
func TestLastPacketOfAFlowHasItsHeader(t *testing.T) {
	e := &event.FlowEvent{Time: start, Flow: event.FlowHistory{
		FlowKey: event.FlowKey{Proto: 6, Source: netip.MustParseAddrPort("10.0.0.1:40000"), Destination: netip.MustParseAddrPort("10.0.0.9:443")},
		State:   event.Stalled, Packet: event.Packet{Verdict: event.Dropped, Cause: event.SGOff, Len: 1514, Header: []byte{1, 2, 0xff}},
	}}
	read, err := Parse(JSON{}.AppendFlow(nil, e))
	if err != nil {
		t.Fatal(err)
	}
	if last := read.(*event.FlowEvent).Flow.Packet; last.Len != 1514 || !bytes.Equal(last.Header, e.Flow.Packet.Header) {
		t.Errorf("%d bytes, header %x", last.Len, last.Header)
	}
}
