package netns

import (
	"net"
	"net/netip"
	"testing"

	"github.com/vishvananda/netlink"

	"xentrace/test/tool"
)

var (
	nearTunnel = netip.MustParsePrefix("10.97.0.1/24")
	farTunnel  = netip.MustParsePrefix("10.97.0.2/24")
)

// tunnel joins near and far by a VXLAN tunnel through the veth pair.
func (l *lab) tunnel() {
	l.t.Helper()
	vxlan := func(device string, own, other netip.Addr, address netip.Prefix) error {
		link := &netlink.Vxlan{
			LinkAttrs: netlink.LinkAttrs{Name: "tunnel"}, VxlanId: 42, Port: 4789, VtepDevIndex: linkIndex(l.t, device),
			SrcAddr: own.AsSlice(), Group: other.AsSlice(),
		}
		if err := netlink.LinkAdd(link); err != nil {
			return err
		}
		if err := netlink.AddrAdd(link, &netlink.Addr{IPNet: &net.IPNet{IP: address.Addr().AsSlice(), Mask: net.CIDRMask(address.Bits(), 32)}}); err != nil {
			return err
		}
		return netlink.LinkSetUp(link)
	}
	must(l.t, vxlan("near", nearAddress.Addr(), farAddress.Addr(), nearTunnel))
	must(l.t, l.far.Namespace.Do(func() error { return vxlan("far", farAddress.Addr(), nearAddress.Addr(), farTunnel) }))
	l.awaitSilence()
}

// A connection through a tunnel is followed as any other, by its own addresses.
func TestStalledConnectionInATunnel(t *testing.T) {
	l := newLab(t)
	l.tunnel()
	queueOf(t)
	sink := l.tcpSink(farTunnel.Addr())
	bad, good := l.connect("tcp4", sink.Local()), l.connect("tcp4", sink.Local())
	s := l.stall(bad, good)
	s.check(t)
	if want := (tool.Flow{
		Family: "ipv4", Proto: "tcp", Saddr: nearTunnel.Addr().String(), Sport: bad.port(), Daddr: farTunnel.Addr().String(), Dport: int(sink.Local().Port()),
	}); s.events[0].Flow != want {
		t.Errorf("%s: want the flow %+v", s.events[0], want)
	}
	for i := range s.output.Packets {
		if p := &s.output.Packets[i]; p.Flow.Proto != "udp" || p.Flow.Dport != 4789 || p.TCP == nil || p.TCP.Seq != *s.events[0].Seq {
			t.Errorf("record %s: want the tunnel's flow and the connection's state", p)
		}
	}
}
