package netdev

import (
	"errors"
	"fmt"
	"unsafe"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// AllFeatures reads every offload of an interface by the name that ethtool -k
// shows, such as tx-scatter-gather. It needs no privilege.
func (ns *Namespace) AllFeatures(index int) (map[string]Feature, error) {
	release, err := ns.hold()
	if err != nil {
		return nil, err
	}
	defer release()
	var all map[string]Feature
	err = ns.byName(index, func(name string) error {
		var err error
		all, err = readAllFeatures(ns.control, name)
		return err
	})
	return all, err
}

// SetFeatures asks for offloads of an interface to be on or off, by name, all in
// one step as ethtool -K does. It needs CAP_NET_ADMIN. The driver may
// decline silently: read [Namespace.AllFeatures] afterwards. An offload that the
// interface does not have, or that cannot be changed, is an error before anything
// is changed.
func (ns *Namespace) SetFeatures(index int, on map[string]bool) error {
	release, err := ns.hold()
	if err != nil {
		return err
	}
	defer release()
	return ns.byName(index, func(name string) error { return setFeatures(ns.control, name, on) })
}

// setFeatures uses ETHTOOL_SFEATURES (since 2.6.39); netlink has it only since 5.8.
func setFeatures(socket int, name string, on map[string]bool) error {
	bits, err := featureNames(socket, name)
	if err != nil {
		return err
	}
	blocks, err := featureBlocks(socket, name)
	if err != nil {
		return err
	}
	// struct ethtool_sfeatures; its size must be the kernel's own.
	request := struct {
		cmd, size uint32
		blocks    [maxFeatures / 32]struct{ valid, requested uint32 }
	}{cmd: unix.ETHTOOL_SFEATURES, size: uint32(len(blocks))}
	for feature, want := range on {
		bit, known := bits[feature]
		if !known || bit/32 >= len(blocks) {
			return fmt.Errorf("%s: there is no such feature: %w", feature, unix.EOPNOTSUPP)
		}
		mask := uint32(1) << (bit % 32)
		if block := blocks[bit/32]; block.available&mask == 0 || block.neverChanged&mask != 0 {
			return fmt.Errorf("%s: the feature cannot be changed: %w", feature, unix.EOPNOTSUPP)
		}
		request.blocks[bit/32].valid |= mask
		if want {
			request.blocks[bit/32].requested |= mask
		}
	}
	if err := ethtoolIoctl(socket, name, unsafe.Pointer(&request)); err != nil {
		return fmt.Errorf("ETHTOOL_SFEATURES: %w", err)
	}
	return nil
}

// SetMTU sets the MTU of an interface in bytes. It needs CAP_NET_ADMIN, and fails
// with EINVAL where the driver does not take it: xen-netfront takes no more than
// 1500 while scatter-gather is off.
func (ns *Namespace) SetMTU(index, mtu int) error {
	release, err := ns.hold()
	if err != nil {
		return err
	}
	defer release()
	attrs := netlink.NewLinkAttrs()
	attrs.Index = index
	err = ns.netlink.LinkSetMTU(&netlink.Device{LinkAttrs: attrs}, mtu)
	if errors.Is(err, unix.ENODEV) {
		return &NotFoundError{Index: index, Namespace: ns.inum}
	}
	if err != nil {
		return fmt.Errorf("MTU %d: %w", mtu, err)
	}
	return nil
}
