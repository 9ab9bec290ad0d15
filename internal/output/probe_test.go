package output

import (
	"encoding/json"
	"net/netip"
	"strings"
	"testing"

	"xentrace/internal/event"
)

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
			`eth0: dropped too_many_slots, 27 slots (the limit is 18), 1162 bytes, 192.0.2.2:40000 > 192.0.2.1:9 udp
  The packet needs more slots than the limit and this driver has no code to linearize it, so the same packet is dropped again at every retransmission.
`},
		{"linearized", func(r *event.Probe) {
			r.Verdict, r.Cause, r.Answer, r.Attempts = event.Linearized, event.CauseNone, event.AnswerAccepted, 3
		}, `eth0: linearized, 27 slots (the limit is 18), 1162 bytes, 192.0.2.2:40000 > 192.0.2.1:9 udp, attempt 3
  The packet needed more slots than the limit; the driver copied it into one buffer and sent it. The backend took it.
`},
		{"sent, answers not seen", func(r *event.Probe) {
			r.Verdict, r.Cause, r.Slots, r.AnswerMissing = event.Sent, event.CauseNone, 18, "no BTF"
		}, `eth0: sent, 18 slots (the limit is 18), 1162 bytes, 192.0.2.2:40000 > 192.0.2.1:9 udp
  The datagram was within the limit, and the driver sent it as it was. Whether the backend took it is not known: no BTF.
`},
		{"sent over the limit", func(r *event.Probe) {
			r.Verdict, r.Cause, r.Slots, r.Answer = event.Sent, event.CauseNone, 19, event.AnswerAccepted
		}, `eth0: sent, 19 slots (the limit is 18), 1162 bytes, 192.0.2.2:40000 > 192.0.2.1:9 udp
  The driver neither linearizes nor drops what is over the limit: it sent the datagram as it was. The backend took it.
`},
		{"scatter-gather off, none met", func(r *event.Probe) {
			r.Verdict, r.Cause, r.Slots, r.Len, r.Reached, r.Attempts, r.ScatterGatherOff, r.Answer = event.Sent, event.CauseNone, 1, 342, false, 32, true, event.AnswerAccepted
		}, `eth0: sent, 1 slot (the limit is 18), 342 bytes, 192.0.2.2:40000 > 192.0.2.1:9 udp, attempt 32
  The datagram was within the limit, and the driver sent it as it was. The backend took it. Scatter-gather is off, so that a packet of two slots is one too many; no small datagram had a head across a page boundary in 32 attempts, as they have on some kernels from 6.3 on.
`},
		{"not as asked", func(r *event.Probe) {
			r.Verdict, r.Cause, r.Slots, r.Asked, r.Reached, r.Attempts, r.Answer = event.Sent, event.CauseNone, 17, 18, false, 32, event.AnswerAccepted
		}, `eth0: sent, 17 slots (the limit is 18), 1162 bytes, 192.0.2.2:40000 > 192.0.2.1:9 udp, attempt 32
  The datagram was within the limit, and the driver sent it as it was. The backend took it. No datagram had the 18 slots that were asked for in 32 attempts.
`},
		{"another driver", func(r *event.Probe) {
			r.Netfront, r.Verdict, r.Cause, r.Slots = false, event.Sent, event.CauseNone, 18
		}, `eth0: sent, 18 slots (the limit is 18), 1162 bytes, 192.0.2.2:40000 > 192.0.2.1:9 udp
  Another driver sent the datagram; a Xen frontend would have sent it, too.
`},
		{"another driver without scatter-gather", func(r *event.Probe) {
			r.Netfront, r.Verdict, r.Cause, r.Slots, r.ScatterGatherOff = false, event.Sent, event.CauseNone, 2, true
		}, `eth0: sent, 2 slots (the limit is 18), 1162 bytes, 192.0.2.2:40000 > 192.0.2.1:9 udp
  Another driver sent the datagram; a Xen frontend would have dropped it, since scatter-gather is off.
`},
		{"not seen", func(r *event.Probe) {
			*r = event.Probe{Time: start, Interface: event.Device{Name: "e\x1bth"}, Limit: 18, Unseen: "192.0.2.1 does not answer ARP requests on interface eth0"}
		}, `e\x1bth: not seen
  What the driver would do is not known: 192.0.2.1 does not answer ARP requests on interface eth0.
`},
	} {
		r := probed(test.change)
		text := &Text{Width: func() int { return 1000 }}
		if got := string(text.AppendProbe(nil, &r)); got != test.want {
			t.Errorf("%s:\n%s\nwant:\n%s", test.name, got, test.want)
		}
	}
}

func TestProbeEndInText(t *testing.T) {
	text := &Text{Width: func() int { return 1000 }}
	lost := probed(func(*event.Probe) {})
	refused := probed(func(r *event.Probe) {
		r.Verdict, r.Cause, r.Answer = event.Rejected, event.CauseNone, event.AnswerRejected
	})
	sent := probed(func(r *event.Probe) { r.Verdict, r.Cause = event.Linearized, event.CauseNone })
	unseen := probed(func(r *event.Probe) { *r = event.Probe{Interface: r.Interface, Unseen: "x"} })
	if got := text.AppendProbeEnd(nil, []event.Probe{sent}); len(got) != 0 {
		t.Errorf("one that was sent: %q, want nothing", got)
	}
	got := string(text.AppendProbeEnd(nil, []event.Probe{lost, sent, lost, refused, unseen}))
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
		{func(*event.Probe) {}, `{"type":"probe","time":"2026-11-22T10:48:03.123456789Z","ifname":"eth0",` + flow + `,"slots":27,"limit":18,"verdict":"dropped","cause":"too_many_slots","attempts":1,"answer":null,"reason":null,"message":"The packet needs`},
		{func(r *event.Probe) {
			r.Verdict, r.Cause, r.Answer = event.Rejected, event.CauseNone, event.AnswerRejected
		},
			`{"type":"probe","time":"2026-11-22T10:48:03.123456789Z","ifname":"eth0",` + flow + `,"slots":27,"limit":18,"verdict":"rejected","cause":null,"attempts":1,"answer":"rejected","reason":null,"message":"The driver put`},
		{func(r *event.Probe) {
			*r = event.Probe{Time: start, Interface: event.Device{Name: "e\"0"}, Limit: 18, Attempts: 1, Reason: "QDISC_DROP", Unseen: "it was dropped"}
		}, `{"type":"probe","time":"2026-11-22T10:48:03.123456789Z","ifname":"e\"0","flow":null,"slots":null,"limit":18,"verdict":null,"cause":null,"attempts":1,"answer":null,"reason":"QDISC_DROP","message":"What the driver would do is not known: it was dropped."}`},
	} {
		r := probed(test.change)
		got := JSON{}.AppendProbe(nil, &r)
		if !strings.HasPrefix(string(got), test.want) || !json.Valid(got) || got[len(got)-1] != '\n' {
			t.Errorf("%s\nwant %s", got, test.want)
		}
	}
	if got := (JSON{}).Append(nil, &event.Probes{{}, {}}); len(got) != 0 {
		t.Errorf("at the end: %q, want nothing", got)
	}
}
