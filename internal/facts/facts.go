// Package facts reads from the machine what decides which remedies apply.
package facts

import (
	"io/fs"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"xentrace/internal/event"
	"xentrace/internal/netdev"
	"xentrace/internal/remedy"
)

// Machine reads the facts about the machine; what cannot be read is not known. files is its
// root.
func Machine(files fs.FS) remedy.Facts {
	var f remedy.Facts
	if n, known := number(files, "proc/sys/net/core/high_order_alloc_disable"); known {
		f.SinglePages = setting(n != 0)
	} else if there(files, "proc/sys/net/core/netdev_max_backlog") { // its neighbour, in every kernel
		f.SinglePages = remedy.Absent
	} else { // other network namespaces show some of this directory
		f.OutsideInit = there(files, "proc/sys/net/core/somaxconn")
	}
	f.MinFreeKB, _ = number(files, "proc/sys/vm/min_free_kbytes")
	f.Somaxconn, _ = number(files, "proc/sys/net/core/somaxconn")
	f.MaxQueues, _ = number(files, "sys/module/xen_netfront/parameters/max_queues")
	for line := range strings.Lines(text(files, "proc/meminfo")) {
		if fields := strings.Fields(line); len(fields) > 1 && fields[0] == "MemTotal:" {
			f.MemoryKB, _ = strconv.Atoi(fields[1])
		}
	}
	f.CPUs = CPUList(text(files, "sys/devices/system/cpu/online"))
	f.Driver = driver(files)
	f.NeverUnplugged = staysPlugged(files)
	f.Irqbalance = irqbalance(files)
	f.SpuriousFix = hasSpuriousFix(version(files))
	var next string
	f.QueuesIn, next = Option(files, f.Driver, "max_queues")
	f.QueuesNext, _ = strconv.Atoi(next)
	if place, value := Option(files, f.Driver, "trusted"); slices.Contains(untrusted, value) {
		f.TrustedIn = place
	}
	return f
}

// untrusted are the spellings of false that the kernel reads.
var untrusted = []string{"0", "n", "N", "no", "off"}

func driver(files fs.FS) remedy.Driver {
	switch {
	case there(files, "sys/module/xen_netfront/initstate"):
		return remedy.Module
	case there(files, "sys/module/xen_netfront"): // a built-in driver has parameters there, and no state
		return remedy.BuiltIn
	case there(files, "sys/module"):
		if lacksModule(files) {
			return remedy.NoDriver
		}
		return remedy.NotLoaded
	}
	return remedy.DriverNotKnown
}

// lacksModule reports whether the modules of the running kernel are there, without the driver's.
func lacksModule(files fs.FS) bool {
	release := text(files, "proc/sys/kernel/osrelease")
	for _, root := range []string{"lib/modules/", "usr/lib/modules/"} {
		if modules := text(files, root+release+"/modules.dep"); modules != "" {
			return !strings.Contains(modules, "/xen-netfront.ko")
		}
	}
	return false
}

// staysPlugged reports whether the kernel command line keeps the emulated NIC of an HVM guest,
// by the rules of xen_has_pv_nic_devices.
func staysPlugged(files fs.FS) bool {
	if kind := text(files, "sys/hypervisor/guest_type"); kind == "PV" || kind == "PVH" {
		return false
	}
	words, given := commandLine(files, "xen_emul_unplug")
	unplug := strings.Split(words, ",")
	any := func(names ...string) bool {
		return slices.ContainsFunc(unplug, func(word string) bool { return slices.Contains(names, word) })
	}
	return given && !any("all", "nics") && (any("never") || any("ide-disks", "aux-ide-disks") && !any("unnecessary"))
}

// irqbalance reports whether it runs, by what its service and it itself leave.
func irqbalance(files fs.FS) remedy.Setting {
	switch {
	case text(files, "sys/fs/cgroup/system.slice/irqbalance.service/cgroup.procs") != "", there(files, "run/irqbalance"), there(files, "run/irqbalance.pid"):
		return remedy.On
	case there(files, "usr/sbin/irqbalance"), there(files, "sbin/irqbalance"):
		if there(files, "run/systemd/system") { // else systemctl does not start it
			return remedy.Off
		}
		return remedy.NotKnown
	case there(files, "usr/sbin"):
		return remedy.Absent
	}
	return remedy.NotKnown
}

func there(files fs.FS, name string) bool {
	_, err := fs.Stat(files, name)
	return err == nil
}

func number(files fs.FS, name string) (int, bool) {
	n, err := strconv.Atoi(text(files, name))
	return n, err == nil
}

func text(files fs.FS, name string) string {
	content, err := fs.ReadFile(files, name)
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(content))
}

func setting(on bool) remedy.Setting {
	if on {
		return remedy.On
	}
	return remedy.Off
}

// maxCPUs bounds a list; Linux has at most 8,192.
const maxCPUs = 8192

// CPUList reads a list such as "0-2,4"; nil if it is none.
func CPUList(list string) []int {
	var cpus []int
	for part := range strings.SplitSeq(list, ",") {
		low, high, ranged := strings.Cut(part, "-")
		first, err := strconv.Atoi(low)
		last := first
		if err == nil && ranged {
			last, err = strconv.Atoi(high)
		}
		if err != nil || first < 0 || last < first || last >= maxCPUs {
			return nil
		}
		if len(cpus)+last-first >= maxCPUs { // a list that repeats itself
			return nil
		}
		for cpu := first; cpu <= last; cpu++ {
			cpus = append(cpus, cpu)
		}
	}
	return cpus
}

// Interface adds what is known of an interface. features may be nil.
func Interface(f remedy.Facts, i netdev.Interface, features *netdev.Features) remedy.Facts {
	f.Interface, f.MTU, f.Queues = i.Name, i.MTU, i.Queues
	if features == nil {
		return f
	}
	f.SG, f.GSO = Feature(features.ScatterGather), Feature(features.GSO)
	f.TSO, f.TSO6 = Feature(features.TSO), Feature(features.TSO6)
	return f
}

// RPS is rps_cpus of an interface's first receive queue, in the namespace that /sys shows.
func RPS(files fs.FS, name string) string {
	return strings.TrimLeft(text(files, "sys/class/net/"+name+"/queues/rx-0/rps_cpus"), "0,")
}

// Feature is the state of an offload. One that is requested and not active, or that ethtool
// cannot change, is not there.
func Feature(f netdev.Feature) remedy.Setting {
	switch {
	case f.Active:
		return remedy.On
	case f.Requested || !f.Changeable:
		return remedy.Absent
	}
	return remedy.Off
}

// lifetime is how long facts are reused: many flows may stall at once.
const lifetime = 2 * time.Second

// A Cache reads the facts about interfaces of the running machine when they are needed.
type Cache struct {
	// Linearizes reports whether the driver linearizes, once that is known; may be nil.
	Linearizes func() remedy.Setting

	mu     sync.Mutex
	device event.Device // that was asked about last
	facts  remedy.Facts
	read   time.Time
}

// Of returns the facts about an interface.
func (c *Cache) Of(d event.Device) remedy.Facts {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.device != d || time.Since(c.read) >= lifetime {
		c.device, c.read = d, time.Now()
		c.facts = ofDevice(d)
	}
	if c.Linearizes != nil {
		c.facts.Linearizes = c.Linearizes()
	}
	return c.facts
}

// ofDevice reads them. The interface may be in another network namespace, or gone.
func ofDevice(d event.Device) remedy.Facts {
	f := Machine(os.DirFS("/"))
	f.Interface = d.Name
	_ = onDevice(d, func(ns *netdev.Namespace, own bool) error {
		if own {
			f.RPSCPUs = RPS(os.DirFS("/"), d.Name)
		} else {
			f.Enter = ns.Path()
		}
		i, err := ns.ByIndex(d.Index)
		if err != nil {
			return err
		}
		features, err := ns.Features(d.Index)
		if err != nil {
			f = Interface(f, i, nil)
			return err
		}
		f = Interface(f, i, &features)
		return nil
	})
	return f
}

// hasSpuriousFix reports whether a release has "xen/netfront: Fix TX response spurious interrupts":
// 6.17 and the stable releases. Every kernel of such a release has it; one of another may have it
// too, which only its code shows.
func hasSpuriousFix(version string) bool {
	numbers := make([]int, 3)
	for n, text := range strings.SplitN(version, ".", 3) {
		digits := len(text) - len(strings.TrimLeft(text, "0123456789"))
		numbers[n], _ = strconv.Atoi(text[:digits])
	}
	switch major, minor, patch := numbers[0], numbers[1], numbers[2]; {
	case major == 6 && minor == 1:
		return patch >= 149
	case major == 6 && minor == 12:
		return patch >= 43
	default:
		return major > 6 || major == 6 && minor >= 17
	}
}

// version is the kernel's version: Debian's uname -r has its own numbers, and the version is in
// /proc/version.
func version(files fs.FS) string {
	if _, after, is := strings.Cut(text(files, "proc/version"), " Debian "); is {
		version, _, _ := strings.Cut(after, "-")
		return version
	}
	return text(files, "proc/sys/kernel/osrelease")
}
