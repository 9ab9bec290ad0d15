package netns

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"xentrace/internal/demo/network"
	"xentrace/test/tool"
)

// connection is an ordinary TCP connection from near to far, whose kernel state the
// test can ask for itself.
type connection struct {
	t    *testing.T
	conn *net.TCPConn
	far  *listener
}

// connect makes one; without a network, "tcp4" or "tcp6", an IPv6 socket reaches an
// IPv4 address.
func (l *lab) connect(network string, to netip.AddrPort) *connection {
	l.t.Helper()
	c := &connection{t: l.t}
	var err error
	if network == "" {
		c.conn, err = connectMapped(to)
	} else {
		c.conn, err = net.DialTCP(network, nil, net.TCPAddrFromAddrPort(to))
	}
	must(l.t, err)
	l.t.Cleanup(func() { _ = c.conn.Close() })
	return c
}

// connectMapped connects an IPv6 socket to an IPv4 address mapped into IPv6.
func connectMapped(to netip.AddrPort) (*net.TCPConn, error) {
	fd, err := unix.Socket(unix.AF_INET6, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	file := os.NewFile(uintptr(fd), "connection")
	defer func() { _ = file.Close() }()
	if err := unix.Connect(fd, &unix.SockaddrInet6{Addr: to.Addr().As16(), Port: int(to.Port())}); err != nil {
		return nil, err
	}
	conn, err := net.FileConn(file)
	if err != nil {
		return nil, err
	}
	return conn.(*net.TCPConn), nil
}

// A listener at the far end, and the connection that it accepted.
type listener struct {
	t       *testing.T
	inner   *net.TCPListener
	address netip.AddrPort
	conn    *net.TCPConn
}

func (l *lab) listen() *listener {
	l.t.Helper()
	far := &listener{t: l.t}
	must(l.t, l.far.Namespace.Do(func() (err error) {
		far.inner, err = net.ListenTCP("tcp4", &net.TCPAddr{IP: net.IP(farAddress.Addr().AsSlice())})
		return err
	}))
	l.t.Cleanup(func() { _ = far.inner.Close() })
	far.address = far.inner.Addr().(*net.TCPAddr).AddrPort()
	return far
}

func (f *listener) accept() {
	f.t.Helper()
	conn, err := f.inner.AcceptTCP()
	must(f.t, err)
	f.conn = conn
	f.t.Cleanup(func() { _ = conn.Close() })
}

// reset ends the connection at the far end.
func (f *listener) reset() error { return errors.Join(f.conn.SetLinger(0), f.conn.Close()) }

// option sets an option of TCP.
func (c *connection) option(name, value int) {
	c.t.Helper()
	raw, err := c.conn.SyscallConn()
	must(c.t, err)
	var failed error
	must(c.t, raw.Control(func(fd uintptr) { failed = unix.SetsockoptInt(int(fd), unix.SOL_TCP, name, value) }))
	must(c.t, failed)
}

// write sends n bytes.
func (c *connection) write(n int) {
	c.t.Helper()
	_, err := c.conn.Write(make([]byte, n))
	must(c.t, err)
}

// info asks for TCP_INFO.
func (c *connection) info() *unix.TCPInfo {
	c.t.Helper()
	raw, err := c.conn.SyscallConn()
	must(c.t, err)
	var info *unix.TCPInfo
	var failed error
	must(c.t, raw.Control(func(fd uintptr) {
		info, failed = unix.GetsockoptTCPInfo(int(fd), unix.SOL_TCP, unix.TCP_INFO)
	}))
	must(c.t, failed)
	return info
}

func (c *connection) port() int { return c.conn.LocalAddr().(*net.TCPAddr).Port }

// shrink makes the far interface take no packets above that MTU: the near one's
// driver drops them, each time that they are sent again.
func (l *lab) shrink(mtu int) {
	l.t.Helper()
	must(l.t, l.far.Namespace.Do(func() error {
		link, err := netlink.LinkByName("far")
		if err != nil {
			return err
		}
		return netlink.LinkSetMTU(link, mtu)
	}))
}

// queueOf puts a queue before the near interface, so that TCP is not told at once what
// the driver dropped; it waits for its timer then, as it does with xen-netfront.
func queueOf(t *testing.T) {
	t.Helper()
	must(t, netlink.QdiscReplace(&netlink.Tbf{
		QdiscAttrs: netlink.QdiscAttrs{LinkIndex: linkIndex(t, "near"), Handle: netlink.MakeHandle(1, 0), Parent: netlink.HANDLE_ROOT},
		Rate:       1 << 30, Buffer: 1 << 20, Limit: 1 << 20,
	}))
}

// Far MTUs: one that all packets of these tests fit into, and one that 1200 bytes
// of data do not.
const (
	wide, narrow = 1500, 1280
	much, little = 1240, 100
)

// A connection hangs because the same segment is dropped each time that it is sent
// again; then it goes on; then it is closed. All figures are the kernel's own, and
// the connection beside it is never named.
func TestStalledConnection(t *testing.T) {
	for _, test := range []struct {
		name    string
		at      netip.Addr
		network string
		family  string
		queue   bool // else TCP is told of each drop, and does not count retransmissions
	}{
		{"IPv4", farAddress.Addr(), "tcp4", "ipv4", true},
		{"IPv6", farAddress6.Addr(), "tcp6", "ipv6", true},
		{"IPv4 of an IPv6 socket", netip.AddrFrom16(farAddress.Addr().As16()), "", "ipv4", true},
		{"TCP is told", farAddress.Addr(), "tcp4", "ipv4", false},
	} {
		t.Run(test.name, func(t *testing.T) {
			l := newLab(t)
			if test.queue {
				queueOf(t)
			}
			sink := l.tcpSink(test.at.Unmap())
			to := netip.AddrPortFrom(test.at, sink.Local().Port())
			bad, good := l.connect(test.network, to), l.connect(test.network, to)
			watch := watchAll(t)
			before, dropped := bad.info().Total_retrans, droppedBy(t, l.near)
			l.shrink(narrow)
			bad.write(much)
			good.write(little)
			watch.Tells(`"event":"stalled"`, 1)
			eventually(t, "third drop", func() bool { return droppedBy(t, l.near)-dropped > 2 })
			good.write(little)
			l.shrink(wide)
			eventually(t, "acknowledgement", func() bool { return bad.info().Unacked == 0 && bad.info().Notsent_bytes == 0 })
			freed := time.Now()
			watch.Tells(`"event":"recovered"`, 1)
			retransmits := uint64(bad.info().Total_retrans - before)
			must(t, bad.conn.Close())
			watch.Tells(`"event":"closed"`, 1)
			must(t, good.conn.Close())
			dropped = droppedBy(t, l.near) - dropped
			output := watch.Stop()

			events := flowEvents(t, &output, bad.port(), "stalled", "recovered", "closed")
			stalled, recovered, closed := events[0], events[1], events[2]
			if want := (tool.Flow{
				Family: test.family, Proto: "tcp", Daddr: sink.Local().Addr().Unmap().String(), Dport: int(sink.Local().Port()),
				Saddr: bad.conn.LocalAddr().(*net.TCPAddr).IP.String(), Sport: bad.port(),
			}); stalled.Flow != want || stalled.Netns != l.near.Namespace.Inum() || stalled.Ifname != "near" {
				t.Errorf("%s: want the flow %+v", stalled, want)
			}
			if second := output.Packets[1]; !stalled.Time.Equal(second.Time) || stalled.Drops != 2 || *stalled.SameSeqDrops != 2 ||
				*stalled.Seq != second.TCP.Seq || *stalled.SndQBytes != much {
				t.Errorf("%s: want it at the second drop: %s", stalled, &second)
			}
			if closed.Drops != dropped || closed.Reasons["NOT_SPECIFIED"] != dropped || uint64(len(output.Packets)) != dropped {
				t.Errorf("%s, %d records: the interface dropped %d", closed, len(output.Packets), dropped)
			}
			if *recovered.Retransmits != retransmits || *closed.Retransmits != retransmits || test.queue && retransmits < dropped {
				t.Errorf("%d retransmits when it recovered, %d when it was closed: TCP_INFO says %d", *recovered.Retransmits, *closed.Retransmits, retransmits)
			}
			took := time.Duration(recovered.StalledMs) * time.Millisecond
			if took < closed.LastDrop.Sub(*closed.FirstDrop) || took > freed.Sub(*closed.FirstDrop)+5*time.Second {
				t.Errorf("stalled for %v from %v on: it was acknowledged at %v", took, closed.FirstDrop, freed)
			}
			if *output.Summary.FlowsStalled != 1 || *output.Summary.Lost.Flows != 0 || *closed.SndQBytes != 0 {
				t.Errorf("%s, %d stalled, %d lost", closed, *output.Summary.FlowsStalled, *output.Summary.Lost.Flows)
			}
		})
	}
}

// droppedBy returns what an interface itself counted as dropped.
func droppedBy(t *testing.T, e network.End) uint64 {
	t.Helper()
	_, dropped, err := e.Transmitted()
	must(t, err)
	return dropped
}

// flowEvents returns the events of the flow from a port, which must be these, and all
// that there are.
func flowEvents(t *testing.T, output *tool.Output, port int, want ...string) []*tool.FlowEvent {
	t.Helper()
	var events []*tool.FlowEvent
	for i := range output.Flows {
		f := &output.Flows[i]
		if i >= len(want) || f.Event != want[i] || f.Flow.Sport != port {
			t.Fatalf("%v: want %v of the connection from port %d", output.Flows, want, port)
		}
		events = append(events, f)
	}
	if len(events) != len(want) {
		t.Fatalf("%v: want %v", output.Flows, want)
	}
	return events
}

// A connection that is given up while it hangs: what was not acknowledged is told.
func TestStalledConnectionEnds(t *testing.T) {
	for _, test := range []struct {
		name string
		end  func(*testing.T, *connection)
	}{
		{"reset by its owner", func(t *testing.T, c *connection) {
			must(t, c.conn.SetLinger(0))
			must(t, c.conn.Close())
		}},
		{"reset by the far end", func(t *testing.T, c *connection) {
			must(t, c.far.reset())
		}},
		{"gives up", func(_ *testing.T, c *connection) { c.option(unix.TCP_USER_TIMEOUT, 500) }},
	} {
		t.Run(test.name, func(t *testing.T) {
			l := newLab(t)
			queueOf(t)
			far := l.listen()
			bad := l.connect("tcp4", far.address)
			bad.far = far
			far.accept()
			watch := watchAll(t)
			before, dropped := bad.info().Total_retrans, droppedBy(t, l.near)
			l.shrink(narrow)
			bad.write(much)
			watch.Tells(`"event":"stalled"`, 1)
			retransmits := func() uint64 { return uint64(bad.info().Total_retrans - before) }
			test.end(t, bad)
			watch.Tells(`"event":"closed"`, 1)
			dropped = droppedBy(t, l.near) - dropped
			output := watch.Stop()
			events := flowEvents(t, &output, bad.port(), "stalled", "closed")
			closed := events[1]
			if closed.Drops != dropped || *closed.SndQBytes != much || !strings.Contains(test.name, "owner") && *closed.Retransmits != retransmits() ||
				*closed.Retransmits < dropped-1 || closed.StalledMs < int(closed.LastDrop.Sub(*closed.FirstDrop).Milliseconds()) {
				t.Errorf("%s: want %d drops, %d bytes waiting", closed, dropped, much)
			}
		})
	}
}

// The hook at the end of connections is there only while one is in trouble.
func TestEndsAreLookedForInTroubleOnly(t *testing.T) {
	l := newLab(t)
	queueOf(t)
	sink := l.tcpSink(farAddress.Addr())
	bad := l.connect("tcp4", sink.Local())
	watch := watchAll(t)
	hooks := func() int { return strings.Count(linksOf(t, watch.PID()), "inet_sock_set_state") }
	bad.write(little)
	if n := hooks(); n != 0 {
		t.Errorf("%d hooks while nothing is wrong", n)
	}
	l.shrink(narrow)
	bad.write(much)
	watch.Tells(`"event":"stalled"`, 1)
	if n := hooks(); n != 1 {
		t.Errorf("%d hooks while a connection hangs, want 1", n)
	}
	must(t, bad.conn.SetLinger(0))
	must(t, bad.conn.Close())
	watch.Tells(`"event":"closed"`, 1)
	eventually(t, "no hook", func() bool { return hooks() == 0 })
	watch.Stop()
}

// linksOf returns what /proc tells of a process's BPF links.
func linksOf(t *testing.T, pid int) string {
	t.Helper()
	entries, err := filepath.Glob(fmt.Sprintf("/proc/%d/fdinfo/*", pid))
	must(t, err)
	var all strings.Builder
	for _, path := range entries {
		text, err := os.ReadFile(path)
		if err == nil && strings.Contains(string(text), "link_type") {
			all.Write(text)
		}
	}
	return all.String()
}

// A connection through this machine: its packets are dropped again and again, but how
// it stands is known to the two ends only.
func TestForwardedConnectionIsNotJudged(t *testing.T) {
	l := newLab(t)
	queueOf(t)
	third := newNamespace(t)
	beyond := network.End{Namespace: third, Name: "beyond", Addresses: []netip.Prefix{netip.MustParsePrefix("10.97.0.2/24")}}
	in := network.End{Namespace: l.near.Namespace, Name: "in", Addresses: []netip.Prefix{netip.MustParsePrefix("10.97.0.1/24")}}
	must(t, network.Join(in, beyond, 1500))
	must(t, os.WriteFile("/proc/sys/net/ipv4/ip_forward", []byte("1"), 0))
	must(t, third.Do(func() error { return netlink.RouteAdd(&netlink.Route{Gw: net.IPv4(10, 97, 0, 1)}) }))
	must(t, l.far.Namespace.Do(func() error { return netlink.RouteAdd(&netlink.Route{Gw: net.IPv4(10, 98, 0, 1)}) }))
	sink := l.tcpSink(farAddress.Addr())
	var through *connection
	must(t, third.Do(func() error {
		conn, err := net.DialTCP("tcp4", nil, net.TCPAddrFromAddrPort(sink.Local()))
		through = &connection{t: t, conn: conn}
		return err
	}))
	defer func() { _ = through.conn.Close() }()
	watch := watchAll(t)
	dropped := droppedBy(t, l.near)
	l.shrink(narrow)
	through.write(much)
	eventually(t, "third drop", func() bool { return droppedBy(t, l.near)-dropped > 2 })
	dropped = droppedBy(t, l.near) - dropped
	output := watch.Stop()
	for _, p := range onlyElsewhere(t, &output, dropped) {
		if p.TCP != nil || p.Flow.Sport != through.port() {
			t.Errorf("record %s: want one of the connection from port %d, and no state", &p, through.port())
		}
	}
	if len(output.Flows) != 0 || *output.Summary.FlowsStalled != 0 {
		t.Errorf("%v, %d stalled: want none", output.Flows, *output.Summary.FlowsStalled)
	}
}

// As people read it: a line for each event, with what would help below, and the list
// of flows at the end.
func TestStalledConnectionAsText(t *testing.T) {
	l := newLab(t)
	queueOf(t)
	sink := l.tcpSink(farAddress.Addr())
	bad := l.connect("tcp4", sink.Local())
	watch := start(t, "watch", "-i", "near", "--drops", "all")
	l.shrink(narrow)
	bad.write(much)
	eventually(t, "stall", func() bool { return strings.Contains(watch.stdout.String(), " stalled ") })
	l.shrink(wide)
	eventually(t, "recovery", func() bool { return strings.Contains(watch.stdout.String(), " recovered ") })
	watch.stop()
	said := watch.stdout.String()
	flow := fmt.Sprintf("%s > %s tcp", bad.conn.LocalAddr(), sink.Local())
	for _, part := range []string{
		"near stalled ", flow + ": nothing acknowledged for 0.", "2 packets dropped (NOT_SPECIFIED 2), 2 of them at sequence number ", ", 1 segment sent again, 1.2 kB waiting",
		flow + ": acknowledged again after ", "\nflows that lost packets: 1 stalled, 0 still are", "\n  recovered  " + flow + " on near: ",
	} {
		if !strings.Contains(said, part) {
			t.Errorf("%q is not in\n%s", part, said)
		}
	}
}
