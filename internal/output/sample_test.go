package output

import (
	"net/netip"
	"time"

	"xentrace/internal/event"
	"xentrace/internal/remedy"
	"xentrace/internal/verdict"
)

var start = time.Date(2026, 11, 22, 10, 48, 3, 123456789, time.UTC)

func number(n uint64) *uint64 { return &n }

func tcpFlow(source, destination string) *event.Flow {
	return &event.Flow{
		Proto: 6, Source: netip.MustParseAddrPort(source), Destination: netip.MustParseAddrPort(destination),
		Seq: 3012345678, SeqKnown: true,
	}
}

// samplePackets holds a packet of every shape that a line can have.
func samplePackets() []event.Packet {
	eth0 := event.Device{Name: "eth0", Index: 2, NetNS: 4026531840}
	established := &event.TCP{
		State: 1, Seq: 3012345678, SndUna: 3012345678, SndNxt: 3012346984, WriteSeq: 3012354382,
		Retransmits: 5, RTO: 6816 * time.Millisecond, SRTT: 1234 * time.Microsecond, SndQBytes: 8704,
	}
	base := event.Packet{
		Time: start, CPU: 1, Interface: eth0, Queue: 1, Verdict: event.Dropped, Cause: event.TooManySlots,
		Slots: 35, Limit: 18, Len: 1426, HeadOffset: 254, HeadLen: 66,
		Frags:   []event.Frag{{Offset: 4056, Size: 80}, {Offset: 16344, Size: 80}, {Offset: 0, Size: 0}},
		GSOSize: 1448, GSOSegs: 2,
		Flow: tcpFlow("10.0.0.5:49152", "10.0.0.9:5001"), TCP: established,
	}
	nginx := &event.Process{PID: 1234, Comm: "nginx", UID: 33, Unit: "nginx.service"}
	contained := &event.Process{PID: 4194304, Comm: "Web \x1b[31mContent", Container: "0123abcd"}
	with := func(change func(*event.Packet)) event.Packet {
		p := base
		p.Time = p.Time.Add(17 * time.Millisecond)
		change(&p)
		return p
	}
	return []event.Packet{
		base,
		with(func(p *event.Packet) {
			p.Flow, p.Process = tcpFlow("192.168.122.101:51234", "192.168.122.1:5001"), nginx
		}),
		with(func(p *event.Packet) {
			p.Verdict, p.Cause, p.Slots = event.Linearized, event.CauseNone, 19
			p.Flow, p.TCP = tcpFlow("[fe80::216:3eff:fe01:2]:49152", "[fe80::1]:443"), nil
			p.Flow.Seq, p.Flow.SeqKnown = 0, false
		}),
		with(func(p *event.Packet) {
			p.Cause, p.Slots = event.LinearizeFailed, 32
			p.Flow = tcpFlow("[2001:db8:1234:5678:9abc:def0:1234:5678]:49152", "[2001:db8:8765:4321:fedc:ba98:8765:4321]:65535")
			p.Process = contained
		}),
		with(func(p *event.Packet) {
			p.Cause, p.Slots, p.Len, p.Frags, p.TCP = event.SGOff, 2, 142, nil, nil
			p.Flow = &event.Flow{Proto: 17, Source: netip.MustParseAddrPort("10.0.0.5:53"), Destination: netip.MustParseAddrPort("10.0.0.9:40000")}
		}),
		with(func(p *event.Packet) {
			p.Verdict, p.Cause, p.Slots, p.Len, p.TCP = event.Bounced, event.CauseNone, 2, 98, nil
			p.Flow = &event.Flow{Proto: 1, Source: netip.MustParseAddrPort("10.0.0.5:0"), Destination: netip.MustParseAddrPort("10.0.0.9:0")}
		}),
		with(func(p *event.Packet) {
			p.Verdict, p.Cause, p.Slots, p.Frags = event.Rejected, event.CauseNone, 31, p.Frags[:1]
		}),
		with(func(p *event.Packet) {
			p.Verdict, p.Cause, p.Slots, p.Len, p.Flow, p.TCP = event.OverLimit, event.CauseNone, 19, 17070, nil, nil
			p.Process = nginx
			p.Interface = event.Device{Name: "a\x1b[31m\"b", Index: 7, NetNS: 4026532281}
		}),
		with(func(p *event.Packet) {
			p.Layer, p.Cause, p.Slots, p.TCP = event.LayerElsewhere, event.CauseNone, 1, nil
			p.Flow = &event.Flow{Proto: 17, Source: netip.MustParseAddrPort("10.0.0.5:53"), Destination: netip.MustParseAddrPort("10.0.0.9:40000")}
			p.Process = contained
			p.Reason, p.Stack = "QDISC_DROP", []string{"__dev_queue_xmit+0xd01", "ip_finish_output2+0x2c1", "udp_sendmsg+0x9e6"}
		}),
		with(func(p *event.Packet) {
			p.Layer, p.Cause, p.Slots, p.Flow = event.LayerElsewhere, event.CauseNone, 1, tcpFlow("[2001:db8:1234:5678:9abc:def0:1234:5678]:49152", "[2001:db8:8765:4321:fedc:ba98:8765:4321]:65535")
			p.Stack = []string{"nft_do_chain+0x1f [nf\x1btables]"}
		}),
		with(func(p *event.Packet) {
			p.Layer, p.Cause, p.Slots, p.Flow, p.TCP = event.LayerElsewhere, event.CauseNone, 1, nil, nil
		}),
		with(func(p *event.Packet) { // of a tunnel, with its first bytes
			p.EtherType, p.Header = 0x86dd, []byte{0, 1, 2, 0xff}
			p.Flow = &event.Flow{Proto: 17, Source: netip.MustParseAddrPort("[fd00::1]:53211"), Destination: netip.MustParseAddrPort("[fd00::2]:4789")}
			p.Inner = tcpFlow("10.0.0.5:49152", "10.0.0.9:5001")
			p.Inner.Seq, p.Inner.SeqKnown = 0, false
		}),
		with(func(p *event.Packet) { // forwarded, and masqueraded
			p.TCP, p.Header, p.Process = nil, []byte{1, 2, 3}, nginx
			p.BeforeNAT = tcpFlow("172.17.0.2:40000", "10.0.0.9:5001")
			p.BeforeNAT.Seq, p.BeforeNAT.SeqKnown = 0, false
		}),
	}
}

// sampleTotals is a run with one interface in trouble and one of another driver.
func sampleTotals() *event.Totals {
	stuck := 4200 * time.Millisecond
	eth0 := event.InterfaceTotals{
		Device: event.Device{Name: "eth0", Index: 2, NetNS: 4026531840},
		Driver: "xen-netfront", Backend: event.Kprobe, Queues: 2,
		Counts: event.Counts{
			Packets: 21204, Bytes: 31_245_678, OverLimit: 601, Dropped: 403, Linearized: 200, Bounced: 12, RingLost: 3,
			XDPPackets: 5120, XDPDropped: 16,
		},
		XDP:            true,
		Rejected:       number(9),
		TxDroppedDelta: number(401),
		Stuck:          &stuck, StuckNow: true,
	}
	eth0.Slots[1], eth0.Slots[2], eth0.Slots[3], eth0.Slots[17], eth0.Slots[18] = 1204, 19000, 2, 97, 300
	eth0.Slots[19], eth0.Slots[20], eth0.Slots[35] = 400, 200, 1
	eth0.Causes[event.TooManySlots], eth0.Causes[event.SGOff] = 401, 2
	veth := event.InterfaceTotals{
		Device: event.Device{Name: "veth1", Index: 9, NetNS: 4026532281},
		Driver: "veth", Backend: event.Tracepoint, Queues: 1,
		Counts:         event.Counts{Packets: 7, Bytes: 700},
		TxDroppedDelta: nil,
	}
	veth.Slots[1] = 7
	return &event.Totals{
		Time: start.Add(12 * time.Second), Duration: 12 * time.Second,
		Interfaces: []event.InterfaceTotals{eth0, veth},
		Events:     612,
		Lost:       event.Lost{Ring: 3, Recursion: nil, Missed: number(0)},
		Missing: map[string]string{
			"recursion":        "this kernel does not count it for the program",
			"rejected":         "the backend's responses are not seen",
			"xdp_packets":      "this driver has no function of it",
			"xdp_dropped":      "this driver has no function of it",
			"stuck_ms":         "only queues of xen-netfront are looked at",
			"tx_dropped_delta": "the interface went away",
		},
	}
}

// elsewhereTotals is a run with drops outside the driver, on a kernel that shows
// reasons.
func elsewhereTotals() *event.Totals {
	totals := sampleTotals()
	totals.Drops = event.DropsAll
	totals.Interfaces[0].Elsewhere = 1204
	totals.Interfaces[0].Conntrack = &event.Conntrack{InsertFailed: 2, Dropped: 2, EarlyDropped: 7}
	totals.Interfaces[0].Reasons = map[string]uint64{"QDISC_DROP": 1200, "NETFILTER_DROP": 3, "SOME_NEW_REASON": 1}
	totals.Interfaces[1].Reasons = map[string]uint64{}
	return totals
}

// quietTotals is a run in which nothing went wrong.
func quietTotals() *event.Totals {
	totals := sampleTotals()
	totals.Interfaces = totals.Interfaces[:1]
	t := &totals.Interfaces[0]
	t.Counts = event.Counts{Packets: 20303, Bytes: 30_000_000}
	t.Slots[1], t.Slots[2], t.Slots[18] = 1203, 19000, 100
	t.TxDroppedDelta = number(0)
	t.Rejected, t.StuckNow, *t.Stuck = nil, false, 0
	totals.Events = 0
	totals.Lost = event.Lost{Recursion: number(0), Missed: number(0)}
	totals.Missing = nil
	return totals
}

// sampleFacts are those of a driver that drops packets over the limit, with jumbo frames.
func sampleFacts(d event.Device) remedy.Facts {
	return remedy.Facts{
		Interface: d.Name, MTU: 9001, SG: remedy.On, TSO: remedy.On, GSO: remedy.On, Queues: 1, MaxQueues: 1,
		Driver: remedy.Module, Linearizes: remedy.Off, SinglePages: remedy.Off, Straddles: remedy.Off,
		MemoryKB: 4 << 20, MinFreeKB: 11 << 10, CPUs: []int{0, 1}, RecutFits: true,
	}
}

// summaryOf is the summary of a run with these totals.
func summaryOf(totals *event.Totals) *event.Summary {
	return &event.Summary{Totals: *totals, Explained: verdict.Explain(totals, sampleFacts)}
}
