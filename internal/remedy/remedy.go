// Package remedy is the catalogue of what helps: each remedy once, with its command, effect,
// cost and when it applies. Nothing here looks at the machine: callers bring the facts.
package remedy

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"xentrace/internal/event"
)

// A Setting is the state of a feature or sysctl.
type Setting uint8

// The states. The zero value is not known.
const (
	NotKnown Setting = iota
	Off              // by the administrator
	On
	Absent // not offered by the backend, or not in this kernel
)

// A Driver is how xen-netfront is in this kernel.
type Driver uint8

// The drivers.
const (
	DriverNotKnown Driver = iota
	Module                // loaded
	BuiltIn
	NotLoaded // a module that is not loaded
	NoDriver  // this kernel has no such module
)

// Facts are what decides whether a remedy applies to an interface. A zero value is not known.
type Facts struct {
	Interface string // empty: for the machine
	Enter     string // path of the interface's network namespace; empty for the caller's
	MTU       int
	SG        Setting
	TSO       Setting // of IPv4
	TSO6      Setting // of IPv6
	GSO       Setting
	RPSCPUs   string // rps_cpus of the first receive queue

	Queues        int
	MaxQueues     int    // the driver's parameter
	BackendQueues int    // the most that the backend offers
	QueuesIn      string // where max_queues is set; empty for nowhere
	QueuesNext    int    // its value there, which counts after the next boot
	TrustedIn     string // where trusted=0 is set

	Driver      Driver
	Linearizes  Setting // On: the driver linearizes; Off: it drops over the limit
	SinglePages Setting // net.core.high_order_alloc_disable
	OutsideInit bool    // it is not shown here, as in each network namespace but the first
	Straddles   Setting // On: some small heads straddle a page boundary

	MemoryKB          int
	MinFreeKB         int     // vm.min_free_kbytes
	CPUs              []int   // online
	NoGrants          bool    // by the log, grant references are exhausted
	NeverUnplugged    bool    // xen_emul_unplug keeps the emulated NIC, so the driver does not bind
	Irqbalance        Setting // On: it runs; Absent: it is not installed
	IRQ               string  // an interrupt of the interface
	IRQCPU            string  // the mask of a CPU for it
	Spurious          bool    // event channels have many spurious events
	SpuriousFix       bool    // the kernel has the fix of those that the frontend makes
	SpuriousThreshold int     // of the interface's device; 0 if not known
	Vif               string  // its device, such as vif-0
	Somaxconn         int     // net.core.somaxconn

	RecutFits bool   // of a stalled segment: its parts fit if it is re-segmented for an MTU of 1500
	Port      uint16 // of a listener
	Backlog   int    // of that listener; 0 if not known
	Module    string // of another device's driver
	Loaded    bool   // that module is loaded
	Address   string // of a PCI device
	Device    string // another interface
}

// A Remedy is one thing to do.
type Remedy struct {
	Command string // template for a root shell: see Facts.fill; empty where no command does it
	Effect  string // a sentence
	Cost    string // a sentence; empty where it costs nothing
	First   bool   // the command works in the first network namespace alone
	Applies func(*Facts) bool
}

// For returns the remedies that apply, in the order given, their commands complete.
func For(f Facts, ids ...ID) []event.Advice {
	var advice []event.Advice
	for _, id := range ids {
		r, known := catalogue[id]
		if !known || r.Applies != nil && !r.Applies(&f) {
			continue
		}
		a := event.Advice{ID: string(id), Effect: f.fill(r.Effect), Cost: r.Cost}
		if command, ok := f.command(r.Command); ok {
			a.Command = command
		}
		if r.First && f.OutsideInit {
			a.Command = "nsenter --target 1 --net -- " + a.Command
		}
		advice = append(advice, a)
	}
	return advice
}

// Of returns a remedy as the catalogue has it. Its command is a template.
func Of(id ID) Remedy { return catalogue[id] }

// command completes a template; false where the facts for it are missing.
func (f *Facts) command(template string) (string, bool) {
	ofInterface := strings.Contains(template, "{ifname}")
	if ofInterface && f.Interface == "" {
		return "", false
	}
	command := f.fill(template)
	if ofInterface && f.Enter != "" {
		if strings.Contains(template, "/sys/class/net/") { // which shows the caller's interfaces
			return "", false
		}
		command = f.enter() + command
	}
	return command, true
}

// enter is how a command gets into the interface's network namespace.
func (f *Facts) enter() string {
	if f.Enter == "" {
		return ""
	}
	return "nsenter --net=" + Quote(f.Enter) + " -- "
}

// fill puts values in place of {name}. {netns} enters the interface's network namespace.
func (f *Facts) fill(text string) string {
	if !strings.Contains(text, "{") {
		return text
	}
	return strings.NewReplacer(
		"{ifname}", Quote(f.Interface), "{queues}", strconv.Itoa(f.wantedQueues()), "{cpus}", Mask(f.CPUs),
		"{reserve}", strconv.Itoa(f.reserve()), "{listener}", f.listener(), "{module}", f.Module, "{vif}", f.Vif, "{device}", Quote(f.Device),
		"{address}", f.Address, "{irq}", f.IRQ, "{irqcpu}", f.IRQCPU, "{queuesin}", f.QueuesIn, "{trustedin}", f.TrustedIn,
		"{netns}", f.enter(),
	).Replace(text)
}

// listener is a filter of ss for the listener; empty for all.
func (f *Facts) listener() string {
	if f.Port == 0 {
		return ""
	}
	return fmt.Sprintf(" 'sport = :%d'", f.Port)
}

func (f *Facts) wantedQueues() int { return min(max(len(f.CPUs), 1), 8) }

// reserve is what vm.min_free_kbytes should be: 1/32 of the memory, at most 128 MiB.
func (f *Facts) reserve() int { return min(f.MemoryKB/32, 128<<10) }

// Mask is a set of CPUs as sysfs reads it: groups of 32 bits in hexadecimal.
func Mask(cpus []int) string {
	if len(cpus) == 0 {
		return "0"
	}
	groups := make([]uint32, slices.Max(cpus)/32+1)
	for _, cpu := range cpus {
		groups[cpu/32] |= 1 << (cpu % 32)
	}
	text := strconv.FormatUint(uint64(groups[len(groups)-1]), 16)
	for i := len(groups) - 2; i >= 0; i-- {
		text += fmt.Sprintf(",%08x", groups[i])
	}
	return text
}

// Quote makes one word for a shell of a name, which may hold any byte but space, slash and
// colon.
func Quote(word string) string {
	plain := func(r rune) bool {
		return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' ||
			r == '.' || r == '_' || r == '-' || r == '@' || r == '/'
	}
	if word != "" && strings.TrimFunc(word, plain) == "" {
		return word
	}
	return "'" + strings.ReplaceAll(word, "'", `'\''`) + "'"
}
