package check

import (
	"slices"
	"time"

	"xentrace/internal/event"
	"xentrace/internal/facts"
	"xentrace/internal/kernel"
	"xentrace/internal/netdev"
	"xentrace/internal/netfront"
	"xentrace/internal/remedy"
)

// Known is a fact, or the reason why it is not known.
type Known[T any] struct {
	Value   T
	Missing string // empty for a fact; else why there is none
}

func known[T any](value T) Known[T]         { return Known[T]{Value: value} }
func missing[T any](reason string) Known[T] { return Known[T]{Missing: reason} }

// tried is the value, or why there is none.
func tried[T any](value T, err error) Known[T] {
	if err != nil {
		return missing[T](why(err))
	}
	return known(value)
}

// fact is the value for evidence: nil where it is not known.
func (k Known[T]) fact() any {
	if k.Missing != "" {
		return nil
	}
	return k.Value
}

// orNull is the value for evidence: nil where it is zero or empty, and so not known.
func orNull[T comparable](value T) any {
	if value == *new(T) {
		return nil
	}
	return value
}

// A Machine is what was read of it.
type Machine struct {
	Release     string // of the running kernel
	NetNS       uint32 // inode number of the caller's network namespace
	Hypervisor  Hypervisor
	Interfaces  []Interface // those that were asked for, else all of xen-netfront
	Others      []Interface // the rest of the caller's namespace
	Unseen      string      // why other network namespaces were not looked at; empty if they were
	Vifs        []string    // network devices on Xen's bus, such as vif-0
	Unbound     []string    // those without a driver
	NoBus       bool        // /sys does not show any bus
	Code        Code
	Slab        Known[Slab]
	Log         Known[Log]
	SharedInfo  Known[kernel.SharedInfo]
	SinglePages Known[bool]  // whether new page fragments are; else why not known: NoSwitch, SwitchElsewhere or another reason
	Trusted     Known[Trust] // the driver's parameter
	MaxQueues   Known[int]   // the driver's parameter
	Facts       remedy.Facts // of the machine, for remedies
	Uptime      time.Duration
	Sources     Known[[]Interrupt]
	Affinity    map[string][]int // CPUs, by the interrupt's number
	PCI         Known[[]PCIDevice]
	Grants      GrantTable
	Origins     []Origin    // of settings of interfaces
	Forwards    bool        // net.ipv4.ip_forward of the caller's network namespace
	First       firstDevice // for ec2rl
	AssetTag    string      // of the board, for ec2rl
}

// An Interface is one that is judged.
type Interface struct {
	netdev.Interface
	Path     string // through which its network namespace is reached
	Features Known[netdev.Features]
	Counters Known[Counters]
	Trusted  Known[Trust] // by xenstore
	Observed *Observation // nil unless asked for
	Events   Known[netdev.EventChannels]
	Backend  Known[Backend] // of netfront; zero where xenstore does not name it
	RPSCPUs  string         // rps_cpus of the first receive queue; empty for none
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

// concerned reports whether anything here can concern the machine: it has an
// interface of the frontend, or is a Xen guest that could have one.
func (m *Machine) concerned() bool {
	return len(m.Unbound) > 0 || slices.ContainsFunc(m.Interfaces, func(i Interface) bool { return i.IsNetfront() })
}

// cpus is how many CPUs are online; 0 if that is not known.
func (m *Machine) cpus() int { return len(m.Facts.CPUs) }

// FactsOf returns what decides which remedies apply: to an interface, or to the machine if i is
// nil.
func (m *Machine) FactsOf(i *Interface) remedy.Facts {
	f := m.Facts
	switch m.Code.linearizes() {
	case netfront.Linearizes:
		f.Linearizes = remedy.On
	case netfront.Drops:
		f.Linearizes = remedy.Off
	}
	f.SpuriousFix = f.SpuriousFix || m.Code.Live.Missing == "" && m.Code.Live.Value.LeavesResponses
	f.Straddles = map[straddling]remedy.Setting{straddleNever: remedy.Off, straddleSome: remedy.On}[m.straddling()]
	f.NoGrants = len(m.entries(noGrants, true)) > 0
	if i == nil {
		return f
	}
	var features *netdev.Features
	if i.Features.Missing == "" {
		features = &i.Features.Value
	}
	f = facts.Interface(f, i.Interface, features)
	f = withBackend(f, &i.Backend)
	f.RPSCPUs = i.RPSCPUs
	if i.Namespace != m.NetNS {
		f.Enter = i.Path
	}
	return f
}

func (m *Machine) advise(i *Interface, ids ...remedy.ID) []event.Advice {
	return remedy.For(m.FactsOf(i), ids...)
}

func (m *Machine) adviseAll(ids ...remedy.ID) []event.Advice {
	var all []event.Advice
	for i := range m.Interfaces {
		if m.Interfaces[i].IsNetfront() {
			all = event.AppendAdvice(all, m.advise(&m.Interfaces[i], ids...)...)
		}
	}
	if len(m.Interfaces) == 0 {
		return remedy.For(m.FactsOf(nil), ids...)
	}
	return all
}
