package check

import (
	"time"

	"xentrace/internal/event"
	"xentrace/internal/kernel"
	"xentrace/internal/netdev"
	"xentrace/internal/netfront"
)

// Known is a fact, or the reason why it is not known.
type Known[T any] struct {
	Value   T
	Missing string // empty for a fact; else why there is none
}

func known[T any](value T) Known[T]         { return Known[T]{Value: value} }
func missing[T any](reason string) Known[T] { return Known[T]{Missing: reason} }

// fact is the value for evidence: nil where it is not known.
func (k Known[T]) fact() any {
	if k.Missing != "" {
		return nil
	}
	return k.Value
}

// A Machine is what was read of it.
type Machine struct {
	Release     string // of the running kernel
	NetNS       uint32 // inode number of the caller's network namespace
	Hypervisor  Hypervisor
	Interfaces  []Interface // those that were asked for, else all of xen-netfront
	Others      []Interface // the rest of the caller's namespace
	Unseen      string      // why other network namespaces were not looked at; empty if they were
	Unbound     []string    // network devices on Xen's bus without a driver, such as vif-0
	Code        Code
	Slab        Known[Slab]
	Log         Known[Log]
	SharedInfo  Known[kernel.SharedInfo]
	SinglePages Known[bool]  // whether new page fragments are; else why not known: NoSwitch, SwitchElsewhere or another reason
	Trusted     Known[Trust] // the driver's parameter
	MaxQueues   Known[int]   // the driver's parameter
	CPUs        int          // online; 0 if not known
	Uptime      time.Duration
	Sources     Known[[]Interrupt]
	PCI         []PCIDevice
	First       firstDevice // for ec2rl
	AssetTag    string      // of the board, for ec2rl
}

// An Interface is one that is judged.
type Interface struct {
	netdev.Interface
	Path     string // through which its network namespace is reached
	Features Known[netdev.Features]
	Counters Known[Counters]
	Trusted  Known[Trust] // what xenstore says
	Observed *Observation // nil unless asked for
}

// Counters are an interface's, twice.
type Counters struct {
	netdev.Counters
	Later netdev.Counters
	After time.Duration // between the two
}

// An Observation is what the tracer counted on an interface, or why it did not.
type Observation struct {
	Duration time.Duration
	Totals   event.InterfaceTotals
	Missing  string
}

// Code is what the driver's machine code shows.
type Code struct {
	Live   Known[netfront.Answer] // of the running kernel
	File   Known[File]            // of the module on disk
	Loaded string                 // build id of the loaded module, or of the kernel it is built into; empty if not shown
}

// A File is a driver on disk.
type File struct {
	Path    string
	BuildID string
	Answer  netfront.Answer
}

// concerned tells whether anything here can concern the machine: it has an
// interface of the frontend, or is a Xen guest that could have one.
func (m *Machine) concerned() bool {
	for i := range m.Interfaces {
		if m.Interfaces[i].IsNetfront() {
			return true
		}
	}
	return len(m.Unbound) > 0
}
