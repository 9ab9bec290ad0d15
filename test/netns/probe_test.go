package netns

import (
	"errors"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"xentrace/test/rocket"
	"xentrace/test/tool"
)

// defaultRoute makes an address on the near interface's link the default gateway.
func defaultRoute(t *testing.T, gateway netip.Addr) {
	t.Helper()
	must(t, netlink.RouteAdd(&netlink.Route{LinkIndex: linkIndex(t, "near"), Gw: gateway.AsSlice()}))
}

// probeJSON runs probe on the near interface.
func probeJSON(t *testing.T, args ...string) tool.Probed {
	t.Helper()
	return tool.RunProbe(t, append([]string{xentrace, "probe", "-i", "near", "-o", "json"}, args...)...)
}

// forget makes the near namespace forget a neighbour's link address, and the far end
// not tell it any more where it is to be silent.
func forget(t *testing.T, neighbour netip.Addr) {
	t.Helper()
	must(t, netlink.NeighDel(&netlink.Neigh{LinkIndex: linkIndex(t, "near"), IP: neighbour.AsSlice()}))
}

// One datagram, and nothing else, goes to the interface's own gateway.
func TestProbeToGateway(t *testing.T) {
	for _, test := range []struct {
		flag   string
		family string
		at     netip.Prefix
	}{{"--ipv4", "ipv4", farAddress}, {"--ipv6", "ipv6", farAddress6}} {
		t.Run(test.family, func(t *testing.T) {
			l := newLab(t)
			defaultRoute(t, test.at.Addr())
			sink := l.udpSinkAt(netip.AddrPortFrom(test.at.Addr(), 9))
			before := transmitted(t, l.near)
			ran := probeJSON(t, test.flag)
			p := ran.Only(t)
			if tool.Text(p.Verdict) != "over_limit" || tool.Text(p.Cause) != "null" || *p.Slots <= limit || p.Limit != limit || p.Attempts != 1 || ran.Status != 0 || p.Ifname != "near" {
				t.Errorf("status %d: %s", ran.Status, ran.Stdout)
			}
			if p.Flow == nil || p.Flow.Family != test.family || p.Flow.Daddr != test.at.Addr().String() || p.Flow.Dport != 9 || p.Flow.Proto != "udp" || p.Flow.Sport == 0 {
				t.Errorf("flow %+v", p.Flow)
			}
			eventually(t, "arrival", func() bool { return sink.Received().Datagrams == 1 })
			if got := sink.Received(); got != (rocket.UDPReceived{Datagrams: 1, Bytes: 1120}) {
				t.Errorf("received %+v, want one datagram of 1120 bytes", got)
			}
			if sent := transmitted(t, l.near) - before; sent != 1 {
				t.Errorf("%d packets left, want 1", sent)
			}
		})
	}
}

// udpSinkAt receives at one port of the far end.
func (l *lab) udpSinkAt(at netip.AddrPort) *rocket.UDPSink {
	l.t.Helper()
	var sink *rocket.UDPSink
	must(l.t, l.far.Namespace.Do(func() (err error) {
		sink, err = rocket.NewUDPSink(l.t.Context(), at)
		return err
	}))
	l.t.Cleanup(func() { must(l.t, sink.Close()) })
	return sink
}

// It has as many slots as asked, and the limit is where it is.
func TestProbeOfSlots(t *testing.T) {
	l := newLab(t)
	sink := l.udpSink(farAddress.Addr())
	for slots, verdict := range map[string]string{"2": "sent", "18": "sent", "19": "over_limit", "31": "over_limit"} {
		ran := probeJSON(t, "--to", sink.Local().String(), "--slots", slots)
		if p := ran.Only(t); tool.Text(p.Verdict) != verdict || ran.Status != 0 || !strings.Contains(ran.Stdout, `"slots":`+slots+`,`) {
			t.Errorf("%s slots: status %d, want %s\n%s", slots, ran.Status, verdict, ran.Stdout)
		}
	}
}

// Several are one line each, and its own packets are distinguished from others of many slots.
func TestProbesAmongOtherTraffic(t *testing.T) {
	l := newLab(t)
	sink, others := l.udpSink(farAddress.Addr()), l.udpSink(farAddress.Addr())
	rockets := l.udp(others.Local(), rocket.Options{Writes: 16})
	stop, stopped := make(chan struct{}), make(chan error, 1)
	go func() {
		for {
			select {
			case <-stop:
				stopped <- nil
				return
			default:
			}
			if _, err := rockets.Send(t.Context()); err != nil {
				stopped <- err
				return
			}
			time.Sleep(time.Millisecond)
		}
	}()
	ran := probeJSON(t, "--to", sink.Local().String(), "--count", "10")
	close(stop)
	must(t, <-stopped)
	if len(ran.Lines) != 10 || ran.Status != 0 {
		t.Fatalf("status %d, %d lines, want 0 and 10:\n%s", ran.Status, len(ran.Lines), ran.Stderr)
	}
	for _, p := range ran.Lines {
		if p.Flow.Dport != int(sink.Local().Port()) || tool.Text(p.Verdict) != "over_limit" || *p.Slots > 28 {
			t.Errorf("%+v to %+v: want 27 slots to port %d", p, p.Flow, sink.Local().Port())
		}
	}
	if others.Received().Datagrams == 0 {
		t.Error("no other datagram was sent meanwhile")
	}
	text := tool.RunProbe(t, xentrace, "probe", "-i", "near", "--to", sink.Local().String(), "--count", "2")
	if strings.Count(text.Stdout, "near: over_limit, 2") != 2 || !strings.HasSuffix(text.Stdout, "\n0 of 2 lost\n") {
		t.Errorf("says:\n%s", text.Stdout)
	}
}

// A refusal is a sentence, and nothing leaves by any interface.
func TestProbeRefuses(t *testing.T) {
	l := newLab(t)
	near2, _ := l.join("near2", "far2", netip.MustParsePrefix("10.99.0.1/24"), netip.MustParsePrefix("10.99.0.2/24"))
	defaultRoute(t, farAddress.Addr())
	l.awaitSilence()
	before := transmitted(t, l.near) + transmitted(t, near2)
	for _, test := range []struct {
		name   string
		args   []string
		status int
		says   string
	}{
		{"the way leaves by another interface", []string{"-i", "near", "--to", "10.99.0.2:9"}, 3, "leaves by another interface"},
		{"no gateway", []string{"-i", "near2"}, 3, "interface near2 has no default gateway: give an address behind it with --to"},
		{"no gateway of the family", []string{"-i", "near", "-6"}, 3, "no default gateway of IPv6"},
		{"broadcast", []string{"-i", "near", "--to", "255.255.255.255:9"}, 2, "broadcast"},
		{"broadcast of the link", []string{"-i", "near", "--to", "10.98.0.255:9"}, 2, "broadcast"},
		{"multicast", []string{"-i", "near", "--to", "[ff02::1]:9"}, 2, "multicast"},
		{"own address", []string{"-i", "near", "--to", "10.98.0.1:9"}, 2, "this machine's own"},
		{"own address of another interface", []string{"-i", "near", "--to", "10.99.0.1:9"}, 2, "this machine's own"},
		{"loopback", []string{"-i", "near", "--to", "127.0.0.1:9"}, 2, "loopback"},
		{"loopback interface", []string{"-i", "lo", "--to", "10.98.0.2:9"}, 2, "loopback"},
		{"a name", []string{"-i", "near", "--to", "localhost:9"}, 2, "not an address and a port"},
		{"too many slots", []string{"-i", "near", "--slots", "32"}, 2, "can be 2 to 31"},
		{"too few slots", []string{"-i", "near", "--slots", "1"}, 2, "can be 2 to 31"},
		{"no such interface", []string{"-i", "near9"}, 3, `interface "near9" not found`},
		{"two interfaces", []string{"-i", "near", "-i", "near2"}, 2, "only one"},
		{"both families", []string{"-i", "near", "-4", "-6"}, 2, "exclude each other"},
		{"nothing of xen-netfront", nil, 3, "no xen-netfront interface is up in this network namespace"},
		{"a backend that does not attach", []string{"-i", "near", "--backend", "fentry"}, 3, "only the tracepoint backend traces other drivers"},
	} {
		// Not a test of its own, whose goroutine would be in another namespace.
		ran := tool.RunProbe(t, append([]string{xentrace, "probe"}, test.args...)...)
		if ran.Status != test.status || !strings.Contains(ran.Stderr, test.says) || ran.Stdout != "" || strings.Count(ran.Stderr, "\n") != 1 {
			t.Errorf("%s: status %d, stdout %q, stderr %q: want %d and %q in one line", test.name, ran.Status, ran.Stdout, ran.Stderr, test.status, test.says)
		}
	}
	if sent := transmitted(t, l.near) + transmitted(t, near2) - before; sent != 0 {
		t.Errorf("%d packets left, want none", sent)
	}
}

// Without root it says so, and sends nothing.
func TestProbeByNobody(t *testing.T) {
	l := newLab(t)
	defaultRoute(t, farAddress.Addr())
	before := transmitted(t, l.near)
	cmd := exec.Command(xentrace, "probe", "-i", "near")
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	out, err := cmd.CombinedOutput()
	if cmd.ProcessState.ExitCode() != 3 || !strings.Contains(string(out), "run with sudo") {
		t.Errorf("%v, %q: want status 3 and a sentence", err, out)
	}
	if sent := transmitted(t, l.near) - before; sent != 0 {
		t.Errorf("%d packets left, want none", sent)
	}
}

// What sends has none of the privileges that sending could use: neither CAP_NET_RAW nor
// CAP_NET_ADMIN is left by the time of the first datagram.
func TestProbeSendsWithoutPrivileges(t *testing.T) {
	l := newLab(t)
	sink := l.udpSink(farAddress.Addr())
	cmd := exec.Command(xentrace, "probe", "-i", "near", "-o", "json", "--to", sink.Local().String(), "--count", "1000000")
	must(t, cmd.Start())
	defer func() { _ = cmd.Process.Kill() }()
	eventually(t, "the first datagram", func() bool { return sink.Received().Datagrams > 0 })
	// CAP_SYSLOG is 34, CAP_PERFMON 38, CAP_BPF 39.
	if got := capabilities(t, cmd.Process.Pid); len(got) != 1 || got[0] != "000000c400000000" {
		t.Errorf("its threads have %v, want 000000c400000000 only", got)
	}
	must(t, cmd.Process.Signal(unix.SIGINT))
	if err := cmd.Wait(); err != nil {
		t.Errorf("interrupted: %v, want status 0", err)
	}
}

// It leaves by the interface even where the routes have a better way to the gateway.
func TestProbeIsBoundToTheInterface(t *testing.T) {
	l := newLab(t)
	near2, _ := l.join("near2", "far2", netip.MustParsePrefix("10.99.0.1/24"), netip.MustParsePrefix("10.99.0.2/24"))
	defaultRoute(t, farAddress.Addr())
	must(t, netlink.RouteAdd(&netlink.Route{LinkIndex: linkIndex(t, "near2"), Dst: &net.IPNet{IP: farAddress.Addr().AsSlice(), Mask: net.CIDRMask(32, 32)}, Scope: netlink.SCOPE_LINK}))
	l.awaitSilence()
	near, other := transmitted(t, l.near), transmitted(t, near2)
	ran := probeJSON(t)
	if p := ran.Only(t); tool.Text(p.Verdict) != "over_limit" || p.Ifname != "near" {
		t.Errorf("%s%s", ran.Stdout, ran.Stderr)
	}
	if a, b := transmitted(t, l.near)-near, transmitted(t, near2)-other; a != 1 || b != 0 {
		t.Errorf("%d left by near, %d by near2, want 1 and 0", a, b)
	}
}

// A neighbour that nobody asked for yet is found out with a small datagram first.
func TestProbeFindsTheNeighbour(t *testing.T) {
	l := newLab(t)
	defaultRoute(t, farAddress.Addr())
	sink := l.udpSinkAt(netip.AddrPortFrom(farAddress.Addr(), 9))
	must(t, l.near.Namespace.Do(func() error {
		return netlink.LinkSetARPOn(&netlink.Device{LinkAttrs: netlink.LinkAttrs{Index: linkIndex(t, "near")}})
	}))
	forget(t, farAddress.Addr())
	ran := probeJSON(t)
	if p := ran.Only(t); tool.Text(p.Verdict) != "over_limit" || p.Attempts != 1 {
		t.Errorf("%s%s", ran.Stdout, ran.Stderr)
	}
	eventually(t, "arrival", func() bool { return sink.Received().Datagrams == 2 })
	if got := sink.Received(); got != (rocket.UDPReceived{Datagrams: 2, Bytes: 1120 + rocket.HeaderLength}) {
		t.Errorf("received %+v, want a small datagram and the probe", got)
	}
}

// What does not reach the driver is reported in a sentence and not guessed: status 3.
func TestProbeNotSeen(t *testing.T) {
	for _, test := range []struct {
		name   string
		before func(t *testing.T)
		args   []string
		reason string
		says   string
	}{
		{"a neighbour that does not answer", func(*testing.T) {}, []string{"--to", "10.98.0.77:9"}, "null", "10.98.0.77 does not answer ARP requests on interface near"},
		{"a neighbour of IPv6 that does not answer", func(*testing.T) {}, []string{"--to", "[fd98::77]:9"}, "null", "fd98::77 does not answer neighbour solicitations on interface near"},
		{"a packet filter", func(t *testing.T) { dropAt(t, outputHook) }, []string{"--to", "10.98.0.2:9"}, "NETFILTER_DROP", "for the reason NETFILTER_DROP, at nf"},
		{"a queueing discipline without room", func(t *testing.T) {
			must(t, netlink.QdiscReplace(&netlink.GenericQdisc{
				QdiscAttrs: netlink.QdiscAttrs{LinkIndex: linkIndex(t, "near"), Handle: netlink.MakeHandle(1, 0), Parent: netlink.HANDLE_ROOT}, QdiscType: "blackhole",
			}))
		}, []string{"--to", "10.98.0.2:9"}, "QDISC_DROP", "for the reason QDISC_DROP"},
	} {
		t.Run(test.name, func(t *testing.T) {
			newLab(t)
			test.before(t)
			ran := probeJSON(t, test.args...)
			p := ran.Only(t)
			if p.Verdict != nil || p.Cause != nil || p.Slots != nil || ran.Status != 3 || tool.Text(p.Reason) != test.reason || !strings.Contains(p.Message, test.says) {
				t.Errorf("status %d, want 3, reason %s and %q:\n%s%s", ran.Status, test.reason, test.says, ran.Stdout, ran.Stderr)
			}
		})
	}
}

// fillQueue gives the near interface a queue that sends rate bytes per second, and something
// to send before all that follows.
func fillQueue(t *testing.T, rate uint64) {
	t.Helper()
	must(t, netlink.QdiscReplace(&netlink.Tbf{
		QdiscAttrs: netlink.QdiscAttrs{LinkIndex: linkIndex(t, "near"), Handle: netlink.MakeHandle(1, 0), Parent: netlink.HANDLE_ROOT},
		Rate:       rate, Buffer: 1_000_000, Limit: 100_000, // a burst of 64 ms in ticks of 64 ns
	}))
	fill, err := rocket.NewDatagrams(t.Context(), netip.MustParseAddrPort("10.98.0.2:7"), rocket.Options{})
	must(t, err)
	defer func() { must(t, fill.Close()) }()
	must(t, fill.Send(t.Context(), 50, 1400))
}

// A probe that waits in a queue is waited for.
func TestProbeWaitsInAQueue(t *testing.T) {
	newLab(t)
	fillQueue(t, 100_000) // 700 ms
	ran := probeJSON(t, "--to", "10.98.0.2:9")
	if p := ran.Only(t); tool.Text(p.Verdict) != "over_limit" {
		t.Errorf("%s%s", ran.Stdout, ran.Stderr)
	}
}

// An interrupt is no failure, but what was not found out is said.
func TestProbeInterrupted(t *testing.T) {
	newLab(t)
	fillQueue(t, 25_000) // 2.8 s
	run := tool.Start(t, xentrace, "probe", "-i", "near", "--to", "10.98.0.2:9", "--count", "300")
	run.Signal(unix.SIGINT)
	if status := run.Exit().ExitCode(); status != 0 || !strings.Contains(run.Said(), " of 300 probes") {
		t.Errorf("status %d:\n%s", status, run.Said())
	}
}

// scatterGatherOff switches the feature off for the near interface: ETHTOOL_SSG.
func scatterGatherOff(t *testing.T) {
	t.Helper()
	socket, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	must(t, err)
	defer func() { must(t, unix.Close(socket)) }()
	value := struct{ command, data uint32 }{unix.ETHTOOL_SSG, 0}
	var request struct {
		name [unix.IFNAMSIZ]byte
		data unsafe.Pointer
		rest [16]byte
	}
	copy(request.name[:], "near")
	request.data = unsafe.Pointer(&value)
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(socket), unix.SIOCETHTOOL, uintptr(unsafe.Pointer(&request))); errno != 0 {
		t.Fatal(errno)
	}
}

// headsCrossPages reports whether some small heads do on this kernel: those of a slab
// cache of their own, if its objects are no power of two in size and its slabs not pages.
func headsCrossPages(t *testing.T) bool {
	t.Helper()
	read := func(file string) (n int) {
		text, err := os.ReadFile("/sys/kernel/slab/skbuff_small_head/" + file)
		if errors.Is(err, os.ErrNotExist) {
			return 0
		}
		must(t, err)
		n, err = strconv.Atoi(strings.TrimSpace(string(text)))
		must(t, err)
		return n
	}
	size := read("slab_size")
	return size&(size-1) != 0 && read("order") > 0
}

// With scatter-gather off it finds a small datagram whose head straddles a page boundary, where
// there are such heads, and refuses to try for many slots.
func TestProbeWithoutScatterGather(t *testing.T) {
	l := newLab(t)
	scatterGatherOff(t)
	sink := l.udpSink(farAddress.Addr())
	ran := probeJSON(t, "--to", sink.Local().String())
	p := ran.Only(t)
	t.Logf("%d slots, attempt %d", *p.Slots, p.Attempts)
	slots, says := 1, "in 32 attempts no small datagram straddled a page boundary"
	if headsCrossPages(t) {
		slots, says = 2, "xen-netfront would have dropped it, because scatter-gather is off"
	}
	if tool.Text(p.Verdict) != "sent" || *p.Slots != slots || p.Attempts > 32 || ran.Status != 0 || !strings.Contains(p.Message, says) {
		t.Errorf("status %d, want 0, %d slots and %q:\n%s%s", ran.Status, slots, says, ran.Stdout, ran.Stderr)
	}
	if got := int(sink.Received().Datagrams); got != 8*p.Attempts {
		t.Errorf("%d datagrams arrived of %d attempts, want 8 for each", got, p.Attempts)
	}
	if ran := probeJSON(t, "--to", sink.Local().String(), "--slots", "19"); ran.Status != 3 || !strings.Contains(ran.Stderr, "scatter-gather is off on interface near") {
		t.Errorf("--slots 19: status %d:\n%s", ran.Status, ran.Stderr)
	}
}
