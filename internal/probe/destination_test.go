package probe

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"xentrace/internal/netdev"
	"xentrace/internal/trace"
)

// fakeNetwork answers from tables.
type fakeNetwork struct {
	gateways   []string
	routes     map[string]netdev.Route // by address; others have none
	neighbours []netdev.Neighbour      // one answer after the other, the last again and again
}

func (f *fakeNetwork) DefaultGateways(int) ([]netip.Addr, error) {
	var list []netip.Addr
	for _, g := range f.gateways {
		list = append(list, netip.MustParseAddr(g))
	}
	return list, nil
}

func (f *fakeNetwork) RouteTo(to netip.Addr, index int) (netdev.Route, error) {
	r, ok := f.routes[to.String()]
	if !ok || index != 0 && r.Index != index {
		return netdev.Route{}, fmt.Errorf("%w to %s", netdev.ErrNoRoute, to)
	}
	return r, nil
}

func (f *fakeNetwork) Neighbour(int, netip.Addr) (netdev.Neighbour, error) {
	state := f.neighbours[0]
	if len(f.neighbours) > 1 {
		f.neighbours = f.neighbours[1:]
	}
	return state, nil
}

const eth0Index, eth1Index = 2, 3

var eth0 = netdev.Interface{Name: "eth0", Index: eth0Index, Driver: netdev.DriverNetfront, Up: true}

func unicast(index int, gateway string) netdev.Route {
	r := netdev.Route{Index: index, Type: unix.RTN_UNICAST}
	if gateway != "" {
		r.Gateway = netip.MustParseAddr(gateway)
	}
	return r
}

var twoInterfaces = &fakeNetwork{
	gateways: []string{"192.0.2.1", "192.0.2.9", "fe80::1"},
	routes: map[string]netdev.Route{
		"192.0.2.1":    unicast(eth0Index, ""),
		"fe80::1":      unicast(eth0Index, ""),
		"fe80::7":      unicast(eth0Index, ""),
		"198.51.100.7": unicast(eth0Index, "192.0.2.1"),
		"203.0.113.7":  unicast(eth1Index, "10.0.0.1"),
		"2001:db8::7":  unicast(eth0Index, "fe80::1"),
		"192.0.2.2":    {Index: 1, Type: unix.RTN_LOCAL},
		"192.0.2.255":  {Index: eth0Index, Type: unix.RTN_BROADCAST},
		"2001:db8::":   {Index: eth0Index, Type: unix.RTN_ANYCAST},
	},
}

func TestFindDestination(t *testing.T) {
	for _, test := range []struct {
		to     string // "" for the gateway
		family Family
		want   string
		hop    string
	}{
		{"", AnyFamily, "192.0.2.1:9", "192.0.2.1"},
		{"", IPv4, "192.0.2.1:9", "192.0.2.1"},
		{"", IPv6, "[fe80::1%eth0]:9", "fe80::1"},
		{"198.51.100.7:4000", AnyFamily, "198.51.100.7:4000", "192.0.2.1"},
		{"198.51.100.7", AnyFamily, "198.51.100.7:9", "192.0.2.1"},
		{"::ffff:198.51.100.7", AnyFamily, "198.51.100.7:9", "192.0.2.1"},
		{"192.0.2.1:9", IPv4, "192.0.2.1:9", "192.0.2.1"},
		{"[2001:db8::7]:9", AnyFamily, "[2001:db8::7]:9", "fe80::1"},
		{"2001:db8::7", IPv6, "[2001:db8::7]:9", "fe80::1"},
		{"[2001:db8::7]", AnyFamily, "[2001:db8::7]:9", "fe80::1"},
		{"[fe80::7]:9", AnyFamily, "[fe80::7%eth0]:9", "fe80::7"},
		{"[fe80::7%eth0]:9", AnyFamily, "[fe80::7%eth0]:9", "fe80::7"},
	} {
		var to netip.AddrPort
		if test.to != "" {
			var err error
			if to, err = ParseAddress(test.to); err != nil {
				t.Fatalf("%s: %v", test.to, err)
			}
		}
		got, err := FindDestination(twoInterfaces, eth0, to, test.family)
		if err != nil || got.Address.String() != test.want || got.NextHop.String() != test.hop {
			t.Errorf("to %q, %v: %v by %v, %v: want %s by %s", test.to, test.family, got.Address, got.NextHop, err, test.want, test.hop)
		}
	}
}

func TestRefusals(t *testing.T) {
	for _, test := range []struct {
		to       string
		family   Family
		refused  bool // the address, not this machine
		sentence string
	}{
		{"127.0.0.1:9", AnyFamily, true, "loopback"},
		{"127.8.8.8:9", AnyFamily, true, "loopback"},
		{"::1", AnyFamily, true, "loopback"},
		{"0.0.0.0:9", AnyFamily, true, "no machine's address"},
		{"::", AnyFamily, true, "no machine's address"},
		{"224.0.0.251:5353", AnyFamily, true, "multicast"},
		{"ff02::1", AnyFamily, true, "multicast"},
		{"255.255.255.255:9", AnyFamily, true, "broadcast"},
		{"192.0.2.255:9", AnyFamily, true, "broadcast"},
		{"192.0.2.2:9", AnyFamily, true, "this machine's own"},
		{"2001:db8::", AnyFamily, true, "anycast"},
		{"192.0.2.1:9", IPv6, true, "no IPv6 address"},
		{"2001:db8::7", IPv4, true, "no IPv4 address"},
		{"fe80::7%eth1", AnyFamily, true, "on the link of eth1"},
		{"203.0.113.7:9", AnyFamily, false, "leaves by another interface (index 3) than eth0"},
		{"203.0.113.8:9", AnyFamily, false, "no route to 203.0.113.8"},
	} {
		to, err := ParseAddress(test.to)
		if err != nil {
			t.Fatalf("%s: %v", test.to, err)
		}
		_, err = FindDestination(twoInterfaces, eth0, to, test.family)
		var refused *RefusalError
		if err == nil || errors.As(err, &refused) != test.refused || errors.Is(err, trace.ErrCannotRun) == test.refused || !strings.Contains(err.Error(), test.sentence) {
			t.Errorf("%s: %v: want a refusal that says %q", test.to, err, test.sentence)
		}
	}
}

func TestGatewayRefusals(t *testing.T) {
	for _, test := range []struct {
		network  *fakeNetwork
		family   Family
		sentence string
	}{
		{&fakeNetwork{}, AnyFamily, "eth0 has no default gateway: give an address behind it with --to"},
		{&fakeNetwork{gateways: []string{"192.0.2.1"}}, IPv6, "eth0 has no default gateway of IPv6: give"},
		{&fakeNetwork{gateways: []string{"192.0.2.1"}}, AnyFamily, "no route to 192.0.2.1"},
		{&fakeNetwork{gateways: []string{"192.0.2.2"}, routes: map[string]netdev.Route{"192.0.2.2": {Index: eth0Index, Type: unix.RTN_LOCAL}}}, AnyFamily, "this machine's own"},
		{&fakeNetwork{gateways: []string{"127.0.0.1"}}, AnyFamily, "loopback"},
	} {
		_, err := FindDestination(test.network, eth0, netip.AddrPort{}, test.family)
		if !errors.Is(err, trace.ErrCannotRun) || !strings.Contains(err.Error(), test.sentence) {
			t.Errorf("gateways %v: %v: want one that says %q", test.network.gateways, err, test.sentence)
		}
	}
}

func TestParseAddressRefuses(t *testing.T) {
	for _, text := range []string{"", "localhost", "localhost:9", "192.0.2.1:", "192.0.2.1:0", "192.0.2.1:65536", "192.0.2", "[2001:db8::7]:0", ":9"} {
		if to, err := ParseAddress(text); err == nil {
			t.Errorf("%q: %v, want an error", text, to)
		}
	}
}
