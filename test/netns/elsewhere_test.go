package netns

import (
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"xentrace/internal/demo/network"
	"xentrace/test/rocket"
	"xentrace/test/tool"
)

// What is sent where drops elsewhere are looked for.
const (
	payload     = 500
	frameLength = payload + 8 + 20 + 14
	outside     = "elsewhere"
)

// watchAll watches the near interface for drops anywhere.
func watchAll(t *testing.T, arguments ...string) *tool.Run {
	t.Helper()
	return tool.Start(t, append([]string{xentrace, "watch", "-i", "near", "-o", "json", "--drops", "all"}, arguments...)...)
}

// datagrams sends n to an address, from where the test is, and returns the sender's.
func datagrams(t *testing.T, to netip.AddrPort, n int) netip.AddrPort {
	t.Helper()
	sender, err := rocket.NewDatagrams(t.Context(), to, rocket.Options{})
	must(t, err)
	defer func() { must(t, sender.Close()) }()
	must(t, sender.Send(t.Context(), n, payload))
	return sender.Local()
}

func linkIndex(t *testing.T, name string) int {
	t.Helper()
	link, err := netlink.LinkByName(name)
	must(t, err)
	return link.Attrs().Index
}

// slowQueue puts a slow and short queue before the near interface.
func slowQueue(t *testing.T) {
	t.Helper()
	must(t, netlink.QdiscReplace(&netlink.Tbf{
		QdiscAttrs: netlink.QdiscAttrs{LinkIndex: linkIndex(t, "near"), Handle: netlink.MakeHandle(1, 0), Parent: netlink.HANDLE_ROOT},
		Rate:       100_000, Buffer: 2000, Limit: 5000,
	}))
}

// queueCounts returns what the root queue of the near interface dropped, and what
// waits in it.
func queueCounts(t *testing.T) (dropped, waiting uint64) {
	t.Helper()
	link, err := netlink.LinkByName("near")
	must(t, err)
	queues, err := netlink.QdiscList(link)
	must(t, err)
	for _, q := range queues {
		if a := q.Attrs(); a.Parent == netlink.HANDLE_ROOT && a.Statistics != nil {
			return uint64(a.Statistics.Queue.Drops), uint64(a.Statistics.Queue.Qlen)
		}
	}
	t.Fatalf("no root queue with counts among %v", queues)
	return 0, 0
}

// onlyElsewhere returns the records of drops elsewhere, which must all be records.
func onlyElsewhere(t *testing.T, output *tool.Output, want uint64) []tool.Packet {
	t.Helper()
	i := output.Only(t)
	if i.Elsewhere == nil || *i.Elsewhere != want || uint64(len(output.Packets)) != want || output.Summary.Lost.Ring != 0 {
		t.Fatalf("%v dropped elsewhere, %d records, %d lost: want %d, and nothing else: %v", i.Elsewhere, len(output.Packets), output.Summary.Lost.Ring, want, output.Packets)
	}
	for _, p := range output.Packets {
		if p.Layer != outside || p.Verdict != "dropped" || p.Cause != nil || p.Ifname != "near" || p.Flow == nil || len(p.Stack) == 0 {
			t.Fatalf("record %s: want a drop elsewhere on the way to near", &p)
		}
	}
	return output.Packets
}

// checkReasons checks the reason of every record, and that they were counted.
func checkReasons(t *testing.T, output *tool.Output, reason string) {
	t.Helper()
	for _, p := range output.Packets {
		if p.Reason == nil || *p.Reason != reason {
			t.Fatalf("record %s: want reason %s", &p, reason)
		}
	}
	if reasons := output.Only(t).Reasons; len(reasons) != 1 || reasons[reason] != uint64(len(output.Packets)) {
		t.Errorf("reasons %v, want %d of %s", reasons, len(output.Packets), reason)
	}
}

func contains(stack []string, function string) bool {
	return slices.ContainsFunc(stack, func(frame string) bool { return strings.HasPrefix(frame, function+"+0x") })
}

// What a queue drops is reported, packet by packet: sent is received and dropped.
func TestQueueDropsAreReported(t *testing.T) {
	const n = 400
	l := newLab(t)
	sink := l.udpSink(farAddress.Addr())
	slowQueue(t)
	watch := watchAll(t)
	from := datagrams(t, sink.Local(), n)
	eventually(t, "empty queue", func() bool { _, waiting := queueCounts(t); return waiting == 0 })
	dropped, _ := queueCounts(t)
	eventually(t, "arrival", func() bool { return sink.Received().Datagrams+dropped >= n })
	output := watch.Stop()

	if received := sink.Received().Datagrams; received+dropped != n || dropped < n/2 {
		t.Errorf("%d sent, %d received, %d dropped by the queue's own count", n, received, dropped)
	}
	checkReasons(t, &output, "QDISC_DROP")
	for _, p := range onlyElsewhere(t, &output, dropped) {
		if want := (tool.Flow{
			Family: "ipv4", Proto: "udp", Saddr: nearAddress.Addr().String(), Sport: int(from.Port()),
			Daddr: farAddress.Addr().String(), Dport: int(sink.Local().Port()),
		}); *p.Flow != want || p.Len != frameLength || p.Slots != p.SlotsOfParts() {
			t.Fatalf("record %s: want %d bytes of %+v", &p, frameLength, want)
		}
		if !strings.HasPrefix(p.Stack[0], "__dev_queue_xmit+0x") || !contains(p.Stack, "udp_sendmsg") {
			t.Fatalf("stack %q: want it to begin with __dev_queue_xmit, and udp_sendmsg in it", p.Stack)
		}
	}
	if i := output.Only(t); i.Packets != n-dropped {
		t.Errorf("%d packets handed to the driver, want %d", i.Packets, n-dropped)
	}
}

// dropProgram is a program for traffic control that drops all of a protocol over IPv4.
func dropProgram(t *testing.T, protocol int32) *ebpf.Program {
	t.Helper()
	program, err := ebpf.NewProgram(&ebpf.ProgramSpec{Type: ebpf.SchedCLS, License: "GPL", Instructions: asm.Instructions{
		asm.Mov.Reg(asm.R6, asm.R1),
		asm.LoadAbs(12, asm.Half),
		asm.JNE.Imm(asm.R0, 0x0800, "pass"),
		asm.LoadAbs(14+9, asm.Byte),
		asm.JNE.Imm(asm.R0, protocol, "pass"),
		asm.Mov.Imm(asm.R0, 2), // TC_ACT_SHOT
		asm.Return(),
		asm.Mov.Imm(asm.R0, -1).WithSymbol("pass"), // TC_ACT_UNSPEC
		asm.Return(),
	}})
	must(t, err)
	t.Cleanup(func() { must(t, program.Close()) })
	return program
}

// filter drops UDP before or behind the near interface.
func filter(t *testing.T, parent uint32) {
	t.Helper()
	filterProtocol(t, parent, unix.IPPROTO_UDP)
}

// filterProtocol puts the program before or behind the near interface.
func filterProtocol(t *testing.T, parent uint32, protocol int32) {
	t.Helper()
	index := linkIndex(t, "near")
	must(t, netlink.QdiscReplace(&netlink.Clsact{
		QdiscAttrs: netlink.QdiscAttrs{LinkIndex: index, Handle: netlink.MakeHandle(0xffff, 0), Parent: netlink.HANDLE_CLSACT},
	}))
	must(t, netlink.FilterAdd(&netlink.BpfFilter{
		FilterAttrs: netlink.FilterAttrs{LinkIndex: index, Parent: parent, Handle: 1, Protocol: unix.ETH_P_ALL, Priority: 1},
		Fd:          dropProgram(t, protocol).FD(), Name: "drop", DirectAction: true,
	}))
}

// A filter on the way out drops everything.
func TestFilterOnTheWayOut(t *testing.T) {
	const n = 50
	l := newLab(t)
	sink := l.udpSink(farAddress.Addr())
	filter(t, netlink.HANDLE_MIN_EGRESS)
	watch := watchAll(t)
	datagrams(t, sink.Local(), n)
	output := watch.Stop()
	checkReasons(t, &output, "TC_EGRESS")
	onlyElsewhere(t, &output, n)
	if received := sink.Received().Datagrams; received != 0 {
		t.Errorf("%d received", received)
	}
}

// Packets that come in by the watched interface and are dropped are nobody's drops
// on the way out: by a filter, and at a port where nobody listens.
func TestReceivedPacketsAreNotReported(t *testing.T) {
	const n = 50
	for _, filtered := range []bool{false, true} {
		t.Run(map[bool]string{false: "closed port", true: "filter on the way in"}[filtered], func(t *testing.T) {
			l := newLab(t)
			if filtered {
				filter(t, netlink.HANDLE_MIN_INGRESS)
			}
			watch := watchAll(t)
			before := received(t, "near")
			must(t, l.far.Namespace.Do(func() error {
				conn, err := net.ListenPacket("udp4", netip.AddrPortFrom(farAddress.Addr(), 0).String())
				if err != nil {
					return err
				}
				defer func() { _ = conn.Close() }()
				for range n {
					if _, err := conn.WriteTo(make([]byte, payload), net.UDPAddrFromAddrPort(netip.AddrPortFrom(nearAddress.Addr(), 9))); err != nil {
						return err
					}
				}
				return nil
			}))
			if now := received(t, "near"); now-before < n {
				t.Errorf("%d received by near, want %d", now-before, n)
			}
			output := watch.Stop()
			onlyElsewhere(t, &output, 0)
		})
	}
}

func received(t *testing.T, name string) uint64 {
	t.Helper()
	link, err := netlink.LinkByName(name)
	must(t, err)
	return link.Attrs().Statistics.RxPackets
}

// On the loopback interface everything that is sent is received too.
func TestLoopbackReceivesWhatItSends(t *testing.T) {
	newLab(t)
	watch := tool.Start(t, xentrace, "watch", "-i", "lo", "-i", "near", "-o", "json", "--drops", "all")
	datagrams(t, netip.MustParseAddrPort("127.0.0.1:9"), 50)
	output := watch.Stop()
	for _, i := range output.Summary.Interfaces {
		if i.Elsewhere == nil || *i.Elsewhere != 0 {
			t.Errorf("%v dropped on the way to %s: the port was closed, which is on the way in: %v", i.Elsewhere, i.Ifname, output.Packets)
		}
	}
}

// A next hop that does not answer.
func TestNoAnswerFromTheNextHop(t *testing.T) {
	const n = 5
	newLab(t)
	watch := watchAll(t)
	nobody := netip.MustParseAddr("10.98.0.77")
	from := datagrams(t, netip.AddrPortFrom(nobody, 9), n)
	watch.Tells(`"NEIGH_FAILED"`, n) // after three questions, a second apart
	output := watch.Stop()
	checkReasons(t, &output, "NEIGH_FAILED")
	for _, p := range onlyElsewhere(t, &output, n) {
		if p.Flow.Daddr != nobody.String() || p.Flow.Sport != int(from.Port()) || p.Len != frameLength-14 {
			t.Errorf("record %s: want the flow from port %d, without a link header", &p, from.Port())
		}
	}
}

// Packets on their way through this machine: of the interface that they would have
// left by.
func TestForwardedPackets(t *testing.T) {
	const n = 20
	l := newLab(t)
	third := newNamespace(t)
	beyond := network.End{Namespace: third, Name: "beyond", Addresses: []netip.Prefix{netip.MustParsePrefix("10.97.0.2/24")}}
	in := network.End{Namespace: l.near.Namespace, Name: "in", Addresses: []netip.Prefix{netip.MustParsePrefix("10.97.0.1/24")}}
	must(t, network.Join(in, beyond, 1500))
	must(t, os.WriteFile("/proc/sys/net/ipv4/ip_forward", []byte("1"), 0))
	must(t, third.Do(func() error {
		return netlink.RouteAdd(&netlink.Route{Gw: net.IPv4(10, 97, 0, 1)})
	}))
	sink := l.udpSink(farAddress.Addr())
	slowQueue(t)
	watch := watchAll(t)
	must(t, third.Do(func() error {
		sender, err := rocket.NewDatagrams(t.Context(), sink.Local(), rocket.Options{})
		if err != nil {
			return err
		}
		defer func() { _ = sender.Close() }()
		return sender.Send(t.Context(), n, payload)
	}))
	eventually(t, "empty queue", func() bool { _, waiting := queueCounts(t); return waiting == 0 })
	dropped, _ := queueCounts(t)
	output := watch.Stop()
	if dropped == 0 {
		t.Error("nothing was dropped")
	}
	for _, p := range onlyElsewhere(t, &output, dropped) {
		if p.Flow.Saddr != "10.97.0.2" || p.TCP != nil {
			t.Errorf("record %s: want a forwarded packet", &p)
		}
	}
}

// Whoever captures packets and does not keep up loses copies of them only.
func TestCopiesForPacketSocketsAreNotReported(t *testing.T) {
	const n = 400
	l := newLab(t)
	sink := l.udpSink(farAddress.Addr())
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0x0300) // ETH_P_ALL in network order
	must(t, err)
	t.Cleanup(func() { must(t, unix.Close(fd)) })
	must(t, unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, 1))
	watch := watchAll(t)
	datagrams(t, sink.Local(), n)
	eventually(t, "arrival", func() bool { return sink.Received().Datagrams == n })
	statistics, err := unix.GetsockoptTpacketStats(fd, unix.SOL_PACKET, unix.PACKET_STATISTICS)
	must(t, err)
	if statistics.Drops < n/2 {
		t.Errorf("the packet socket lost %d of %d: want most", statistics.Drops, n)
	}
	output := watch.Stop()
	onlyElsewhere(t, &output, 0)
}

// By default drops elsewhere are not looked for, and that is said.
func TestDropsElsewhereAreAskedFor(t *testing.T) {
	l := newLab(t)
	sink := l.udpSink(farAddress.Addr())
	filter(t, netlink.HANDLE_MIN_EGRESS)
	watch := tool.Start(t, xentrace, "watch", "-i", "near", "-o", "json", "--exit-code")
	all := watchAll(t, "--exit-code", "--count", "3")
	datagrams(t, sink.Local(), 10)
	if output := all.Wait(); output.Status != 1 || len(output.Packets) != 3 {
		t.Errorf("with --drops all --exit-code --count 3: status %d, %d records, want 1 and 3", output.Status, len(output.Packets))
	}
	output := watch.Stop()
	if i := output.Only(t); output.Status != 0 || len(output.Packets) != 0 || i.Elsewhere != nil || i.Reasons != nil || output.Summary.Missing["elsewhere"] == "" {
		t.Errorf("status %d, %d records, %v dropped elsewhere, missing %v: want none, and why", output.Status, len(output.Packets), i.Elsewhere, output.Summary.Missing)
	}
}

// As people read it: the reason and the function behind the flow, and with -v the
// stack below.
func TestDropsElsewhereAsText(t *testing.T) {
	l := newLab(t)
	sink := l.udpSink(farAddress.Addr())
	filter(t, netlink.HANDLE_MIN_EGRESS)
	watch := start(t, "watch", "-i", "near", "--drops", "all", "-v")
	from := datagrams(t, sink.Local(), 1)
	watch.stop()
	said := watch.stdout.String()
	for _, part := range []string{
		"near dropped elsewhere", from.String() + " > " + sink.Local().String() + " udp  TC_EGRESS in __dev_queue_xmit\n",
		"\n             __dev_queue_xmit+0x", "\n             udp_sendmsg+0x",
		"elsewhere   1  dropped outside the driver: TC_EGRESS 1\n",
		"\nTC_EGRESS (1): ", "  # tc -s filter show dev near egress\n",
	} {
		if !strings.Contains(said, part) {
			t.Errorf("%q is not in\n%s", part, said)
		}
	}
}

// Every drop is counted, also those whose records found no space.
func TestLostRecordsOfDropsElsewhere(t *testing.T) {
	const n = 500
	l := newLab(t)
	sink := l.udpSink(farAddress.Addr())
	filter(t, netlink.HANDLE_MIN_EGRESS)
	watch := watchAll(t, "--ring-size", "4KiB")
	must(t, unix.Kill(watch.PID(), unix.SIGSTOP))
	datagrams(t, sink.Local(), n)
	must(t, unix.Kill(watch.PID(), unix.SIGCONT))
	output := watch.Stop()
	i := output.Only(t)
	if reported, lost := uint64(len(output.Packets)), output.Summary.Lost.Ring; reported+lost != n || reported == 0 || lost < n/2 {
		t.Errorf("%d records, %d lost, want %d together and most lost", reported, lost, n)
	}
	if i.Elsewhere == nil || *i.Elsewhere != n || i.Reasons["TC_EGRESS"] != n {
		t.Errorf("%v dropped elsewhere, reasons %v, want %d", i.Elsewhere, i.Reasons, n)
	}
}
