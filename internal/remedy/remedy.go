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
	Module
	BuiltIn
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
	Queues    int
	MaxQueues int // the driver's parameter

	Driver      Driver
	Linearizes  Setting // On: the driver linearizes; Off: it drops over the limit
	SinglePages Setting // net.core.high_order_alloc_disable
	Straddles   Setting // On: some small heads straddle a page

	MemoryKB       int
	MinFreeKB      int   // vm.min_free_kbytes
	CPUs           []int // online
	NoGrants       bool  // the log says that grant references are exhausted
	NeverUnplugged bool  // xen_emul_unplug=never: the emulated NIC was not unplugged
	Irqbalance     bool  // it runs

	RecutFits bool   // of a stalled segment: its parts fit if it is re-segmented for an MTU of 1500
	Port      uint16 // of a listener
	Module    string // of another device's driver
	Device    string // another interface
}

// A Remedy is one thing to do.
type Remedy struct {
	Command string // template for a root shell: see Facts.fill; empty where no command does it
	Effect  string // a sentence
	Cost    string // a sentence; empty where it costs nothing
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
		command = "nsenter --net=" + Quote(f.Enter) + " -- " + command
	}
	return command, true
}

// fill puts values in place of {ifname}, {queues}, {cpus}, {reserve}, {port}, {module} and
// {device}.
func (f *Facts) fill(text string) string {
	if !strings.Contains(text, "{") {
		return text
	}
	return strings.NewReplacer(
		"{ifname}", Quote(f.Interface), "{queues}", strconv.Itoa(f.wantedQueues()), "{cpus}", Mask(f.CPUs),
		"{reserve}", strconv.Itoa(f.reserve()), "{port}", strconv.Itoa(int(f.Port)), "{module}", f.Module, "{device}", Quote(f.Device),
	).Replace(text)
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
