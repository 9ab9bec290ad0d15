// Package facts reads from the machine what decides which remedies apply.
package facts

import (
	"context"
	"io/fs"
	"os"
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
	number := func(name string) (int, bool) {
		n, err := strconv.Atoi(text(files, name))
		return n, err == nil
	}
	var f remedy.Facts
	if n, known := number("proc/sys/net/core/high_order_alloc_disable"); known {
		f.SinglePages = setting(n != 0)
	} else if text(files, "proc/sys/net/core/netdev_max_backlog") != "" { // its neighbour, in every kernel
		f.SinglePages = remedy.Absent
	}
	f.MinFreeKB, _ = number("proc/sys/vm/min_free_kbytes")
	f.MaxQueues, _ = number("sys/module/xen_netfront/parameters/max_queues")
	for line := range strings.Lines(text(files, "proc/meminfo")) {
		if fields := strings.Fields(line); len(fields) > 1 && fields[0] == "MemTotal:" {
			f.MemoryKB, _ = strconv.Atoi(fields[1])
		}
	}
	f.CPUs = CPUList(text(files, "sys/devices/system/cpu/online"))
	switch _, err := fs.Stat(files, "sys/module/xen_netfront"); {
	case err != nil:
	case text(files, "sys/module/xen_netfront/initstate") != "":
		f.Driver = remedy.Module
	default: // a built-in driver has parameters there, and no state
		f.Driver = remedy.BuiltIn
	}
	for option := range strings.FieldsSeq(text(files, "proc/cmdline")) {
		f.NeverUnplugged = f.NeverUnplugged || option == "xen_emul_unplug=never"
	}
	return f
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
	namespace, err := netdev.Current()
	if err != nil {
		return f
	}
	if namespace.Inum() != d.NetNS {
		_ = namespace.Close()
		if namespace, err = netdev.OpenNamespace(context.Background(), d.NetNS); err != nil {
			return f
		}
	}
	defer func() { _ = namespace.Close() }()
	i, err := namespace.ByIndex(d.Index)
	if err != nil {
		return f
	}
	features, err := namespace.Features(d.Index)
	if err != nil {
		return Interface(f, i, nil)
	}
	return Interface(f, i, &features)
}
