package netdev

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Feature is the state of one offload of an interface.
type Feature struct {
	Active     bool // what the kernel does now
	Requested  bool // what the administrator requested
	Changeable bool // whether ethtool -K can change it
}

// Features are the offloads that decide how a packet reaches the driver.
type Features struct {
	ScatterGather Feature // tx-scatter-gather: packets of more than one fragment (NETIF_F_SG)
	TSO           Feature // tx-tcp-segmentation: TCP over IPv4 cut by the device (NETIF_F_TSO)
	TSO6          Feature // tx-tcp6-segmentation (NETIF_F_TSO6)
	GSO           Feature // tx-generic-segmentation: cut in software right before the driver (NETIF_F_GSO)
}

// Features reads the offloads of an interface. It needs no privilege.
func (ns *Namespace) Features(index int) (Features, error) {
	release, err := ns.hold()
	if err != nil {
		return Features{}, err
	}
	defer release()
	var features Features
	err = ns.byName(index, func(name string) error {
		var err error
		features, err = readFeatures(ns.control, name)
		return err
	})
	return features, err
}

// byName runs ask with the interface's name, since ethtool's ioctls take no index, and
// retries if the interface was renamed meanwhile. ETHTOOL_MSG_FEATURES_GET, which takes
// an index, came with 5.8.
func (ns *Namespace) byName(index int, ask func(name string) error) error {
	missing := &NotFoundError{Index: index, Namespace: ns.inum}
	for range 10 {
		name, err := nameOf(ns.control, index)
		if errors.Is(err, unix.ENODEV) || errors.Is(err, unix.ENXIO) {
			return missing
		}
		if err != nil {
			return fmt.Errorf("interface with index %d in network namespace %d: SIOCGIFNAME: %w", index, ns.inum, err)
		}
		err = ask(name)
		if now, lookup := indexOf(ns.control, name); lookup != nil || now != index {
			continue // renamed or deleted meanwhile
		}
		if err != nil {
			return fmt.Errorf("interface with index %d in network namespace %d: ethtool: %w", index, ns.inum, err)
		}
		return nil
	}
	return missing
}

func nameOf(socket, index int) (string, error) {
	// struct ifreq, with the index where SIOCGIFNAME looks for it.
	request := struct {
		name  [unix.IFNAMSIZ]byte
		index int32
		rest  [20]byte
	}{index: int32(index)}
	if err := ioctl(socket, unix.SIOCGIFNAME, unsafe.Pointer(&request)); err != nil {
		return "", err
	}
	return unix.ByteSliceToString(request.name[:]), nil
}

func indexOf(socket int, name string) (int, error) {
	request, err := unix.NewIfreq(name)
	if err != nil {
		return 0, err
	}
	if err := unix.IoctlIfreq(socket, unix.SIOCGIFINDEX, request); err != nil {
		return 0, err
	}
	return int(request.Uint32()), nil
}

// maxFeatures bounds the feature bits read: NETDEV_FEATURE_COUNT is at most 64
// up to 7.x, and the kernel wants room for all it has.
const maxFeatures = 256

// From linux/ethtool.h: the string set that names the features, ETH_SS_FEATURES,
// and the room of one string, ETH_GSTRING_LEN.
const (
	stringsFeatures = 4
	stringLength    = 32
)

// featureBlock is struct ethtool_get_features_block: 32 features.
type featureBlock struct{ available, requested, active, neverChanged uint32 }

func readFeatures(socket int, name string) (Features, error) {
	all, err := readAllFeatures(socket, name)
	return Features{
		ScatterGather: all["tx-scatter-gather"],
		TSO:           all["tx-tcp-segmentation"],
		TSO6:          all["tx-tcp6-segmentation"],
		GSO:           all["tx-generic-segmentation"],
	}, err
}

// readAllFeatures reads the features' names, whose order differs between kernels, and
// their bits.
func readAllFeatures(socket int, name string) (map[string]Feature, error) {
	names, err := featureNames(socket, name)
	if err != nil {
		return nil, err
	}
	blocks, err := featureBlocks(socket, name)
	if err != nil {
		return nil, err
	}
	all := make(map[string]Feature, len(names))
	for feature, bit := range names {
		if feature == "" || bit/32 >= len(blocks) {
			continue // unused bits have no name
		}
		block, mask := blocks[bit/32], uint32(1)<<(bit%32)
		all[feature] = Feature{
			Active:     block.active&mask != 0,
			Requested:  block.requested&mask != 0,
			Changeable: block.available&mask != 0 && block.neverChanged&mask == 0,
		}
	}
	return all, nil
}

// featureBlocks returns as many blocks as this kernel has.
func featureBlocks(socket int, name string) ([]featureBlock, error) {
	reply := struct {
		cmd, size uint32
		blocks    [maxFeatures / 32]featureBlock
	}{cmd: unix.ETHTOOL_GFEATURES, size: maxFeatures / 32}
	if err := ethtoolIoctl(socket, name, unsafe.Pointer(&reply)); err != nil {
		return nil, fmt.Errorf("ETHTOOL_GFEATURES: %w", err)
	}
	return reply.blocks[:min(int(reply.size), len(reply.blocks))], nil
}

// featureNames returns the bit of each feature by its name.
func featureNames(socket int, name string) (map[string]int, error) {
	count := struct {
		cmd, reserved uint32
		mask          uint64
		length        uint32
	}{cmd: unix.ETHTOOL_GSSET_INFO, mask: 1 << stringsFeatures}
	if err := ethtoolIoctl(socket, name, unsafe.Pointer(&count)); err != nil {
		return nil, fmt.Errorf("ETHTOOL_GSSET_INFO: %w", err)
	}
	if count.mask == 0 || count.length > maxFeatures {
		return nil, fmt.Errorf("ETHTOOL_GSSET_INFO: %d features", count.length)
	}
	reply := struct {
		cmd, set, length uint32
		names            [maxFeatures][stringLength]byte
	}{cmd: unix.ETHTOOL_GSTRINGS, set: stringsFeatures, length: count.length}
	if err := ethtoolIoctl(socket, name, unsafe.Pointer(&reply)); err != nil {
		return nil, fmt.Errorf("ETHTOOL_GSTRINGS: %w", err)
	}
	names := make(map[string]int, count.length)
	for bit := range min(int(reply.length), int(count.length)) {
		names[unix.ByteSliceToString(reply.names[bit][:])] = bit
	}
	return names, nil
}

func ethtoolIoctl(socket int, name string, command unsafe.Pointer) error {
	request := struct {
		name [unix.IFNAMSIZ]byte
		data unsafe.Pointer
		rest [16]byte
	}{data: command}
	if len(name) >= len(request.name) {
		return unix.ENODEV
	}
	copy(request.name[:], name)
	return ioctl(socket, unix.SIOCETHTOOL, unsafe.Pointer(&request))
}

// ioctl is the system call. The pointer is converted in the call itself, so that the
// garbage collector and stack growth do not move what it points to.
func ioctl(fd int, command uintptr, argument unsafe.Pointer) error {
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), command, uintptr(argument)); errno != 0 {
		return errno
	}
	return nil
}

// The names [Interface.Driver] has for the two ends of a Xen virtual interface.
const (
	DriverNetfront = "xen-netfront"
	DriverNetback  = "xen-netback"
)

type driver struct{ name, bus string }

// driver asks ethtool for the interface's driver. A device whose driver does not
// answer ETHTOOL_GDRVINFO is described by the core from the driver it is bound to
// or, since 5.18 or so, from its rtnetlink kind; the kind stands in before that.
func (ns *Namespace) driver(iface Interface) (driver, error) {
	var found driver
	err := ns.byName(iface.Index, func(name string) error {
		info, err := unix.IoctlGetEthtoolDrvinfo(ns.control, name)
		if errors.Is(err, unix.EOPNOTSUPP) {
			found = driver{name: iface.Kind}
			return nil
		}
		if err != nil {
			return err
		}
		found = driver{unix.ByteSliceToString(info.Driver[:]), unix.ByteSliceToString(info.Bus_info[:])}
		return nil
	})
	if err != nil {
		return driver{}, err
	}
	found.name = xenDriver(found, os.DirFS("/sys"))
	return found, nil
}

// xenDriver gives the two Xen drivers their names. Both call themselves "vif", the
// xenbus device type, and leave ETHTOOL_GDRVINFO to the core. The frontend's
// device is "vif-HANDLE" on the bus "xen", the backend's "vif-DOMAIN-HANDLE" on
// "xen-backend". The part of sysfs that lists a bus is the same in every
// namespace, so where it is there it must know the device.
func xenDriver(d driver, sys fs.FS) string {
	numbers, ok := strings.CutPrefix(d.bus, "vif-")
	if d.name != "vif" || !ok {
		return d.name
	}
	name, bus := DriverNetfront, "xen"
	if domain, handle, both := strings.Cut(numbers, "-"); both {
		if !decimal(domain) || !decimal(handle) {
			return d.name
		}
		name, bus = DriverNetback, "xen-backend"
	} else if !decimal(numbers) {
		return d.name
	}
	devices := "bus/" + bus + "/devices"
	if _, err := fs.Stat(sys, devices); err != nil {
		return name // no sysfs to ask
	}
	if _, err := fs.Stat(sys, devices+"/"+d.bus); errors.Is(err, fs.ErrNotExist) {
		return d.name
	}
	return name
}

func decimal(s string) bool {
	return s != "" && strings.Trim(s, "0123456789") == ""
}
