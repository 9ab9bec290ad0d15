package netns

import (
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

// A connection hangs because the same segment is dropped each time that it is sent
// again; then it recovers; then it is closed. All figures are the kernel's own, and
// the connection next to it is never named.
func TestStalledConnection(t *testing.T) {
	for _, test := range []struct {
		name    string
		at      netip.Addr
		network string
		family  string
		queue   bool // else TCP is reported each drop, and does not count retransmissions
	}{
		{"IPv4", farAddress.Addr(), "tcp4", "ipv4", true},
		{"IPv6", farAddress6.Addr(), "tcp6", "ipv6", true},
		{"IPv4 of an IPv6 socket", netip.AddrFrom16(farAddress.Addr().As16()), "", "ipv4", true},
		{"TCP learns of it", farAddress.Addr(), "tcp4", "ipv4", false},
	} {
		t.Run(test.name, func(t *testing.T) {
			l := newLab(t)
			if test.queue {
				queueOf(t)
			}
			sink := l.tcpSink(test.at.Unmap())
			to := netip.AddrPortFrom(test.at, sink.Local().Port())
			bad, good := l.connect(test.network, to), l.connect(test.network, to)
			s := l.stall(bad, good)
			s.check(t)
			if test.queue && s.retransmits < s.dropped {
				t.Errorf("%d retransmits of %d drops, and at least one more at the end", s.retransmits, s.dropped)
			}
			if want := (tool.Flow{
				Family: test.family, Proto: "tcp", Daddr: to.Addr().Unmap().String(), Dport: int(to.Port()),
				Saddr: bad.conn.LocalAddr().(*net.TCPAddr).IP.String(), Sport: bad.port(),
			}); s.events[0].Flow != want || s.events[0].Netns != inum(t, l.near.Namespace) || s.events[0].Ifname != "near" {
				t.Errorf("%s: want the flow %+v", s.events[0], want)
			}
		})
	}
}

// stalled is what was reported a connection that hung, went on and was closed, and
// what the kernel says of it.
type stalled struct {
	output      tool.Output
	events      []*tool.FlowEvent
	retransmits uint64    // what total_retrans moved by
	dropped     uint64    // by the interface
	freed       time.Time // when all was seen to be acknowledged
}

// stall has one connection hang and go on while the other is fine, and closes both.
func (l *lab) stall(bad, good *connection) *stalled {
	t := l.t
	t.Helper()
	watch := watchAll(t)
	var s stalled
	before, dropped := bad.info().Total_retrans, droppedBy(t, l.near)
	l.shrink(narrow)
	bad.write(much)
	good.write(little)
	watch.Tells(`"event":"stalled"`, 1)
	eventually(t, "third drop", func() bool { return droppedBy(t, l.near)-dropped > 2 })
	good.write(little)
	l.shrink(wide)
	eventually(t, "acknowledgement", func() bool { return bad.info().Unacked == 0 && bad.info().Notsent_bytes == 0 })
	s.freed = time.Now()
	watch.Tells(`"event":"recovered"`, 1)
	s.retransmits = uint64(bad.info().Total_retrans - before)
	must(t, bad.conn.Close())
	watch.Tells(`"event":"closed"`, 1)
	must(t, good.conn.Close())
	s.dropped = droppedBy(t, l.near) - dropped
	s.output = watch.Stop()
	s.events = flowEvents(t, &s.output, bad.port(), "stalled", "recovered", "closed")
	return &s
}

// check checks every number against the kernel's.
func (s *stalled) check(t *testing.T) {
	t.Helper()
	first, recovered, closed := s.events[0], s.events[1], s.events[2]
	if second := s.output.Packets[1]; !first.Time.Equal(second.Time) || first.Drops != 2 || *first.SameSeqDrops != 2 ||
		*first.Seq != second.TCP.Seq || *first.SndQBytes != much {
		t.Errorf("%s: want it at the second drop: %s", first, &second)
	}
	if closed.Drops != s.dropped || closed.Reasons["NOT_SPECIFIED"] != s.dropped || uint64(len(s.output.Packets)) != s.dropped {
		t.Errorf("%s, %d records: the interface dropped %d", closed, len(s.output.Packets), s.dropped)
	}
	if *recovered.Retransmits != s.retransmits || *closed.Retransmits != s.retransmits {
		t.Errorf("%d retransmits when it recovered, %d when it was closed: TCP_INFO says %d", *recovered.Retransmits, *closed.Retransmits, s.retransmits)
	}
	took := time.Duration(recovered.StalledMs) * time.Millisecond
	if took < closed.LastDrop.Sub(*closed.FirstDrop) || took > s.freed.Sub(*closed.FirstDrop)+5*time.Second {
		t.Errorf("stalled for %v from %v on: it was acknowledged at %v", took, closed.FirstDrop, s.freed)
	}
	if *s.output.Summary.FlowsStalled != 1 || *s.output.Summary.Lost.Flows != 0 || *closed.SndQBytes != 0 {
		t.Errorf("%s, %d stalled, %d lost", closed, *s.output.Summary.FlowsStalled, *s.output.Summary.Lost.Flows)
	}
}

// A connection that hung before anybody watched: counted from the first drop that was
// seen.
func TestStalledBeforeItWasWatched(t *testing.T) {
	l := newLab(t)
	queueOf(t)
	sink := l.tcpSink(farAddress.Addr())
	bad := l.connect("tcp4", sink.Local())
	dropped := droppedBy(t, l.near)
	l.shrink(narrow)
	bad.write(much)
	eventually(t, "second drop", func() bool { return droppedBy(t, l.near)-dropped >= 2 })
	watch := watchAll(t)
	watch.Tells(`"event":"stalled"`, 1)
	must(t, bad.conn.SetLinger(0))
	must(t, bad.conn.Close())
	watch.Tells(`"event":"closed"`, 1)
	output := watch.Stop()
	events := flowEvents(t, &output, bad.port(), "stalled", "closed")
	if closed := events[1]; closed.Drops != uint64(len(output.Packets)) || *closed.Retransmits != closed.Drops-1 || !closed.FirstDrop.Equal(output.Packets[0].Time) {
		t.Errorf("%s, %d records: want each drop but the first to be a retransmission", closed, len(output.Packets))
	}
}

// A connection that cannot be opened: its SYN is dropped again and again.
func TestStalledWhileItIsOpened(t *testing.T) {
	l := newLab(t)
	sink := l.tcpSink(farAddress.Addr())
	filterProtocol(t, netlink.HANDLE_MIN_EGRESS, unix.IPPROTO_TCP)
	watch := watchAll(t)
	opened := make(chan *net.TCPConn, 1)
	go func() {
		defer close(opened)
		_ = l.near.Namespace.Do(func() error {
			conn, err := net.DialTCP("tcp4", nil, net.TCPAddrFromAddrPort(sink.Local()))
			if err == nil {
				opened <- conn
			}
			return err
		})
	}()
	watch.Tells(`"event":"stalled"`, 1)
	must(t, netlink.QdiscDel(&netlink.Clsact{
		QdiscAttrs: netlink.QdiscAttrs{LinkIndex: linkIndex(t, "near"), Handle: netlink.MakeHandle(0xffff, 0), Parent: netlink.HANDLE_CLSACT},
	}))
	conn := <-opened
	if conn == nil {
		t.Fatal("the connection was not opened")
	}
	watch.Tells(`"event":"recovered"`, 1)
	must(t, conn.Close())
	watch.Tells(`"event":"closed"`, 1)
	output := watch.Stop()
	events := flowEvents(t, &output, conn.LocalAddr().(*net.TCPAddr).Port, "stalled", "recovered", "closed")
	if f := events[0]; f.Drops != 2 || f.Reasons["TC_EGRESS"] != 2 || *f.SndQBytes != 1 || output.Packets[0].TCP.State != "SYN_SENT" {
		t.Errorf("%s: want two SYNs", f)
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

// A connection that is given up while it hangs: what was not acknowledged is reported.
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
			closed, skipped := events[1], uint64(0)
			if n := output.Summary.Lost.Recursion; n != nil {
				skipped = *n // a run that the kernel left out on a busy machine
			}
			if closed.Drops > dropped || closed.Drops+skipped < dropped || *closed.SndQBytes != much || !strings.Contains(test.name, "owner") && *closed.Retransmits != retransmits() ||
				*closed.Retransmits < dropped-1 || closed.StalledMs < int(closed.LastDrop.Sub(*closed.FirstDrop).Milliseconds()) {
				t.Errorf("%s: want %d drops, %d bytes waiting; lost %+v", closed, dropped, much, output.Summary.Lost)
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

// linksOf returns what /proc reports a process's BPF links.
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
		"near stalled ", flow + ": nothing acknowledged for 0.", "2 packets dropped (NOT_SPECIFIED 2), 2 of them at sequence number ", ", 1 segment retransmitted, 1.2 kB unacknowledged",
		flow + ": was stalled for ", "\nflows that lost packets: 1 stalled, 0 still stalled", "\n  recovered  " + flow + " on near: ",
	} {
		if !strings.Contains(said, part) {
			t.Errorf("%q is not in\n%s", part, said)
		}
	}
}
