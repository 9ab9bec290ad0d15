package network

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// An End is one end of a veth pair.
type End struct {
	Namespace *Namespace
	Name      string
	Addresses []netip.Prefix
}

// Join makes a veth pair between two namespaces, sets it up, gives it its
// addresses, and makes the ends known to each other, so that nobody has to ask
// for a neighbour.
func Join(a, b End, mtu int) error {
	err := a.Namespace.Do(func() error {
		attrs := netlink.NewLinkAttrs()
		attrs.Name, attrs.MTU = a.Name, mtu
		return netlink.LinkAdd(&netlink.Veth{
			LinkAttrs: attrs, PeerName: b.Name, PeerMTU: uint32(mtu), PeerNamespace: netlink.NsFd(b.Namespace.Fd()),
		})
	})
	if err != nil {
		return fmt.Errorf("veth pair %s and %s: %w", a.Name, b.Name, err)
	}
	if err := errors.Join(a.raise(), b.raise()); err != nil {
		return err
	}
	return Acquaint(a, b)
}

// raise sets the end and the loopback interface up and gives the end its
// addresses.
func (e End) raise() error {
	err := e.Namespace.Do(func() error {
		e.silence()
		for _, name := range []string{"lo", e.Name} {
			link, err := netlink.LinkByName(name)
			if err != nil {
				return err
			}
			if err := netlink.LinkSetUp(link); err != nil {
				return err
			}
		}
		return e.address()
	})
	if err != nil {
		return fmt.Errorf("interface %s: %w", e.Name, err)
	}
	return nil
}

// silence switches IPv6 off where no address of it is wanted: the kernel
// announces its groups otherwise. Where that cannot be written a few packets
// more are all that comes of it.
func (e End) silence() {
	if !slices.ContainsFunc(e.Addresses, func(p netip.Prefix) bool { return p.Addr().Is6() }) {
		_ = os.WriteFile("/proc/sys/net/ipv6/conf/"+e.Name+"/disable_ipv6", []byte("1"), 0)
	}
}

// address gives the end its addresses, at once and without asking whether
// others have them.
func (e End) address() error {
	link, err := netlink.LinkByName(e.Name)
	if err != nil {
		return err
	}
	for _, prefix := range e.Addresses {
		mask := net.CIDRMask(prefix.Bits(), prefix.Addr().BitLen())
		address := &netlink.Addr{IPNet: &net.IPNet{IP: prefix.Addr().AsSlice(), Mask: mask}, Flags: unix.IFA_F_NODAD}
		if err := netlink.AddrAdd(link, address); err != nil {
			return fmt.Errorf("address %s: %w", prefix, err)
		}
	}
	return nil
}

// Acquaint makes the ends of a pair known to each other as neighbours. Join has
// done it; it is lost when an end is set down.
func Acquaint(a, b End) error {
	return errors.Join(a.know(b), b.know(a))
}

func (e End) know(other End) error {
	hardware, err := other.hardware()
	if err != nil {
		return err
	}
	return e.Namespace.Do(func() error {
		link, err := netlink.LinkByName(e.Name)
		if err != nil {
			return fmt.Errorf("interface %s: %w", e.Name, err)
		}
		for _, prefix := range other.Addresses {
			family := netlink.FAMILY_V4
			if prefix.Addr().Is6() {
				family = netlink.FAMILY_V6
			}
			err := netlink.NeighSet(&netlink.Neigh{
				LinkIndex: link.Attrs().Index, Family: family, State: netlink.NUD_PERMANENT,
				IP: prefix.Addr().AsSlice(), HardwareAddr: hardware,
			})
			if err != nil {
				return fmt.Errorf("neighbour %s: %w", prefix.Addr(), err)
			}
		}
		return nil
	})
}

func (e End) hardware() (address net.HardwareAddr, err error) {
	err = e.Namespace.Do(func() error {
		link, err := netlink.LinkByName(e.Name)
		if err != nil {
			return fmt.Errorf("interface %s: %w", e.Name, err)
		}
		address = link.Attrs().HardwareAddr
		return nil
	})
	return address, err
}

// Remove deletes the pair that e is an end of.
func (e End) Remove() error {
	return e.Namespace.Do(func() error {
		link, err := netlink.LinkByName(e.Name)
		if err != nil {
			return fmt.Errorf("interface %s: %w", e.Name, err)
		}
		if err := netlink.LinkDel(link); err != nil {
			return fmt.Errorf("interface %s: %w", e.Name, err)
		}
		return nil
	})
}

// Transmitted returns the packets that the interface itself counted as sent,
// and those it counted as dropped.
func (e End) Transmitted() (sent, dropped uint64, err error) {
	err = e.Namespace.Do(func() error {
		link, err := netlink.LinkByName(e.Name)
		if err != nil {
			return fmt.Errorf("interface %s: %w", e.Name, err)
		}
		counters := link.Attrs().Statistics
		if counters == nil {
			return fmt.Errorf("interface %s: no counters", e.Name)
		}
		sent, dropped = counters.TxPackets, counters.TxDropped
		return nil
	})
	return sent, dropped, err
}
