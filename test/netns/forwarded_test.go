package netns

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"

	"xentrace/internal/demo/network"
	"xentrace/test/tool"
)

// A routedNamespace is a network namespace whose packets the near one forwards.
type routedNamespace struct {
	*network.Namespace
	address netip.Addr
}

// container makes one with a veth pair of its own, in the n-th network of 10.96.0.0/16.
func (l *lab) container(n int) routedNamespace {
	l.t.Helper()
	inside, outside := netip.AddrFrom4([4]byte{10, 96, byte(n), 2}), netip.AddrFrom4([4]byte{10, 96, byte(n), 1})
	c := routedNamespace{newNamespace(l.t), inside}
	must(l.t, network.Join(
		network.End{Namespace: l.near.Namespace, Name: fmt.Sprintf("out%d", n), Addresses: []netip.Prefix{netip.PrefixFrom(outside, 24)}},
		network.End{Namespace: c.Namespace, Name: "eth0", Addresses: []netip.Prefix{netip.PrefixFrom(inside, 24)}}, 1500))
	must(l.t, c.Do(func() error { return netlink.RouteAdd(&netlink.Route{Gw: outside.AsSlice()}) }))
	must(l.t, os.WriteFile("/proc/sys/net/ipv4/ip_forward", []byte("1"), 0))
	return c
}

// connect makes a connection out of the container.
func (c routedNamespace) connect(t *testing.T, local int, to netip.AddrPort) *connection {
	t.Helper()
	made := &connection{t: t}
	must(t, c.Do(func() (err error) {
		made.conn, err = net.DialTCP("tcp4", &net.TCPAddr{IP: c.address.AsSlice(), Port: local}, net.TCPAddrFromAddrPort(to))
		return err
	}))
	t.Cleanup(func() { _ = made.conn.Close() })
	return made
}

// A connection through this machine: that it stalls is inferred from what is dropped.
func TestStalledForwardedConnection(t *testing.T) {
	l := newLab(t)
	c := l.container(1)
	must(t, l.far.Namespace.Do(func() error { return netlink.RouteAdd(&netlink.Route{Gw: nearAddress.Addr().AsSlice()}) }))
	sink := l.tcpSink(farAddress.Addr())
	through := c.connect(t, 0, sink.Local())
	watch := watchAll(t)
	dropped := droppedBy(t, l.near)
	l.shrink(narrow)
	through.write(much)
	watch.Tells(`"event":"stalled"`, 1)
	eventually(t, "third drop", func() bool { return droppedBy(t, l.near)-dropped > 2 })
	dropped = droppedBy(t, l.near) - dropped
	output := watch.Stop()
	for _, p := range onlyElsewhere(t, &output, dropped) {
		if p.TCP != nil || p.Process == nil || p.Process.PID != os.Getpid() {
			t.Errorf("record %s: want no state, and the process %d", &p, os.Getpid())
		}
	}
	stalled := flowEvents(t, &output, through.port(), "stalled")[0]
	if !stalled.Inferred || *stalled.SameSeqDrops != 2 || stalled.Drops != 2 || stalled.SndQBytes != nil || stalled.Retransmits != nil || stalled.Process == nil || stalled.BeforeNAT != nil {
		t.Errorf("%s: want it to be inferred", stalled)
	}
	if *output.Summary.FlowsStalled != 1 {
		t.Errorf("%d stalled in the summary", *output.Summary.FlowsStalled)
	}
}

// Of 1,000 connections out of two containers those whose packets are dropped are reported as stalled,
// no others, with the addresses that they have in the container, and their process.
func TestStalledOfAThousandForwarded(t *testing.T) {
	for _, test := range []struct {
		name  string
		setup func(*lab) netip.Addr // returns where connections go
		drop  func(t *testing.T, ports []int)
		outer string // source address of the flow
		nat   bool
	}{
		{"masqueraded", (*lab).masquerade, dropOriginal, nearAddress.Addr().String(), true},
		{"in VXLAN", (*lab).routedTunnel, func(t *testing.T, ports []int) { classify(t, "near", dropFrom(ports)) }, "10.96.", false},
	} {
		t.Run(test.name, func(t *testing.T) {
			const all, every, firstPort = 1000, 50, 20_000
			l := newLab(t)
			containers := [2]routedNamespace{l.container(1), l.container(2)}
			sink := l.tcpSink(test.setup(l))
			var connections []*connection
			bad := make(map[string]bool)
			var ports []int
			for n := range all {
				c := containers[n/every%2].connect(t, firstPort+n, sink.Local())
				connections = append(connections, c)
				if n%every == 0 {
					bad[c.conn.LocalAddr().String()] = true
					ports = append(ports, firstPort+n)
				}
			}
			watch := watchAll(t)
			test.drop(t, ports)
			for _, c := range connections {
				c.write(little)
			}
			watch.Tells(`"event":"stalled"`, len(bad))
			output := watch.Stop()
			for i := range output.Flows {
				f := &output.Flows[i]
				inside := f.Flow
				if test.nat {
					if f.BeforeNAT == nil {
						t.Fatalf("%s: want the addresses before NAT", f)
					}
					if inside = f.BeforeNAT.Flow; f.Flow.Sport < 30_000 {
						t.Errorf("%s: want the port that NAT chose", f)
					}
				}
				if !strings.HasPrefix(f.Flow.Saddr, test.outer) || inside.Proto != "tcp" || inside.Daddr != sink.Local().Addr().String() || inside.Dport != int(sink.Local().Port()) {
					t.Errorf("%s: want a connection from %s", f, test.outer)
				}
				from := fmt.Sprintf("%s:%d", inside.Saddr, inside.Sport)
				if f.Event != "stalled" || !f.Inferred || !bad[from] || f.Process == nil || f.Process.PID != os.Getpid() {
					t.Errorf("%s: want one of the stalled ones, of process %d", f, os.Getpid())
				}
				delete(bad, from)
			}
			if len(bad) > 0 || *output.Summary.FlowsStalled != all/every {
				t.Errorf("%v are not reported; %d stalled in the summary", bad, *output.Summary.FlowsStalled)
			}
		})
	}
}

// masquerade gives what leaves by the near interface its address, and another port.
func (l *lab) masquerade() netip.Addr {
	ruleset(l.t, "table ip n {\n chain p {\n type nat hook postrouting priority 100;\n oifname near ip protocol tcp masquerade to :30000-50000 random\n }\n}\n")
	return farAddress.Addr()
}

// dropOriginal drops packets of connections by their source port before NAT, once NAT is done.
func dropOriginal(t *testing.T, ports []int) {
	list := strings.Trim(strings.Join(strings.Fields(fmt.Sprint(ports)), ", "), "[]")
	ruleset(t, "table ip d {\n chain p {\n type filter hook postrouting priority 300;\n meta l4proto tcp ct original proto-src { "+list+" } drop\n }\n}\n")
}

// routedTunnel routes the containers through a tunnel.
func (l *lab) routedTunnel() netip.Addr {
	l.tunnel()
	must(l.t, l.far.Namespace.Do(func() error {
		return netlink.RouteAdd(&netlink.Route{Dst: &net.IPNet{IP: net.IPv4(10, 96, 0, 0), Mask: net.CIDRMask(16, 32)}, Gw: nearTunnel.Addr().AsSlice()})
	}))
	return farTunnel.Addr()
}

// A forwarded connection as people read it.
func TestForwardedConnectionAsText(t *testing.T) {
	l := newLab(t)
	c := l.container(1)
	sink := l.tcpSink(l.masquerade())
	through := c.connect(t, 20_000, sink.Local())
	watch := tool.Start(t, xentrace, "watch", "-i", "near", "--drops", "all")
	dropOriginal(t, []int{20_000})
	through.write(little)
	watch.Tells(" stalled ", 1)
	said := watch.StopText()
	for _, part := range []string{" (inferred from headers), ", fmt.Sprintf(", %s > %s tcp before NAT, sent by ", through.conn.LocalAddr(), sink.Local())} {
		if !strings.Contains(said, part) {
			t.Errorf("%q is not in\n%s", part, said)
		}
	}
}
