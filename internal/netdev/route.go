package netdev

import (
	"cmp"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// ErrNoRoute reports that the namespace has no way to an address.
var ErrNoRoute = errors.New("no route")

// A Route is how packets to one address leave.
type Route struct {
	Index   int        // of the interface they leave by
	Gateway netip.Addr // whom they are given to; not valid if that is the address itself
	Type    int        // RTN_UNICAST, RTN_LOCAL, RTN_BROADCAST, ...
}

// RouteTo asks the namespace how packets to an address leave, by that interface if
// index is not 0, which an address of one link wants. It fails with [ErrNoRoute].
func (ns *Namespace) RouteTo(to netip.Addr, index int) (Route, error) {
	release, err := ns.hold()
	if err != nil {
		return Route{}, err
	}
	defer release()
	var options *netlink.RouteGetOptions
	if index != 0 {
		options = &netlink.RouteGetOptions{OifIndex: index}
	}
	routes, err := ns.netlink.RouteGetWithOptions(to.AsSlice(), options)
	switch {
	// A route that forbids has an error of its own: prohibit, blackhole.
	case errors.Is(err, unix.ENETUNREACH), errors.Is(err, unix.EHOSTUNREACH), errors.Is(err, unix.EACCES), errors.Is(err, unix.EINVAL):
		return Route{}, fmt.Errorf("%w to %s", ErrNoRoute, to)
	case err != nil:
		return Route{}, fmt.Errorf("route to %s: %w", to, err)
	case len(routes) == 0:
		return Route{}, fmt.Errorf("%w to %s", ErrNoRoute, to)
	}
	r := &routes[0]
	return Route{Index: r.LinkIndex, Gateway: gatewayOf(r.Gw, r.Via), Type: r.Type}, nil
}

// DefaultGateways returns the gateways of the main table's default routes that
// leave by an interface: those of IPv4 first, each family's in the order of its metrics.
func (ns *Namespace) DefaultGateways(index int) ([]netip.Addr, error) {
	release, err := ns.hold()
	if err != nil {
		return nil, err
	}
	defer release()
	var all []netip.Addr
	for _, family := range []int{netlink.FAMILY_V4, netlink.FAMILY_V6} {
		routes, err := ns.routes(family)
		if err != nil {
			return nil, fmt.Errorf("routes of network namespace %d: %w", ns.inum, err)
		}
		slices.SortStableFunc(routes, func(a, b netlink.Route) int { return cmp.Compare(a.Priority, b.Priority) })
		for i := range routes {
			for _, gateway := range gatewaysBy(&routes[i], index) {
				if !slices.Contains(all, gateway) {
					all = append(all, gateway)
				}
			}
		}
	}
	return all, nil
}

func (ns *Namespace) routes(family int) ([]netlink.Route, error) {
	for attempt := 0; ; attempt++ {
		routes, err := ns.netlink.RouteListFiltered(family, &netlink.Route{Table: unix.RT_TABLE_MAIN}, netlink.RT_FILTER_TABLE)
		if attempt < 10 && errors.Is(err, netlink.ErrDumpInterrupted) {
			continue
		}
		return routes, err
	}
}

func gatewaysBy(r *netlink.Route, index int) []netip.Addr {
	if r.Dst != nil {
		if ones, _ := r.Dst.Mask.Size(); ones != 0 {
			return nil
		}
	}
	if r.Type != unix.RTN_UNICAST {
		return nil
	}
	var found []netip.Addr
	if gateway := gatewayOf(r.Gw, r.Via); r.LinkIndex == index && gateway.IsValid() {
		found = append(found, gateway)
	}
	for _, hop := range r.MultiPath {
		if gateway := gatewayOf(hop.Gw, hop.Via); hop.LinkIndex == index && gateway.IsValid() {
			found = append(found, gateway)
		}
	}
	return found
}

// gatewayOf returns a route's gateway; that of an IPv4 route may have an IPv6 address.
func gatewayOf(gw net.IP, via netlink.Destination) netip.Addr {
	if v, ok := via.(*netlink.Via); ok && gw == nil {
		gw = v.Addr
	}
	addr, _ := netip.AddrFromSlice(gw)
	return addr.Unmap()
}

// Neighbour is what the namespace knows of the link address of one on its links.
type Neighbour int

// What can be known.
const (
	NeighbourUnknown    Neighbour = iota // nobody asked, or the link has no link addresses
	NeighbourAsked                       // asked for, and not answered yet
	NeighbourUnanswered                  // asked for in vain
	NeighbourKnown                       // packets to it are sent at once
)

// Neighbour looks an address up among the neighbours on an interface's link.
func (ns *Namespace) Neighbour(index int, addr netip.Addr) (Neighbour, error) {
	release, err := ns.hold()
	if err != nil {
		return 0, err
	}
	defer release()
	family := netlink.FAMILY_V6
	if addr.Is4() {
		family = netlink.FAMILY_V4
	}
	list, err := ns.netlink.NeighList(index, family)
	if err != nil && !errors.Is(err, netlink.ErrDumpInterrupted) {
		return 0, fmt.Errorf("neighbours in network namespace %d: %w", ns.inum, err)
	}
	for i := range list {
		if entry, ok := netip.AddrFromSlice(list[i].IP); !ok || entry.Unmap() != addr.WithZone("") {
			continue
		}
		switch state := list[i].State; {
		case state&unix.NUD_INCOMPLETE != 0:
			return NeighbourAsked, nil
		case state&unix.NUD_FAILED != 0:
			return NeighbourUnanswered, nil
		case state != unix.NUD_NONE:
			return NeighbourKnown, nil
		}
	}
	return NeighbourUnknown, nil
}
