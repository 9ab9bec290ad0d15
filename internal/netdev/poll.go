package netdev

import (
	"errors"
	"fmt"
	"net"
	"strings"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// Bounds of what is read of one namespace, in which any user may have made interfaces.
const (
	maxLinks     = 1024 // that are watched
	maxDescribed = 64   // appeared or changed, in one reading; the others in the next
)

// skipStats is RTEXT_FILTER_SKIP_STATS of include/uapi/linux/rtnetlink.h.
const skipStats = 1 << 3

// A polled is a namespace as it was read last. Nothing of it is held open.
type polled struct {
	cookie uint64            // distinguishes a namespace from a later one with its inode number; 0 before 5.14
	known  map[int]Interface // reported state, by index
}

// poll reads a namespace, and returns what changed since the last time, with an error for
// interfaces that are not watched. The namespace is open only meanwhile.
func (p *polled) poll(f Found) ([]Event, error) {
	cookie, links, skipped, err := f.links()
	if err != nil {
		return nil, err
	}
	var events []Event
	if cookie != p.cookie {
		events, p.cookie = p.gone(f.Inum), cookie
	}
	changed, err := p.describe(f, links)
	for n := range changed {
		changed[n].Namespace = f.Inum
	}
	events = append(events, changed...)
	if err != nil {
		return events, err
	}
	present := make(map[int]bool, len(links))
	for _, link := range links {
		present[link.Index] = true
	}
	events = append(events, p.forget(f.Inum, func(index int) bool { return !present[index] })...)
	if skipped > 0 {
		err = fmt.Errorf("it has %d interfaces, of which %d are not watched", len(links)+skipped, skipped)
	}
	return events, err
}

// describe returns what changed of the links, at most of maxDescribed. It opens the namespace
// if any did.
func (p *polled) describe(f Found, links []Interface) (events []Event, err error) {
	var ns *Namespace
	defer func() {
		if ns != nil {
			err = errors.Join(err, ns.Close())
		}
	}()
	described := 0
	for _, link := range links {
		before, known := p.known[link.Index]
		if known && same(before, link) {
			continue
		}
		if described == maxDescribed {
			break
		}
		described++
		if ns == nil {
			if ns, err = f.Open(); err != nil {
				return events, err
			}
		}
		now, err := ns.ByIndex(link.Index)
		if errors.Is(err, ErrNotFound) {
			continue // deleted meanwhile
		}
		if err != nil {
			return events, err
		}
		p.known[now.Index] = now
		events = append(events, changes(before, now)...)
	}
	return events, nil
}

// forget forgets the interfaces for which gone is true, and returns that they disappeared.
func (p *polled) forget(inum uint32, gone func(index int) bool) (events []Event) {
	for index, last := range p.known {
		if gone(index) {
			delete(p.known, index)
			events = append(events, Event{Kind: Disappeared, Namespace: inum, Interface: last})
		}
	}
	return events
}

// gone forgets all of them.
func (p *polled) gone(inum uint32) []Event {
	return p.forget(inum, func(int) bool { return true })
}

// changes returns what happened to an interface; the zero Interface was not there before.
func changes(before, now Interface) (events []Event) {
	if before.Index == 0 {
		return []Event{{Kind: Appeared, Interface: now}}
	}
	if before.Name != now.Name {
		events = append(events, Event{Kind: Renamed, Interface: now, Previous: before})
		before.Name = now.Name
	}
	if !same(before, now) {
		events = append(events, Event{Kind: Changed, Interface: now, Previous: before})
	}
	return events
}

// links reads the first maxLinks interfaces of the namespace, and how many more it has.
func (f Found) links() (cookie uint64, links []Interface, skipped int, err error) {
	ns, err := openBare(f.Path, f.Inum)
	if err != nil {
		return 0, nil, 0, err
	}
	err = ns.Do(func() (err error) {
		if cookie, err = currentCookie(); err == nil {
			links, skipped, err = currentLinks(f.Inum)
		}
		return err
	})
	if err := errors.Join(err, ns.Close()); err != nil {
		return 0, nil, 0, fmt.Errorf("network namespace %d: %w", f.Inum, err)
	}
	return cookie, links, skipped, nil
}

// currentCookie returns the cookie of the thread's namespace, 0 where there are none.
func currentCookie() (uint64, error) {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return 0, fmt.Errorf("socket: %w", err)
	}
	cookie, err := unix.GetsockoptUint64(fd, unix.SOL_SOCKET, unix.SO_NETNS_COOKIE)
	if errors.Is(err, unix.ENOPROTOOPT) || errors.Is(err, unix.EINVAL) {
		err = nil
	}
	return cookie, errors.Join(err, unix.Close(fd))
}

// currentLinks dumps the links of the thread's namespace, again if they changed meanwhile:
// such a dump may miss links. It keeps no more than maxLinks.
func currentLinks(inum uint32) (links []Interface, skipped int, err error) {
	for range 4 {
		links, skipped = nil, 0
		request := nl.NewNetlinkRequest(unix.RTM_GETLINK, unix.NLM_F_DUMP)
		request.AddData(nl.NewIfInfomsg(unix.AF_UNSPEC))
		request.AddData(nl.NewRtAttr(unix.IFLA_EXT_MASK, nl.Uint32Attr(skipStats)))
		failure := error(nil)
		err = request.ExecuteIter(unix.NETLINK_ROUTE, unix.RTM_NEWLINK, func(message []byte) bool {
			if len(links) == maxLinks {
				skipped++
				return true
			}
			link, err := parseLink(inum, message)
			failure = err
			links = append(links, link)
			return err == nil
		})
		err = errors.Join(err, failure)
		if !errors.Is(err, nl.ErrDumpInterrupted) && !errors.Is(err, unix.EBUSY) {
			return links, skipped, err
		}
	}
	return links, skipped, err
}

// parseLink leaves out the driver and the queues, which rtnetlink does not report.
func parseLink(inum uint32, message []byte) (Interface, error) {
	if len(message) < unix.SizeofIfInfomsg {
		return Interface{}, fmt.Errorf("netlink message of %d bytes: too short for a link", len(message))
	}
	info := nl.DeserializeIfInfomsg(message)
	attributes, err := nl.ParseRouteAttr(message[unix.SizeofIfInfomsg:])
	if err != nil {
		return Interface{}, fmt.Errorf("netlink message: %w", err)
	}
	link := Interface{
		Index: int(info.Index), Namespace: inum,
		Up: info.Flags&unix.IFF_UP != 0, Running: info.Flags&unix.IFF_RUNNING != 0, Loopback: info.Flags&unix.IFF_LOOPBACK != 0,
	}
	for _, a := range attributes {
		switch {
		case a.Attr.Type == unix.IFLA_IFNAME:
			link.Name = strings.TrimRight(string(a.Value), "\x00")
		case a.Attr.Type == unix.IFLA_ADDRESS && !isZero(a.Value):
			link.HardwareAddr = net.HardwareAddr(a.Value)
		case a.Attr.Type == unix.IFLA_MTU && len(a.Value) == 4:
			link.MTU = int(nl.NativeEndian().Uint32(a.Value))
		}
	}
	return link, nil
}

// isZero reports an address that the netlink package leaves out.
func isZero(address []byte) bool {
	for _, b := range address {
		if b != 0 {
			return false
		}
	}
	return true
}
