package probe

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"

	"golang.org/x/sys/unix"

	"xentrace/internal/netdev"
	"xentrace/internal/trace"
)

// DiscardPort is the UDP port whose service, where there is any, throws away what it
// receives (RFC 863). Nearly every machine has none there.
const DiscardPort = 9

// A Family is a version of IP.
type Family int

// The families; AnyFamily takes IPv4 where there are both.
const (
	AnyFamily Family = 0
	IPv4      Family = 4
	IPv6      Family = 6
)

func (f Family) has(a netip.Addr) bool { return f == AnyFamily || (f == IPv4) == a.Is4() }

func (f Family) String() string { return fmt.Sprintf("IPv%d", int(f)) }

// A Network is what a probe asks a network namespace: a [netdev.Namespace].
type Network interface {
	DefaultGateways(index int) ([]netip.Addr, error)
	RouteTo(to netip.Addr, index int) (netdev.Route, error)
	Neighbour(index int, addr netip.Addr) (netdev.Neighbour, error)
}

// A Destination is where a probe is sent.
type Destination struct {
	Address netip.AddrPort
	NextHop netip.Addr // whose link address the packet needs: the gateway, or the address itself
}

// A RefusalError reports why a probe is not sent to an address.
type RefusalError struct {
	Address netip.Addr
	Reason  string
}

// Error implements the error interface.
func (e *RefusalError) Error() string {
	return fmt.Sprintf("%s: %s: name the address of one other machine", e.Address, e.Reason)
}

// ParseAddress reads ADDR:PORT, [ADDR]:PORT or an address alone, which gets
// [DiscardPort]. Names are not looked up: that would send packets, too.
func ParseAddress(text string) (netip.AddrPort, error) {
	to, err := netip.ParseAddrPort(text)
	if err != nil {
		bare := strings.TrimSuffix(strings.TrimPrefix(text, "["), "]")
		addr, bareErr := netip.ParseAddr(bare)
		if bareErr != nil {
			return netip.AddrPort{}, errors.New("not an address and a port such as 192.0.2.1:9 or [2001:db8::1]:9")
		}
		to = netip.AddrPortFrom(addr, DiscardPort)
	}
	if to.Port() == 0 {
		return netip.AddrPort{}, errors.New("port 0 cannot be sent to")
	}
	return netip.AddrPortFrom(to.Addr().Unmap(), to.Port()), nil
}

func refusal(a netip.Addr) string {
	switch {
	case a.IsUnspecified():
		return "that is no machine's address"
	case a.IsLoopback():
		return "that is a loopback address, which never leaves this machine"
	case a.IsMulticast():
		return "that is a multicast address, which many machines may listen to"
	case a == netip.AddrFrom4([4]byte{255, 255, 255, 255}):
		return "that is the broadcast address, which every machine on the link listens to"
	}
	return ""
}

func refusalOfType(kind int) string {
	switch kind {
	case unix.RTN_UNICAST:
		return ""
	case unix.RTN_LOCAL:
		return "that is one of this machine's own addresses, and what is sent there never leaves it"
	case unix.RTN_BROADCAST:
		return "that is a broadcast address, which every machine on the link listens to"
	case unix.RTN_MULTICAST:
		return "that is a multicast address, which many machines may listen to"
	case unix.RTN_ANYCAST:
		return "that is an anycast address, which several machines may have"
	}
	return "the routes do not lead there"
}

// FindDestination finds out where to send to: the address that was named, if it is
// valid, or the discard port of the interface's own default gateway. It sends nothing.
// A [RefusalError] reports what is no address of one other machine.
func FindDestination(n Network, i netdev.Interface, named netip.AddrPort, f Family) (Destination, error) {
	if named.IsValid() {
		return namedDestination(n, i, named, f)
	}
	gateways, err := n.DefaultGateways(i.Index)
	if err != nil {
		return Destination{}, err
	}
	for _, gateway := range gateways {
		if f.has(gateway) {
			return gatewayDestination(n, i, gateway)
		}
	}
	of := ""
	if f != AnyFamily {
		of = " of " + f.String()
	}
	return Destination{}, fmt.Errorf("%w: interface %s has no default gateway%s: give an address behind it with --to ADDR:PORT", trace.ErrCannotRun, i, of)
}

func gatewayDestination(n Network, i netdev.Interface, gateway netip.Addr) (Destination, error) {
	reason := refusal(gateway)
	if reason == "" {
		route, err := n.RouteTo(gateway, i.Index)
		if err != nil {
			return Destination{}, fmt.Errorf("%w: default gateway %s of interface %s: %w", trace.ErrCannotRun, gateway, i, err)
		}
		reason = refusalOfType(route.Type)
	}
	if reason != "" {
		return Destination{}, fmt.Errorf("%w: the default gateway of interface %s: %w", trace.ErrCannotRun, i, &RefusalError{gateway, reason})
	}
	return Destination{netip.AddrPortFrom(withZone(gateway, i), DiscardPort), gateway}, nil
}

// namedDestination is an address that the user named, if the way there is by the
// interface.
func namedDestination(n Network, i netdev.Interface, named netip.AddrPort, f Family) (Destination, error) {
	to := named.Addr()
	if !f.has(to) {
		return Destination{}, &RefusalError{to, fmt.Sprintf("that is no %s address", f)}
	}
	if reason := refusal(to); reason != "" {
		return Destination{}, &RefusalError{to, reason}
	}
	if zone := to.Zone(); zone != "" && zone != i.Name {
		return Destination{}, &RefusalError{to, fmt.Sprintf("that is an address on the link of %s, not of %s", zone, i)}
	}
	index := 0 // whichever interface the routes choose
	if to.IsLinkLocalUnicast() && to.Is6() {
		index = i.Index
	}
	to = to.WithZone("")
	route, err := n.RouteTo(to, index)
	if errors.Is(err, netdev.ErrNoRoute) {
		return Destination{}, fmt.Errorf("%w: there is no route to %s", trace.ErrCannotRun, to)
	}
	if err != nil {
		return Destination{}, err
	}
	if reason := refusalOfType(route.Type); reason != "" {
		return Destination{}, &RefusalError{to, reason}
	}
	if route.Index != i.Index {
		return Destination{}, fmt.Errorf("%w: the route to %s leaves by another interface (index %d) than %s: name an address behind %s, or the other interface with -i", trace.ErrCannotRun, to, route.Index, i, i)
	}
	hop := route.Gateway
	if !hop.IsValid() {
		hop = to
	}
	return Destination{netip.AddrPortFrom(withZone(to, i), named.Port()), hop}, nil
}

// withZone returns the address as sockets want it: one of the link with the link's name.
func withZone(a netip.Addr, i netdev.Interface) netip.Addr {
	if a.Is6() && a.IsLinkLocalUnicast() {
		return a.WithZone(i.Name)
	}
	return a
}
