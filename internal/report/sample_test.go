package report

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"testing"
	"time"

	"xentrace/internal/event"
)

// The night of which most tests make a page.
var midnight = time.Date(2026, 11, 22, 22, 0, 0, 0, time.UTC)

const hostile = "</script><img src=x onerror=alert(1)>\u202e\"'&\nrm *"

var eth0 = event.Device{Name: "eth0", Index: 2, NetNS: 4026531840}

func addressOf[T any](value T) *T { return &value }

// collected returns a Collector that these events were sent to.
func collected(t testing.TB, events []event.Event) *Collector {
	t.Helper()
	c := NewCollector()
	for _, e := range events {
		if err := c.Emit(e); err != nil {
			t.Fatal(err)
		}
	}
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	return c
}

func startOf(at time.Time) *event.Start {
	return &event.Start{
		Time: at, Format: 1, Version: "1.4.0", Commit: "0123456789abcdef", Command: []string{"xentrace", "record", "--dir", "/var/lib/xentrace"},
		BootID: "5f0c2a7e-0b6b-4b51-9d5b-6f1f1c1f2a11", Hostname: "web-7", Kernel: "3.16.0-4-amd64", Machine: "x86_64", Xen: &event.Xen{Version: "4.17.5", Type: "PV"},
		Interfaces: []event.StartInterface{{
			Device: eth0, Driver: "xen-netfront", MTU: 9001, Queues: 2, Linearizes: addressOf(false),
			Features: map[string]bool{"tx-scatter-gather": true, "tx-tcp-segmentation": true, "tx-gso-robust": false},
		}},
		Check: []event.Finding{
			{
				ID: "linearize", Status: event.Fail, Interface: "eth0", NetNS: eth0.NetNS, Message: "This driver drops packets over the slot limit (18).",
				Evidence: []event.Fact{{Key: "read_from", Value: "memory"}, {Key: "code", Value: "no call of __pskb_pull_tail"}}, Advice: []event.Advice{updateKernel, mtu1500},
			},
			{ID: "scatter_gather", Status: event.OK, Interface: "eth0", NetNS: eth0.NetNS, Message: "Scatter-gather is on.", Evidence: []event.Fact{{Key: "on", Value: true}}},
			{ID: "mtu", Status: event.Warn, Interface: "eth0", NetNS: eth0.NetNS, Message: "MTU is 9001: jumbo frames need more slots.", Evidence: []event.Fact{{Key: "mtu", Value: 9001}}, Advice: []event.Advice{mtu1500}},
			{ID: "bounce", Status: event.Unknown, Message: "The module parameter trusted cannot be read."},
		},
	}
}

var (
	mtu1500      = event.Advice{ID: "mtu_1500", Command: "ip link set dev eth0 mtu 1500", Effect: "Frees the connection: the kernel re-segments what it retransmits.", Cost: "More packets for the same bytes."}
	updateKernel = event.Advice{ID: "update_kernel", Command: "apt-get install --only-upgrade linux-image-amd64", Effect: "Driver linearizes packets over 18 slots instead of dropping them (Linux 3.17 and later).", Cost: "A reboot."}
	singlePages  = event.Advice{ID: "single_pages", Command: "sysctl -w net.core.high_order_alloc_disable=1", Effect: "Fragments are single pages and straddle no page boundary."}
)

// packetOf is the record of a segment over the limit that was dropped.
func packetOf(at time.Time, connection int, seq uint32) *event.Packet {
	p := &event.Packet{
		Time: at, CPU: 1, Interface: eth0, Queue: 1, Verdict: event.Dropped, Cause: event.TooManySlots, Slots: 19 + connection%17, Limit: 18,
		Len: 65226, HeadOffset: 254, HeadLen: 66, GSOSize: 1448, GSOSegs: 45,
		Flow: &event.Flow{
			Proto: 6, Source: netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, 0, 5}), uint16(32768+connection)),
			Destination: netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, byte(connection >> 8), byte(connection)}), 5001), Seq: seq, SeqKnown: true, SeqLength: 65160,
		},
		TCP:     &event.TCP{State: 1, Seq: seq, SndUna: seq, SndNxt: seq + 65160, WriteSeq: seq + 130320, RTO: 200 * time.Millisecond, SndQBytes: 130320},
		Socket:  &event.Socket{Address: uint64(connection)},
		Process: &event.Process{PID: 800 + connection%7, Comm: []string{"nginx", "java", "postgres"}[connection%3], UID: 33, Unit: "web.service"},
	}
	for i := range 17 {
		p.Frags = append(p.Frags, event.Frag{Offset: uint32(4000 + 90*i), Size: 3832})
	}
	return p
}

func stalledOf(at time.Time, p *event.Packet, drops uint64, state event.FlowState, since time.Duration) *event.FlowEvent {
	f := event.FlowHistory{
		FlowKey:   event.FlowKey{NetNS: p.Interface.NetNS, Proto: 6, Source: p.Flow.Source, Destination: p.Flow.Destination},
		Interface: p.Interface, Process: p.Process, State: state, Drops: drops, MinSlots: p.Slots, MaxSlots: p.Slots,
		First: at.Add(-since), Last: at, FirstDrop: at.Add(-since), LastDrop: at, StalledSince: at.Add(-since), StalledFor: since, Stalls: 1,
		TCP:    &event.FlowTCP{State: 1, Seq: p.TCP.Seq, SameSeq: int(drops), SndQBytes: 130320, Retransmits: uint32(drops - 1), RTO: 3 * time.Second},
		Layout: "17 fragments of 3832 bytes, all straddling a page boundary, 35 slots: data copied by write() in small steps.",
		Stack:  []string{"xennet_start_xmit+0x0 [xen_netfront]", "dev_hard_start_xmit+0x99", "__dev_queue_xmit+0xd01", "ip_finish_output2+0x2c1", "tcp_retransmit_skb+0x1e", "write+0x4d (/lib/x86_64-linux-gnu/libc.so.6)"},
		Advice: []event.Advice{mtu1500, singlePages, updateKernel}, Packet: *p,
	}
	f.Causes[event.TooManySlots] = drops
	return &event.FlowEvent{Time: at, Flow: f}
}

// intervalOf counts one interval of 10 s that ends at a time.
func intervalOf(end time.Time, packets, dropped uint64) *event.Interval {
	n := event.InterfaceTotals{Device: eth0, Driver: "xen-netfront", Backend: event.Kprobe, Queues: 2, TxDroppedDelta: addressOf(dropped)}
	n.Packets, n.Bytes, n.OverLimit, n.Dropped = packets, packets*1400, dropped, dropped
	n.Slots[1], n.Slots[2], n.Slots[3], n.Slots[17] = packets/2, packets-packets/2-packets/10-packets/90-dropped, packets/10, packets/90
	n.Slots[19], n.Slots[35] = dropped-dropped/3, dropped/3
	n.Causes[event.TooManySlots] = dropped
	i := &event.Interval{Totals: event.Totals{Time: end, Duration: 10 * time.Second, Interfaces: []event.InterfaceTotals{n}, Events: dropped, Lost: event.Lost{Recursion: addressOf(uint64(0))}}}
	if dropped > 0 {
		i.Explained = []event.Explanation{{
			Name: "too_many_slots", Verdict: event.Dropped, Count: dropped, Advice: []event.Advice{updateKernel, singlePages, mtu1500},
			Meaning: "The packet is over the slot limit (18) and this driver does not linearize, so every retransmission is dropped too.",
		}}
	}
	return i
}

// night is ten hours of a recorder: traffic by the hour, connections that stall at 2 and
// recover or not, a reload of the driver, suppressed records. connections stall, each drops
// so many packets.
func night(connections, drops int) []event.Event {
	random := rand.New(rand.NewPCG(1, 2))
	all := []event.Event{startOf(midnight)}
	stallsAt := midnight.Add(4*time.Hour + 3*time.Minute)
	next, apart := 0, min(25*time.Second, 5*time.Hour/time.Duration(max(connections, 1)))
	for end := midnight.Add(10 * time.Second); !end.After(midnight.Add(10 * time.Hour)); end = end.Add(10 * time.Second) {
		dropped := uint64(0)
		for ; next < connections && stallsAt.Add(time.Duration(next)*apart).Before(end); next++ {
			at := stallsAt.Add(time.Duration(next) * apart)
			p := packetOf(at, next, 1000)
			for i := range drops {
				all = append(all, packetOf(at.Add(time.Duration(i*i)*time.Millisecond), next, 1000))
				if i == 1 {
					all = append(all, stalledOf(at.Add(time.Millisecond), p, 2, event.Stalled, time.Millisecond))
				}
			}
			last := at.Add(time.Duration(drops*drops) * time.Millisecond)
			if next%3 != 2 {
				all = append(all, stalledOf(last, p, uint64(drops), event.Recovered, last.Sub(at)))
			}
			dropped += uint64(drops)
		}
		busy := 2000 + uint64(end.Sub(midnight).Hours()*900) + random.Uint64N(1500)
		interval := intervalOf(end, busy+dropped, dropped)
		switch end.Sub(midnight) {
		case 6 * time.Hour:
			interval.Suppressed = []event.Suppressed{{Verdict: event.Dropped, Cause: event.TooManySlots, Records: 4321}}
			interval.Gaps = []event.Gap{{From: end.Add(-20 * time.Minute), To: end.Add(-4 * time.Minute), Reason: event.GapDriverUnloaded}}
			all = append(all, &event.Notice{Time: end.Add(-4 * time.Minute), ID: event.NoticeDriverReloaded, DurationMS: (16 * time.Minute).Milliseconds()})
		case 7 * time.Hour:
			interval.Interfaces[0].Linearized, interval.Interfaces[0].OverLimit = 300, 300
			interval.Lost.Ring = 12
		}
		all = append(all, interval)
	}
	return all
}

// hostileEvents hold names that try to get out of the text.
func hostileEvents() []event.Event {
	s := startOf(midnight)
	s.Hostname, s.Kernel, s.Command = hostile, hostile, []string{hostile}
	s.Interfaces[0].Name, s.Interfaces[0].Driver = hostile, hostile
	s.Interfaces[0].Features = map[string]bool{hostile: true}
	s.Check[0].Message, s.Check[0].Interface, s.Check[0].Evidence = hostile, hostile, []event.Fact{{Key: hostile, Value: hostile}}
	s.Check[0].Advice = []event.Advice{{Command: hostile, Effect: hostile, Cost: hostile}}
	p := packetOf(midnight.Add(time.Second), 1, 7)
	p.Interface.Name, p.Stack = hostile, []string{hostile}
	p.Process = &event.Process{PID: 1, Comm: hostile, Unit: hostile, Container: hostile}
	f := stalledOf(midnight.Add(2*time.Second), p, 2, event.Stalled, time.Second)
	f.Flow.Layout, f.Flow.Stack, f.Flow.Advice = hostile, []string{hostile}, []event.Advice{{Command: hostile, Effect: hostile}}
	i := intervalOf(midnight.Add(10*time.Second), 100, 1)
	i.Interfaces[0].Name, i.Interfaces[0].Driver = hostile, hostile
	i.Explained[0].Name, i.Explained[0].Meaning, i.Explained[0].Advice = hostile, hostile, []event.Advice{{Command: hostile}}
	i.Missing = map[string]string{"recursion": hostile}
	n := &event.Notice{Time: midnight.Add(11 * time.Second), ID: event.NoticeUnmonitored, Reason: hostile}
	end := &event.Summary{Totals: event.Totals{Time: midnight.Add(12 * time.Second), Duration: 12 * time.Second, Missing: i.Missing}, Filter: []string{hostile}, LeftOut: 1}
	return []event.Event{s, p, f, i, n, end}
}

func optionsOf() Options {
	return Options{
		Files:    []File{{Path: "/var/lib/xentrace/night.jsonl.zst", SHA256: fmt.Sprintf("%064x", 42), Bytes: 1234567}},
		Commands: []string{"xentrace report /var/lib/xentrace --since 10h -w night.html"}, Version: "1.4.0",
	}
}
