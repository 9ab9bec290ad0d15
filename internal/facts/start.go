package facts

import (
	"context"
	"io/fs"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"xentrace/internal/event"
	"xentrace/internal/netdev"
)

// Start describes this machine and the watched interfaces, for a reader elsewhere. What
// cannot be read is left out. uptime is CLOCK_BOOTTIME.
func Start(watched []event.InterfaceTotals, uptime time.Duration) *event.Start {
	files := os.DirFS("/")
	s := &event.Start{
		Time: time.Now(), Format: event.Format, Segment: 1, Uptime: uptime,
		BootID: text(files, "proc/sys/kernel/random/boot_id"), Xen: xen(files),
	}
	s.Hostname, _ = os.Hostname()
	var name unix.Utsname
	if unix.Uname(&name) == nil {
		s.Kernel, s.Machine = unix.ByteSliceToString(name.Release[:]), unix.ByteSliceToString(name.Machine[:])
	}
	for _, argument := range os.Args {
		s.Command = append(s.Command, strings.ToValidUTF8(argument, "\uFFFD"))
	}
	for i := range watched {
		s.Interfaces = append(s.Interfaces, startInterface(&watched[i]))
	}
	return s
}

func xen(files fs.FS) *event.Xen {
	if text(files, "sys/hypervisor/type") != "xen" {
		return nil
	}
	x := &event.Xen{Type: text(files, "sys/hypervisor/guest_type")}
	if major := text(files, "sys/hypervisor/version/major"); major != "" {
		x.Version = major + "." + text(files, "sys/hypervisor/version/minor") + text(files, "sys/hypervisor/version/extra")
	}
	return x
}

func startInterface(t *event.InterfaceTotals) event.StartInterface {
	s := event.StartInterface{Device: t.Device, Driver: t.Driver, Queues: t.Queues}
	_ = onDevice(t.Device, func(ns *netdev.Namespace, _ bool) error {
		i, err := ns.ByIndex(t.Index)
		if err != nil {
			return err
		}
		s.MTU = i.MTU
		features, err := ns.Features(t.Index)
		if err == nil {
			s.Features = map[string]bool{
				"scatter_gather": features.ScatterGather.Active, "tso": features.TSO.Active, "tso6": features.TSO6.Active, "gso": features.GSO.Active,
			}
		}
		return err
	})
	return s
}

// onDevice calls f with the network namespace of an interface, and whether that is the
// caller's own.
func onDevice(d event.Device, f func(ns *netdev.Namespace, own bool) error) error {
	namespace, err := netdev.Current()
	if err != nil {
		return err
	}
	own := namespace.Inum() == d.NetNS
	if !own {
		_ = namespace.Close()
		if namespace, err = netdev.OpenNamespace(context.Background(), d.NetNS); err != nil {
			return err
		}
	}
	defer func() { _ = namespace.Close() }() // it was only read
	return f(namespace, own)
}
