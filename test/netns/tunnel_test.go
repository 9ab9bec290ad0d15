package netns

import (
	"net"
	"net/netip"
	"os"
	"slices"
	"testing"

	"github.com/cilium/ebpf/asm"
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

// dropFrom drops packets in VXLAN by the source port of the TCP segments that they carry.
func dropFrom(ports []int) asm.Instructions {
	const tcSource = 14 + 20 + 8 + 8 + 14 + 20
	p := asm.Instructions{asm.Mov.Reg(asm.R6, asm.R1), asm.LoadAbs(tcSource, asm.Half)}
	for _, port := range ports {
		p = append(p, asm.JEq.Imm(asm.R0, int32(port), "drop"))
	}
	return append(p, asm.Mov.Imm(asm.R0, 0 /* TC_ACT_OK */), asm.Return(),
		asm.Mov.Imm(asm.R0, 2 /* TC_ACT_SHOT */).WithSymbol("drop"), asm.Return())
}

// Of 1,000 connections in a tunnel those whose packets are dropped are reported as stalled,
// no others, with their addresses and their owner.
func TestStalledOfAThousandInATunnel(t *testing.T) {
	const all, every = 1000, 50
	l := newLab(t)
	l.tunnel()
	sink := l.tcpSink(farTunnel.Addr())
	var connections []*connection
	var bad []int
	for n := range all {
		c := l.connect("tcp4", sink.Local())
		connections = append(connections, c)
		if n%every == 0 {
			bad = append(bad, c.port())
		}
	}
	watch := watchAll(t)
	classify(t, "near", dropFrom(bad))
	for _, c := range connections {
		c.write(little)
	}
	watch.Tells(`"event":"stalled"`, len(bad))
	output := watch.Stop()
	var stalled []int
	for i := range output.Flows {
		f := &output.Flows[i]
		if f.Event != "stalled" {
			continue
		}
		stalled = append(stalled, f.Flow.Sport)
		if f.Flow.Proto != "tcp" || f.Flow.Saddr != nearTunnel.Addr().String() || f.Flow.Daddr != farTunnel.Addr().String() || *f.SndQBytes != little {
			t.Errorf("%s: want a connection in the tunnel", f)
		}
		if f.Process == nil || f.Process.PID != os.Getpid() {
			t.Errorf("%s: want the process %d", f, os.Getpid())
		}
	}
	slices.Sort(bad)
	slices.Sort(stalled)
	if !slices.Equal(stalled, bad) || *output.Summary.FlowsStalled != uint64(len(bad)) {
		t.Errorf("stalled from ports %v, %d in the summary, want %v", stalled, *output.Summary.FlowsStalled, bad)
	}
}
