package netdev

import (
	"errors"
	"io/fs"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

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
