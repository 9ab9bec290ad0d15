package check

import (
	"fmt"
	"slices"
	"strings"

	"xentrace/internal/verdict"
)

// A Status says how a finding is to be taken. The larger, the more it matters.
type Status uint8

const (
	// OK means that nothing is wrong.
	OK Status = iota
	// Unknown means that it cannot be told; the message says why.
	Unknown
	// Warn means that something costs speed, or loses packets under conditions.
	Warn
	// Fail means that packets are lost, or will be with ordinary traffic.
	Fail
)

// Statuses lists every status, the most serious first.
func Statuses() []Status { return []Status{Fail, Warn, Unknown, OK} }

// String is the word of the JSON output.
func (s Status) String() string { return [...]string{"OK", "UNKNOWN", "WARN", "FAIL"}[s] }

// An ID names what a finding is about. Scripts rely on it.
type ID string

// The findings, in the order they are told in where none matters more.
const (
	Virtualization ID = "virtualization"
	DriverOf       ID = "driver"
	LinearizeCode  ID = "linearize"
	ScatterGather  ID = "scatter_gather"
	MTU            ID = "mtu"
	Offload        ID = "offload"
	TxDropped      ID = "tx_dropped"
	KernelLog      ID = "kernel_log"
	SkbFrags       ID = "skb_frags"
	Bounce         ID = "bounce"
	Queues         ID = "queues"
	Interrupts     ID = "interrupts"
	BetterDevice   ID = "better_device"
)

// A Finding is what is to be said about one thing, of the machine or of one of
// its interfaces.
type Finding struct {
	ID        ID
	Status    Status
	Interface string // empty for the machine
	NetNS     uint32 // inode number of the interface's network namespace; 0 for the machine
	Message   string // whole sentences
	Evidence  []Fact
	Advice    []verdict.Advice // commands are complete
}

// A Fact is one piece of evidence.
type Fact struct {
	Key   string // in snake_case, with its unit
	Value any    // a string, a number, a bool, or nil for what is not known
}

// A Report is everything that one check has to say.
type Report struct {
	Findings []Finding
	EC2RL    []Opinion // nil unless asked for
}

// Fact returns the value of a piece of evidence; nil if it is not known or not
// there.
func (f *Finding) Fact(key string) any {
	for _, fact := range f.Evidence {
		if fact.Key == key {
			return fact.Value
		}
	}
	return nil
}

// Worst returns the most serious status among the findings.
func Worst(findings []Finding) Status {
	worst := OK
	for i := range findings {
		worst = max(worst, findings[i].Status)
	}
	return worst
}

// Judge says what the facts mean, what matters most first.
func Judge(m *Machine) []Finding {
	var all []Finding
	all = append(all, m.virtualization(), m.otherDrivers())
	if m.concerned() {
		all = append(all, m.linearize(), m.kernelLog(), m.skbFrags(), m.betterDevice())
	}
	for i := range m.Interfaces {
		all = append(all, m.driver(&m.Interfaces[i]))
		if m.Interfaces[i].IsNetfront() {
			all = append(all, m.ofInterface(&m.Interfaces[i])...)
		}
	}
	all = slices.DeleteFunc(all, func(f Finding) bool { return f.ID == "" })
	slices.SortStableFunc(all, func(a, b Finding) int {
		if a.Status != b.Status {
			return int(b.Status) - int(a.Status)
		}
		return slices.Index(order, a.ID) - slices.Index(order, b.ID)
	})
	return all
}

var order = []ID{Virtualization, DriverOf, LinearizeCode, ScatterGather, MTU, Offload, TxDropped, KernelLog, SkbFrags, Bounce, Queues, Interrupts, BetterDevice}

// ofInterface is everything about one interface of the frontend.
func (m *Machine) ofInterface(i *Interface) []Finding {
	return []Finding{
		m.scatterGather(i), m.mtu(i), m.offload(i), m.txDropped(i), m.bounce(i), m.queues(i), m.interrupts(i),
	}
}

// about begins a finding about an interface.
func about(i *Interface, id ID) Finding {
	return Finding{ID: id, Interface: i.Name, NetNS: i.Namespace}
}

// advise completes advice for an interface: its name, and the way into its
// network namespace where that is not the caller's.
func (m *Machine) advise(i *Interface, advice ...verdict.Advice) []verdict.Advice {
	complete := slices.Clone(advice)
	for n, a := range complete {
		if a.Command == "" || !a.OfInterface() {
			continue
		}
		complete[n].Command = a.For(i.Name)
		switch {
		case i.Namespace == m.NetNS || i.Path == "":
		case strings.Contains(a.Command, "/sys/"): // which shows the caller's interfaces
			complete[n].Command = ""
		default:
			complete[n].Command = "nsenter --net=" + verdict.Quote(i.Path) + " -- " + complete[n].Command
		}
	}
	return complete
}

// adviseAll completes advice for every interface of the frontend.
func (m *Machine) adviseAll(advice []verdict.Advice) []verdict.Advice {
	var complete []verdict.Advice
	for _, a := range advice {
		if !a.OfInterface() {
			if !m.done(a) {
				complete = append(complete, a)
			}
			continue
		}
		for i := range m.Interfaces {
			if m.Interfaces[i].IsNetfront() && !m.Interfaces[i].already(a) {
				complete = append(complete, m.advise(&m.Interfaces[i], a)...)
			}
		}
	}
	return complete
}

// already tells that the advice would change nothing.
func (i *Interface) already(a verdict.Advice) bool {
	return i.MTU <= plainMTU && strings.HasSuffix(a.Command, fmt.Sprintf(" mtu %d", plainMTU))
}
