package live

import (
	"fmt"
	"net/netip"
	"strings"
	"time"

	"xentrace/internal/event"
	"xentrace/internal/verdict"
)

var sampleTime = time.Date(2026, 3, 4, 12, 7, 20, 0, time.Local)

// sampleTotals are those of one interface that drops, after an hour.
func sampleTotals(interfaces int) event.Totals {
	none := uint64(0)
	totals := event.Totals{Time: sampleTime, Duration: time.Hour, Lost: event.Lost{Ring: 7, Recursion: &none}}
	for i := range interfaces {
		moved, rejected := uint64(1024*i), uint64(3)
		t := event.InterfaceTotals{
			Device: event.Device{Name: fmt.Sprintf("eth%d", i), Index: 2 + i, NetNS: 4026531840}, Driver: verdict.Netfront, Backend: event.Fentry,
			Queues: 2, TxDroppedDelta: &moved, Rejected: &rejected,
			Counts: event.Counts{Packets: 1_234_567, OverLimit: 2048, Dropped: 1024 * uint64(i), Linearized: 1024, Bounced: 5},
		}
		t.Causes[event.TooManySlots] = t.Dropped
		totals.Interfaces = append(totals.Interfaces, t)
	}
	return totals
}

// sampleFlow is the n-th of many flows, all different; every third is stalled.
func sampleFlow(n int) event.FlowHistory {
	f := event.FlowHistory{
		FlowKey: event.FlowKey{
			NetNS: 4026531840, Proto: 6,
			Source:      netip.AddrPortFrom(netip.AddrFrom4([4]byte{172, 31, byte(n >> 8), byte(n)}), uint16(40000+n)),
			Destination: netip.MustParseAddrPort("172.31.200.100:5001"),
		},
		Interface: event.Device{Name: "eth0", Index: 2, NetNS: 4026531840},
		Process:   &event.Process{PID: 1000 + n, Comm: fmt.Sprintf("worker-%d", n), UID: 33, Unit: "web.service"},
		Drops:     uint64(1 + n%50), MinSlots: 19, MaxSlots: 19 + n%17,
		First: sampleTime.Add(-time.Hour), Last: sampleTime.Add(-time.Duration(n%600) * time.Second),
		TCP: &event.FlowTCP{
			Asked: sampleTime, State: 1, Seq: uint32(1000 * n), SameSeq: 7, SndUna: uint32(1000 * n), WriteSeq: uint32(1000*n + 66000),
			SndQBytes: uint32(66000 + n), Retransmits: 6, RTO: 1600 * time.Millisecond, Backoff: 3,
		},
		Layout: "17 fragments of 80 to 256 bytes, all straddling a page boundary: many small writes interleaved with another connection of the same thread",
		Advice: []event.Advice{
			{Command: "sysctl -w net.core.high_order_alloc_disable=1", Effect: "New fragments are single pages.", Cost: "Bulk senders use a little more CPU."},
			{Command: "ip link set dev eth0 mtu 1500", Effect: "Queued segments are re-segmented when they are retransmitted."},
		},
	}
	f.Causes[event.TooManySlots] = f.Drops
	if n%3 == 0 {
		f.State, f.StalledFor = event.Stalled, time.Duration(n+1)*time.Second
		f.StalledSince = sampleTime.Add(-f.StalledFor)
	}
	return f
}

func sampleFlows(n int) []event.FlowHistory {
	flows := make([]event.FlowHistory, n)
	for i := range flows {
		flows[i] = sampleFlow(i)
	}
	return flows
}

func samplePacket(n int) *event.Packet {
	return &event.Packet{
		Time: sampleTime.Add(time.Duration(n) * time.Second), Interface: event.Device{Name: "eth0", Index: 2},
		Verdict: event.Dropped, Cause: event.TooManySlots, Slots: 19 + n, Limit: 18, Len: 1426,
		Flow: &event.Flow{Proto: 6, Source: sampleFlow(n).Source, Destination: sampleFlow(n).Destination},
	}
}

// sampleModel shows flows and events of each kind.
func sampleModel(interfaces, flows int) *model {
	m := &model{backend: event.Fentry, blocks: true, now: func() time.Time { return sampleTime }}
	before := sampleTotals(interfaces)
	before.Duration -= 2 * time.Second
	for i := range before.Interfaces {
		before.Interfaces[i].Packets -= 3000
	}
	m.update(Snapshot{Totals: before})
	stalled := (flows + 2) / 3
	m.update(Snapshot{Totals: sampleTotals(interfaces), Flows: sampleFlows(flows), Stalled: stalled, FlowsLost: 2})
	for i := range min(flows, 300) {
		m.log.packet(samplePacket(i))
	}
	if flows > 0 {
		f := sampleFlow(0)
		m.log.change(&event.FlowEvent{Time: sampleTime, Flow: f})
		m.log.say(sampleTime, "eth1 was detached")
	}
	return m
}

// screenText is what is to be read on a screen of that size.
func screenText(m *model, columns, rows int) string { return frameText(m.frame(columns, rows)) }

func frameText(frame []line) string {
	var b strings.Builder
	for _, l := range frame {
		b.WriteString(strings.TrimRight(l.String(), " "))
		b.WriteByte('\n')
	}
	return b.String()
}

func press(m *model, keys ...key) {
	for _, k := range keys {
		m.press(k)
	}
}
