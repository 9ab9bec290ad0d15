package check

import (
	"fmt"
	"slices"
	"strings"

	"xentrace/internal/event"
)

// The findings, in the order they are told in where none matters more.
const (
	Virtualization event.FindingID = "virtualization"
	DriverOf       event.FindingID = "driver"
	LinearizeCode  event.FindingID = "linearize"
	ScatterGather  event.FindingID = "scatter_gather"
	MTU            event.FindingID = "mtu"
	Offload        event.FindingID = "offload"
	TxDropped      event.FindingID = "tx_dropped"
	KernelLog      event.FindingID = "kernel_log"
	SkbFrags       event.FindingID = "skb_frags"
	Bounce         event.FindingID = "bounce"
	Queues         event.FindingID = "queues"
	Interrupts     event.FindingID = "interrupts"
	BetterDevice   event.FindingID = "better_device"
)

// Worst returns the most serious status among the findings.
func Worst(findings []event.Finding) event.Status {
	worst := event.OK
	for i := range findings {
		worst = max(worst, findings[i].Status)
	}
	return worst
}

// Judge says what the facts mean, what matters most first.
func Judge(m *Machine) []event.Finding {
	var all []event.Finding
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
	all = slices.DeleteFunc(all, func(f event.Finding) bool { return f.ID == "" })
	slices.SortStableFunc(all, func(a, b event.Finding) int {
		if a.Status != b.Status {
			return int(b.Status) - int(a.Status)
		}
		return slices.Index(order, a.ID) - slices.Index(order, b.ID)
	})
	return all
}

var order = []event.FindingID{Virtualization, DriverOf, LinearizeCode, ScatterGather, MTU, Offload, TxDropped, KernelLog, SkbFrags, Bounce, Queues, Interrupts, BetterDevice}

// ofInterface is everything about one interface of the frontend.
func (m *Machine) ofInterface(i *Interface) []event.Finding {
	return []event.Finding{
		m.scatterGather(i), m.mtu(i), m.offload(i), m.txDropped(i), m.bounce(i), m.queues(i), m.interrupts(i),
	}
}

// about begins a finding about an interface.
func about(i *Interface, id event.FindingID) event.Finding {
	return event.Finding{ID: id, Interface: i.Name, NetNS: i.Namespace}
}

// advise completes advice for an interface: its name, and the way into its
// network namespace where that is not the caller's.
func (m *Machine) advise(i *Interface, advice ...event.Advice) []event.Advice {
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
			complete[n].Command = "nsenter --net=" + event.Quote(i.Path) + " -- " + complete[n].Command
		}
	}
	return complete
}

// adviseAll completes advice for every interface of the frontend.
func (m *Machine) adviseAll(advice []event.Advice) []event.Advice {
	var complete []event.Advice
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
func (i *Interface) already(a event.Advice) bool {
	return i.MTU <= plainMTU && strings.HasSuffix(a.Command, fmt.Sprintf(" mtu %d", plainMTU))
}
