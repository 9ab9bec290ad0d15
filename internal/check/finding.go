// Package check reports whether this machine is susceptible to the losses of Xen's
// network frontend, and to which: one finding for each thing that matters, with
// the evidence it stands on and advice.
//
// Reading and judging are apart. [Read] takes the facts from a [Source], each
// with the reason where it cannot be had; [Judge] looks at nothing but those
// facts. Nothing on the machine is changed.
package check

import (
	"cmp"
	"slices"

	"xentrace/internal/event"
)

// The findings, in the order they are listed in where none matters more.
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
	Receive        event.FindingID = "receive"
	EventChannels  event.FindingID = "event_channels"
	GrantTableOf   event.FindingID = "grant_table"
	Checksum       event.FindingID = "checksum"
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
		all = append(all, m.linearize(), m.kernelLog(), m.skbFrags(), m.betterDevice(), m.grantTable())
	}
	for i := range m.Interfaces {
		all = append(all, m.driver(&m.Interfaces[i]))
		if m.Interfaces[i].IsNetfront() {
			all = append(all, m.ofInterface(&m.Interfaces[i])...)
		}
	}
	all = slices.DeleteFunc(all, func(f event.Finding) bool { return f.ID == "" })
	slices.SortStableFunc(all, func(a, b event.Finding) int {
		return cmp.Or(cmp.Compare(b.Status, a.Status), cmp.Compare(slices.Index(order, a.ID), slices.Index(order, b.ID)))
	})
	return all
}

var order = []event.FindingID{Virtualization, DriverOf, LinearizeCode, ScatterGather, MTU, Offload, TxDropped, Receive, KernelLog, SkbFrags, Bounce, Checksum, Queues, Interrupts, EventChannels, GrantTableOf, BetterDevice}

func (m *Machine) ofInterface(i *Interface) []event.Finding {
	return []event.Finding{
		m.scatterGather(i), m.mtu(i), m.offload(i), m.txDropped(i), m.receive(i), m.bounce(i), m.checksum(i),
		m.queues(i), m.interrupts(i), m.eventChannels(i),
	}
}

func about(i *Interface, id event.FindingID) event.Finding {
	return event.Finding{ID: id, Interface: i.Name, NetNS: i.Namespace}
}

// InterfaceFindings is how many findings an interface has at most.
const InterfaceFindings = 11
