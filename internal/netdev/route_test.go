package netdev

import (
	"errors"
	"net"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// network returns what the netlink package makes of a prefix.
func network(prefix string) *net.IPNet {
	p := netip.MustParsePrefix(prefix)
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}

// address gives an interface one, without the kernel looking for others that have it.
func address(t *testing.T, ns *Namespace, i Interface, prefix string) {
	t.Helper()
	must(t, ns.netlink.AddrAdd(link(i), &netlink.Addr{IPNet: network(prefix), Flags: unix.IFA_F_NODAD}))
}

// twoLinks is a namespace with two veth pairs in it, of which one end each has addresses.
func twoLinks(t *testing.T) (ns *Namespace, left, right Interface) {
	t.Helper()
	ns = newNamespace(t)
	left, leftPeer := addVeth(t, ns, "left", "left-peer", 1)
	right, rightPeer := addVeth(t, ns, "right", "right-peer", 1)
	lo := byName(t, ns, "lo")
	for _, i := range []Interface{lo, left, leftPeer, right, rightPeer} {
		must(t, ns.netlink.LinkSetUp(link(i)))
	}
	address(t, ns, left, "10.1.0.1/24")
	address(t, ns, left, "fd01::1/64")
	address(t, ns, right, "10.2.0.1/24")
	// IPv6 has its routes once it has heard that the links are there.
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(5 * time.Millisecond) {
		own, err := ns.RouteTo(netip.MustParseAddr("fd01::1"), 0)
		_, linkErr := ns.RouteTo(netip.MustParseAddr("fe80::77"), right.Index)
		if err == nil && linkErr == nil && own.Type == unix.RTN_LOCAL {
			return ns, left, right
		}
		if time.Now().After(deadline) {
			t.Fatalf("no routes of IPv6 after 20 s: %+v, %v, %v", own, err, linkErr)
		}
	}
}

func TestRouteTo(t *testing.T) {
	ns, left, right := twoLinks(t)
	must(t, ns.netlink.RouteAdd(&netlink.Route{LinkIndex: right.Index, Dst: network("192.0.2.0/24"), Gw: net.IPv4(10, 2, 0, 9)}))
	must(t, ns.netlink.RouteAdd(&netlink.Route{Dst: network("198.51.100.0/24"), Type: unix.RTN_BLACKHOLE}))
	must(t, ns.netlink.RouteAdd(&netlink.Route{Dst: network("203.0.113.0/24"), Type: unix.RTN_PROHIBIT}))
	for _, test := range []struct {
		to      string
		index   int
		want    Route
		noRoute bool
	}{
		{to: "10.1.0.2", want: Route{Index: left.Index, Type: unix.RTN_UNICAST}},
		{to: "fd01::2", want: Route{Index: left.Index, Type: unix.RTN_UNICAST}},
		{to: "10.2.0.2", want: Route{Index: right.Index, Type: unix.RTN_UNICAST}},
		{to: "192.0.2.7", want: Route{Index: right.Index, Gateway: netip.MustParseAddr("10.2.0.9"), Type: unix.RTN_UNICAST}},
		{to: "10.1.0.1", want: Route{Index: 1, Type: unix.RTN_LOCAL}},
		{to: "fd01::1", want: Route{Index: left.Index, Type: unix.RTN_LOCAL}},
		{to: "10.1.0.255", want: Route{Index: left.Index, Type: unix.RTN_BROADCAST}},
		{to: "fe80::77", index: right.Index, want: Route{Index: right.Index, Type: unix.RTN_UNICAST}},
		{to: "198.51.100.1", noRoute: true},
		{to: "203.0.113.1", noRoute: true},
		{to: "8.0.0.1", noRoute: true},
		{to: "2001:db8::1", noRoute: true},
	} {
		got, err := ns.RouteTo(netip.MustParseAddr(test.to), test.index)
		if errors.Is(err, ErrNoRoute) != test.noRoute || err != nil && !test.noRoute {
			t.Errorf("%s: %v", test.to, err)
			continue
		}
		// Where the kernel says that a packet to an own address of IPv6 leaves differs.
		if test.want.Type == unix.RTN_LOCAL {
			got.Index, test.want.Index = 0, 0
		}
		if got != test.want {
			t.Errorf("%s: %+v, want %+v", test.to, got, test.want)
		}
	}
}

func TestDefaultGateways(t *testing.T) {
	ns, left, right := twoLinks(t)
	if got, err := ns.DefaultGateways(left.Index); err != nil || len(got) != 0 {
		t.Errorf("without routes: %v, %v", got, err)
	}
	for _, r := range []netlink.Route{
		{LinkIndex: left.Index, Gw: net.IPv4(10, 1, 0, 8), Priority: 200},
		{LinkIndex: left.Index, Gw: net.IPv4(10, 1, 0, 7), Priority: 100},
		{LinkIndex: left.Index, Gw: net.ParseIP("fe80::7"), Priority: 50},
		{LinkIndex: right.Index, Gw: net.IPv4(10, 2, 0, 9), Priority: 10},
		{LinkIndex: left.Index, Dst: network("192.0.2.0/24"), Gw: net.IPv4(10, 1, 0, 3)},
		{LinkIndex: left.Index, Gw: net.IPv4(10, 1, 0, 4), Table: 77},
		{LinkIndex: left.Index, Scope: netlink.SCOPE_LINK, Dst: network("0.0.0.0/0"), Priority: 5},
		{Priority: 300, Dst: network("0.0.0.0/0"), MultiPath: []*netlink.NexthopInfo{
			{LinkIndex: right.Index, Gw: net.IPv4(10, 2, 0, 5)}, {LinkIndex: left.Index, Gw: net.IPv4(10, 1, 0, 5)},
		}},
		{LinkIndex: right.Index, Priority: 20, Dst: network("0.0.0.0/0"), Via: &netlink.Via{AddrFamily: unix.AF_INET6, Addr: net.ParseIP("fe80::6")}},
	} {
		if err := ns.netlink.RouteAdd(&r); err != nil {
			t.Fatalf("%v: %v", r, err)
		}
	}
	for _, test := range []struct {
		of   Interface
		want []string
	}{
		{left, []string{"10.1.0.7", "10.1.0.8", "10.1.0.5", "fe80::7"}},
		{right, []string{"10.2.0.9", "fe80::6", "10.2.0.5"}},
	} {
		got, err := ns.DefaultGateways(test.of.Index)
		var texts []string
		for _, gateway := range got {
			texts = append(texts, gateway.String())
		}
		if err != nil || !slices.Equal(texts, test.want) {
			t.Errorf("%s: %v, %v: want %v", test.of, texts, err, test.want)
		}
	}
}

func TestNeighbour(t *testing.T) {
	ns, left, right := twoLinks(t)
	for ip, state := range map[string]int{
		"10.1.0.2": netlink.NUD_PERMANENT, "10.1.0.3": netlink.NUD_STALE, "10.1.0.4": netlink.NUD_NOARP, "fd01::2": netlink.NUD_REACHABLE,
	} {
		must(t, ns.netlink.NeighAdd(&netlink.Neigh{LinkIndex: left.Index, IP: net.ParseIP(ip), State: state, HardwareAddr: net.HardwareAddr{2, 0, 0, 0, 0, 9}}))
	}
	must(t, ns.netlink.NeighAdd(&netlink.Neigh{LinkIndex: left.Index, IP: net.IPv4(10, 1, 0, 5), State: netlink.NUD_FAILED}))
	must(t, ns.netlink.NeighAdd(&netlink.Neigh{LinkIndex: left.Index, IP: net.IPv4(10, 1, 0, 6), State: netlink.NUD_INCOMPLETE}))
	for _, test := range []struct {
		index   int
		address string
		want    Neighbour
	}{
		{left.Index, "10.1.0.2", NeighbourKnown},
		{left.Index, "10.1.0.3", NeighbourKnown},
		{left.Index, "10.1.0.4", NeighbourKnown},
		{left.Index, "fd01::2", NeighbourKnown},
		{left.Index, "10.1.0.5", NeighbourUnanswered},
		{left.Index, "10.1.0.6", NeighbourAsked},
		{left.Index, "10.1.0.9", NeighbourUnknown},
		{right.Index, "10.1.0.2", NeighbourUnknown},
	} {
		if got, err := ns.Neighbour(test.index, netip.MustParseAddr(test.address)); err != nil || got != test.want {
			t.Errorf("%s on %d: %d, %v: want %d", test.address, test.index, got, err, test.want)
		}
	}
}
