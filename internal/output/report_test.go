package output

import (
	"encoding/json"
	"net/netip"
	"strings"
	"testing"

	"xentrace/internal/check"
	"xentrace/internal/event"
	"xentrace/internal/verdict"
)

// sampleReport has a finding of every status, and names that others chose.
func sampleReport() *event.Report {
	return &event.Report{
		Findings: []event.Finding{
			{ID: check.ScatterGather, Status: event.Fail, Interface: "e\x1b[31m", NetNS: 4026532000, Message: "Scatter-gather is off, so a packet that needs two slots is dropped.",
				Evidence: []event.Fact{{Key: "on", Value: false}, {Key: "small_head_bytes", Value: 704}, {Key: "file", Value: nil}, {Key: "code", Value: "a \"call\""}},
				Advice:   []event.Advice{{ID: "sg-on", Command: "ethtool -K 'e\x1b[31m' sg on", Effect: "It is on again.", Cost: "Nothing much."}, {ID: "wait", Effect: "Or wait."}}},
			{ID: check.TxDropped, Status: event.Warn, Interface: "eth0", NetNS: 4026531840, Message: "5 packets were dropped."},
			{ID: check.KernelLog, Status: event.Unknown, Message: "The kernel's log cannot be read: that needs root."},
			{ID: check.Virtualization, Message: "This is a guest of Xen.", Evidence: []event.Fact{{Key: "hypervisor", Value: "xen"}}},
		},
		EC2RL: []event.Opinion{
			{Module: "xennetsgmtu", Interface: "eth0", Verdict: "SUCCESS", Right: addressOf(false), Message: "Scatter-gather is on."},
			{Module: "xennetrocket", Message: "The log cannot be read."},
		},
	}
}

func TestReportInText(t *testing.T) {
	text := &Text{Width: func() int { return 72 }}
	want := `FAIL    scatter_gather e\x1b[31m (network namespace 4026532000):
        Scatter-gather is off, so a packet that needs two slots is
        dropped.
        (on: false, small_head_bytes: 704, file: unknown, code: a
        "call")
      # ethtool -K 'e\x1b[31m' sg on
        It is on again.
        Cost: Nothing much.
        Or wait.

WARN    tx_dropped eth0 (network namespace 4026531840): 5 packets were
        dropped.
UNKNOWN kernel_log: The kernel's log cannot be read: that needs root.
OK      virtualization: This is a guest of Xen.

What ec2rl would report here
SUCCESS xennetsgmtu eth0, wrong: Scatter-gather is on.
?       xennetrocket, cannot be verified: The log cannot be read.

1 FAIL, 1 WARN, 1 UNKNOWN, 1 OK
`
	if got := string(text.AppendReport(nil, sampleReport())); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	text.Evidence, text.Color = true, true
	got := string(text.AppendReport(nil, sampleReport()))
	for _, part := range []string{"(hypervisor: xen)\n", "\x1b[31mFAIL\x1b[0m    scatter_gather", "\x1b[33mWARN\x1b[0m ", "\x1b[35mUNKNOWN\x1b[0m ", "\x1b[32mOK\x1b[0m "} {
		if !strings.Contains(got, part) {
			t.Errorf("no %q in %q", part, got)
		}
	}
	if strings.Contains(got, "e\x1b[31m") {
		t.Error("an interface's name reaches the terminal as it is")
	}
}

func TestReportInJSON(t *testing.T) {
	want := []string{
		`{"type":"finding","id":"scatter_gather","status":"FAIL","ifname":"e\u001b[31m","netns":4026532000,"message":"Scatter-gather is off, so a packet that needs two slots is dropped.",` +
			`"evidence":{"on":false,"small_head_bytes":704,"file":null,"code":"a \"call\""},` +
			`"advice":[{"id":"sg-on","command":"ethtool -K 'e\u001b[31m' sg on","effect":"It is on again.","cost":"Nothing much."},{"id":"wait","command":null,"effect":"Or wait.","cost":null}]}`,
		`{"type":"finding","id":"tx_dropped","status":"WARN","ifname":"eth0","netns":4026531840,"message":"5 packets were dropped.","evidence":{},"advice":[]}`,
		`{"type":"finding","id":"kernel_log","status":"UNKNOWN","ifname":null,"netns":null,"message":"The kernel's log cannot be read: that needs root.","evidence":{},"advice":[]}`,
		`{"type":"finding","id":"virtualization","status":"OK","ifname":null,"netns":null,"message":"This is a guest of Xen.","evidence":{"hypervisor":"xen"},"advice":[]}`,
		`{"type":"ec2rl","module":"xennetsgmtu","ifname":"eth0","verdict":"SUCCESS","right":false,"message":"Scatter-gather is on."}`,
		`{"type":"ec2rl","module":"xennetrocket","ifname":null,"verdict":null,"right":null,"message":"The log cannot be read."}`,
	}
	lines := strings.Split(strings.TrimSuffix(string(JSON{}.AppendReport(nil, sampleReport())), "\n"), "\n")
	if len(lines) != len(want) {
		t.Fatalf("%d lines, want %d", len(lines), len(want))
	}
	for n, line := range lines {
		if line != want[n] || !json.Valid([]byte(line)) {
			t.Errorf("got  %s\nwant %s", line, want[n])
		}
	}
}

var probeFlow = &event.Flow{Proto: 17, Source: netip.MustParseAddrPort("192.0.2.2:40000"), Destination: netip.MustParseAddrPort("192.0.2.1:9")}

// probed is a result of a probe out of an interface of xen-netfront.
func probed(change func(*event.Probe)) event.Probe {
	r := event.Probe{
		Time: start, Interface: event.Device{Name: "eth0"}, Netfront: true, Flow: probeFlow,
		Seen: true, Verdict: event.Dropped, Cause: event.TooManySlots, Slots: 27, Limit: 18, Len: 1162, Reached: true, Attempts: 1,
	}
	change(&r)
	return r
}

func TestProbeInText(t *testing.T) {
	for _, test := range []struct {
		name   string
		change func(*event.Probe)
		want   string
	}{
		{"dropped", func(*event.Probe) {},
			`eth0: dropped too_many_slots, 27 slots (limit 18), 1162 bytes, 192.0.2.2:40000 > 192.0.2.1:9 udp
  The packet is over the slot limit (18) and this driver does not linearize, so every retransmission is dropped too.
`},
		{"linearized", func(r *event.Probe) {
			r.Verdict, r.Cause, r.Answer, r.Attempts = event.Linearized, event.CauseNone, event.AnswerAccepted, 3
		}, `eth0: linearized, 27 slots (limit 18), 1162 bytes, 192.0.2.2:40000 > 192.0.2.1:9 udp, attempt 3
  The packet was over the slot limit (18); the driver copied it into one buffer and sent it. Nothing is lost while memory for the copies is found. The backend accepted it.
`},
		{"sent, answers not seen", func(r *event.Probe) {
			r.Verdict, r.Cause, r.Slots, r.AnswerMissing = event.Sent, event.CauseNone, 18, "no BTF"
		}, `eth0: sent, 18 slots (limit 18), 1162 bytes, 192.0.2.2:40000 > 192.0.2.1:9 udp
  The datagram was within the slot limit; the driver sent it as it was. The TX response is unknown: no BTF.
`},
		{"sent over the limit", func(r *event.Probe) {
			r.Verdict, r.Cause, r.Slots, r.Answer = event.Sent, event.CauseNone, 19, event.AnswerAccepted
		}, `eth0: sent, 19 slots (limit 18), 1162 bytes, 192.0.2.2:40000 > 192.0.2.1:9 udp
  The driver neither linearizes nor drops packets over the slot limit (18): it sent the datagram as it was. The backend accepted it.
`},
		{"scatter-gather off, none met", func(r *event.Probe) {
			r.Verdict, r.Cause, r.Slots, r.Len, r.Reached, r.Attempts, r.ScatterGatherOff, r.Answer = event.Sent, event.CauseNone, 1, 342, false, 32, true, event.AnswerAccepted
		}, `eth0: sent, 1 slot (limit 18), 342 bytes, 192.0.2.2:40000 > 192.0.2.1:9 udp, attempt 32
  The datagram was within the slot limit; the driver sent it as it was. The backend accepted it. Scatter-gather is off, so a packet of 2 slots is dropped; in 32 attempts no small datagram straddled a page boundary, as some do on kernels from 6.3.
`},
		{"not as asked", func(r *event.Probe) {
			r.Verdict, r.Cause, r.Slots, r.Asked, r.Reached, r.Attempts, r.Answer = event.Sent, event.CauseNone, 17, 18, false, 32, event.AnswerAccepted
		}, `eth0: sent, 17 slots (limit 18), 1162 bytes, 192.0.2.2:40000 > 192.0.2.1:9 udp, attempt 32
  The datagram was within the slot limit; the driver sent it as it was. The backend accepted it. No datagram had the requested 18 slots in 32 attempts.
`},
		{"another driver", func(r *event.Probe) {
			r.Netfront, r.Verdict, r.Cause, r.Slots = false, event.Sent, event.CauseNone, 18
		}, `eth0: sent, 18 slots (limit 18), 1162 bytes, 192.0.2.2:40000 > 192.0.2.1:9 udp
  Another driver sent the datagram; xen-netfront would have sent it too.
`},
		{"another driver without scatter-gather", func(r *event.Probe) {
			r.Netfront, r.Verdict, r.Cause, r.Slots, r.ScatterGatherOff = false, event.Sent, event.CauseNone, 2, true
		}, `eth0: sent, 2 slots (limit 18), 1162 bytes, 192.0.2.2:40000 > 192.0.2.1:9 udp
  Another driver sent the datagram; xen-netfront would have dropped it, because scatter-gather is off.
`},
		{"not seen", func(r *event.Probe) {
			*r = event.Probe{Time: start, Interface: event.Device{Name: "e\x1bth"}, Limit: 18, Unseen: "192.0.2.1 does not answer ARP requests on interface eth0"}
		}, `e\x1bth: not seen
  Unknown what the driver would do: 192.0.2.1 does not answer ARP requests on interface eth0.
`},
	} {
		r := probed(test.change)
		text := &Text{Width: func() int { return 1000 }}
		if got := string(text.AppendProbe(nil, &r)); got != test.want {
			t.Errorf("%s:\n%s\nwant:\n%s", test.name, got, test.want)
		}
	}
}

func probesOf(results ...event.Probe) *event.Probes {
	return &event.Probes{Results: results, Explained: verdict.ExplainProbes(results, sampleFacts)}
}

func TestProbeEndInText(t *testing.T) {
	text := &Text{Width: func() int { return 1000 }}
	lost := probed(func(*event.Probe) {})
	refused := probed(func(r *event.Probe) {
		r.Verdict, r.Cause, r.Answer = event.Rejected, event.CauseNone, event.AnswerRejected
	})
	sent := probed(func(r *event.Probe) { r.Verdict, r.Cause = event.Linearized, event.CauseNone })
	unseen := probed(func(r *event.Probe) { *r = event.Probe{Interface: r.Interface, Unseen: "x"} })
	if got := text.AppendProbeEnd(nil, probesOf(sent)); len(got) != 0 {
		t.Errorf("one that was sent: %q, want nothing", got)
	}
	got := string(text.AppendProbeEnd(nil, probesOf(lost, sent, lost, refused, unseen)))
	if strings.Count(got, "What to do about too_many_slots:\n") != 1 || strings.Count(got, "What to do about rejected:\n") != 1 ||
		strings.Count(got, "# ip link set dev eth0 mtu 1500\n") != 1 || !strings.HasSuffix(got, "\n3 of 5 lost, 1 not seen\n") {
		t.Errorf("says:\n%s", got)
	}
}

func TestProbeInJSON(t *testing.T) {
	const flow = `"flow":{"family":"ipv4","proto":"udp","saddr":"192.0.2.2","sport":40000,"daddr":"192.0.2.1","dport":9}`
	for _, test := range []struct {
		change func(*event.Probe)
		want   string
	}{
		{func(*event.Probe) {}, `{"type":"probe","time":"2026-11-22T10:48:03.123456789Z","ifname":"eth0",` + flow + `,"slots":27,"limit":18,"verdict":"dropped","cause":"too_many_slots","attempts":1,"answer":null,"reason":null,"message":"The packet is over`},
		{func(r *event.Probe) {
			r.Verdict, r.Cause, r.Answer = event.Rejected, event.CauseNone, event.AnswerRejected
		},
			`{"type":"probe","time":"2026-11-22T10:48:03.123456789Z","ifname":"eth0",` + flow + `,"slots":27,"limit":18,"verdict":"rejected","cause":null,"attempts":1,"answer":"rejected","reason":null,"message":"The driver sent the packet and the backend rejected it`},
		{func(r *event.Probe) {
			*r = event.Probe{Time: start, Interface: event.Device{Name: "e\"0"}, Limit: 18, Attempts: 1, Reason: "QDISC_DROP", Unseen: "it was dropped"}
		}, `{"type":"probe","time":"2026-11-22T10:48:03.123456789Z","ifname":"e\"0","flow":null,"slots":null,"limit":18,"verdict":null,"cause":null,"attempts":1,"answer":null,"reason":"QDISC_DROP","message":"Unknown what the driver would do: it was dropped."}`},
	} {
		r := probed(test.change)
		got := JSON{}.AppendProbe(nil, &r)
		if !strings.HasPrefix(string(got), test.want) || !json.Valid(got) || got[len(got)-1] != '\n' {
			t.Errorf("%s\nwant %s", got, test.want)
		}
	}
	if got := (JSON{}).Append(nil, probesOf(event.Probe{}, event.Probe{})); len(got) != 0 {
		t.Errorf("at the end: %q, want nothing", got)
	}
}
