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

// ErrNotFound matches every [NotFoundError].
var ErrNotFound = errors.New("interface not found")

// NotFoundError names an interface that does not exist in a namespace.
type NotFoundError struct {
	Name      string // as looked up; empty if looked up by Index
	Index     int
	Namespace uint32
}

// Error implements the error interface. The name is quoted: it is untrusted.
func (e *NotFoundError) Error() string {
	if e.Name == "" && e.Index != 0 {
		return fmt.Sprintf("interface with index %d not found in network namespace %d", e.Index, e.Namespace)
	}
	return fmt.Sprintf("interface %s not found in network namespace %d", strconv.QuoteToASCII(e.Name), e.Namespace)
}

// Is makes errors.Is(err, ErrNotFound) true.
func (e *NotFoundError) Is(target error) bool { return target == ErrNotFound }

// Interface is the state of a network interface when it was read.
type Interface struct {
	Name      string // chosen by users: see String
	Index     int    // unique within Namespace while the interface exists
	Namespace uint32 // inode number
	// Driver is the name ethtool shows, but "xen-netfront" and "xen-netback" for
	// the two Xen drivers; empty if there is none (lo).
	Driver string
	// BusInfo is the bus address, such as "vif-0" or "0000:00:05.0".
	BusInfo string
	// Kind is the rtnetlink kind of a virtual interface ("veth", "bridge"), empty for others.
	Kind string
	MTU  int // bytes, without the link-layer header
	// Queues is real_num_tx_queues; 0 if unknown: another namespace's needs
	// CAP_SYS_ADMIN.
	Queues       int
	HardwareAddr net.HardwareAddr
	Up           bool // IFF_UP: set up by the administrator
	Running      bool // IFF_RUNNING: up and with carrier
	Loopback     bool
}

// IsNetfront reports whether the driver is xen-netfront.
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
			continue // deleted meanwhile
		}
		if err != nil {
			return nil, err
		}
		list = append(list, iface)
	}
	return list, nil
}

// links dumps the namespace's links, again if the list changed during the dump: such a
// dump may miss links.
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

// link reads one link. Index 0 would be EINVAL.
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

// linkError maps the netlink package's errors for a missing link to missing.
func linkError(err error, missing *NotFoundError) error {
	var absent netlink.LinkNotFoundError
	if errors.As(err, &absent) || errors.Is(err, unix.ENODEV) {
		return missing
	}
	return fmt.Errorf("interface %s of network namespace %d: %w",
		strconv.QuoteToASCII(missing.Name), missing.Namespace, err)
}

// describe adds what rtnetlink does not report: driver and real_num_tx_queues.
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

// All returns the interfaces of every namespace, in the order of [Namespaces]. It omits
// namespaces that end meanwhile, and those that cannot be opened, whose errors it
// returns along with the list.
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

func (f Found) interfaces() ([]Interface, error) {
	ns, err := f.Open()
	if err != nil {
		return nil, err
	}
	defer ns.Close()
	return ns.Interfaces()
}
