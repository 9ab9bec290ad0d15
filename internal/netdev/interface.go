package netdev

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// ErrNotFound is what every [NotFoundError] is.
var ErrNotFound = errors.New("interface not found")

// NotFoundError says which interface is not there, in which namespace.
type NotFoundError struct {
	Name      string // as asked for; empty where Index was asked for
	Index     int
	Namespace uint32
}

// Error implements the error interface. The name is quoted: it may hold anything.
func (e *NotFoundError) Error() string {
	if e.Name == "" && e.Index != 0 {
		return fmt.Sprintf("interface with index %d not found in network namespace %d", e.Index, e.Namespace)
	}
	return fmt.Sprintf("interface %s not found in network namespace %d", strconv.QuoteToASCII(e.Name), e.Namespace)
}

// Is makes errors.Is(err, ErrNotFound) true.
func (e *NotFoundError) Is(target error) bool { return target == ErrNotFound }

// Interface is a network interface as it was when it was asked for.
type Interface struct {
	Name      string // chosen by users: see String
	Index     int    // unique within Namespace while the interface exists
	Namespace uint32 // inode number
	// Driver is the name ethtool shows, but "xen-netfront" and "xen-netback" for
	// the two Xen drivers; empty where the kernel names none (lo).
	Driver string
	// BusInfo is where the device sits, such as "vif-0" or "0000:00:05.0".
	BusInfo string
	// Kind is the rtnetlink kind of a virtual interface ("veth", "bridge"), empty for others.
	Kind string
	MTU  int // bytes, without the link-layer header
	// Queues is how many transmit queues are in use (real_num_tx_queues); 0 if
	// that is not known, which needs CAP_SYS_ADMIN for a namespace not one's own.
	Queues       int
	HardwareAddr net.HardwareAddr
	Up           bool // IFF_UP: set up by the administrator
	Running      bool // IFF_RUNNING: up, and the carrier is there
	Loopback     bool
}

// IsNetfront tells whether the interface is driven by Xen's network frontend.
func (i Interface) IsNetfront() bool { return i.Driver == DriverNetfront }

// String returns the name, quoted if it holds anything but printable ASCII.
func (i Interface) String() string {
	for _, c := range []byte(i.Name) {
		if c <= ' ' || c > '~' || c == '"' || c == '\\' {
			return strconv.QuoteToASCII(i.Name)
		}
	}
	return i.Name
}

// Interfaces returns every interface of the namespace, ordered as the kernel has them.
func (ns *Namespace) Interfaces() ([]Interface, error) {
	release, err := ns.hold()
	if err != nil {
		return nil, err
	}
	defer release()
	links, err := ns.links()
	if err != nil {
		return nil, fmt.Errorf("interfaces of network namespace %d: %w", ns.inum, err)
	}
	list := make([]Interface, 0, len(links))
	for _, link := range links {
		iface, err := ns.describe(link)
		if errors.Is(err, ErrNotFound) {
			continue // it went while the others were looked at
		}
		if err != nil {
			return nil, err
		}
		list = append(list, iface)
	}
	return list, nil
}

// links dumps the namespace's links. The kernel marks a dump during which the
// list changed as interrupted; such a one may miss links, so ask again.
func (ns *Namespace) links() ([]netlink.Link, error) {
	for attempt := 0; ; attempt++ {
		links, err := ns.netlink.LinkList()
		if attempt < 10 && (errors.Is(err, netlink.ErrDumpInterrupted) || errors.Is(err, unix.EBUSY)) {
			continue
		}
		return links, err
	}
}

// ByName returns the interface of that name (or alternative name), or a [NotFoundError].
func (ns *Namespace) ByName(name string) (Interface, error) {
	release, err := ns.hold()
	if err != nil {
		return Interface{}, err
	}
	defer release()
	missing := &NotFoundError{Name: name, Namespace: ns.inum}
	// An IFLA_ALT_IFNAME attribute holds 128 bytes, the kernel's ALTIFNAMSIZ.
	if name == "" || len(name) >= 128 {
		return Interface{}, missing
	}
	link, err := ns.netlink.LinkByName(name)
	if err != nil {
		return Interface{}, linkError(err, missing)
	}
	return ns.describe(link)
}

// ByIndex returns the interface with that index, or a [NotFoundError].
func (ns *Namespace) ByIndex(index int) (Interface, error) {
	release, err := ns.hold()
	if err != nil {
		return Interface{}, err
	}
	defer release()
	link, err := ns.link(index)
	if err != nil {
		return Interface{}, err
	}
	return ns.describe(link)
}

// link asks for one link. Index 0 is no interface; asked for, it would be EINVAL.
func (ns *Namespace) link(index int) (netlink.Link, error) {
	missing := &NotFoundError{Index: index, Namespace: ns.inum}
	if index <= 0 {
		return nil, missing
	}
	link, err := ns.netlink.LinkByIndex(index)
	if err != nil {
		return nil, linkError(err, missing)
	}
	return link, nil
}

// linkError turns what the netlink package says of a link that is not there into missing.
func linkError(err error, missing *NotFoundError) error {
	var absent netlink.LinkNotFoundError
	if errors.As(err, &absent) || errors.Is(err, unix.ENODEV) {
		return missing
	}
	return fmt.Errorf("interface %s of network namespace %d: %w",
		strconv.QuoteToASCII(missing.Name), missing.Namespace, err)
}

// describe adds to a link what netlink does not tell: its driver and real queues.
func (ns *Namespace) describe(link netlink.Link) (Interface, error) {
	iface := ns.fromLink(link)
	driver, err := ns.driver(iface)
	if err != nil {
		return Interface{}, err
	}
	iface.Driver, iface.BusInfo = driver.name, driver.bus
	iface.Queues = ns.realQueues(iface.Name, iface.Index, link.Attrs().NumTxQueues)
	return iface, nil
}

// fromLink takes over what rtnetlink says of a link.
func (ns *Namespace) fromLink(link netlink.Link) Interface {
	attrs := link.Attrs()
	iface := Interface{
		Name: attrs.Name, Index: attrs.Index, Namespace: ns.inum, MTU: attrs.MTU, HardwareAddr: attrs.HardwareAddr,
		Up: attrs.RawFlags&unix.IFF_UP != 0, Running: attrs.RawFlags&unix.IFF_RUNNING != 0,
		Loopback: attrs.RawFlags&unix.IFF_LOOPBACK != 0,
	}
	// The netlink package calls a link without IFLA_INFO_KIND "device".
	if kind := link.Type(); kind != "device" {
		iface.Kind = kind
	}
	return iface
}

// All returns the interfaces of every namespace, in the order of [Namespaces].
// A namespace that goes meanwhile is left out. One that cannot be looked into is
// left out too, and its error is part of the error returned beside the list.
func All(ctx context.Context) ([]Interface, error) {
	found, err := Namespaces(ctx)
	if err != nil {
		return nil, err
	}
	var list []Interface
	var errs []error
	for _, f := range found {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		interfaces, err := f.interfaces()
		if err != nil && !errors.Is(err, ErrNamespaceNotFound) {
			errs = append(errs, err)
		}
		list = append(list, interfaces...)
	}
	return list, errors.Join(errs...)
}

// interfaces lists a namespace that need not stay open.
func (f Found) interfaces() ([]Interface, error) {
	ns, err := f.Open()
	if err != nil {
		return nil, err
	}
	defer ns.Close()
	return ns.Interfaces()
}
