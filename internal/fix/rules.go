package fix

import (
	"xentrace/internal/check"
	"xentrace/internal/remedy"
)

// A rule says when a step is planned.
type rule struct {
	step remedy.ID
	when func(*situation) bool
}

// rules are in the order of the actions.
var rules = []rule{
	{remedy.SinglePages, func(s *situation) bool { return s.drops() && !s.single() && s.SinglePages != remedy.Absent }},
	{remedy.OffloadOff, func(s *situation) bool {
		return s.drops() && s.SinglePages == remedy.Absent && s.SG != remedy.Off && s.SG != remedy.Absent && s.applies(remedy.OffloadOff)
	}},
	{remedy.SGOn, func(s *situation) bool { return s.sgOff() && (s.linearizes() || s.drops() && s.canBeSingle()) }},
	{remedy.OffloadOn, func(s *situation) bool { return s.linearizes() && s.applies(remedy.OffloadOn) }},
	{remedy.MTU1500, func(s *situation) bool { return s.drops() && s.MTU > plainMTU }},
	{remedy.MTU65517, func(s *situation) bool { return s.linearizes() && s.MTU > largestMTU }},
	{remedy.UpdateKernel, func(s *situation) bool { return s.drops() }},
}

// An objection says when a step would do harm, or nothing, and why. --force does not override
// a final one.
type objection struct {
	step   remedy.ID // or "mtu-" for each that begins so, or "" for all of an interface
	when   func(*situation, *change) bool
	reason string
	final  bool
}

var objections = []objection{
	{remedy.SinglePages, func(s *situation, _ *change) bool { return s.SinglePages == remedy.Absent },
		"This kernel has no such setting.", true},
	{remedy.SinglePages, func(s *situation, _ *change) bool { return s.switchElsewhere },
		"The setting belongs to the whole machine and is not visible in this network namespace, perhaps a container's. Run xentrace fix on the host, or in its initial namespace: nsenter --target 1 --net.", true},
	{"", func(s *situation, c *change) bool { return c.sysctl == "" && s.otherDriver },
		"The interface is not driven by xen-netfront.", false},
	{remedy.SGOn, func(s *situation, _ *change) bool { return s.SG == remedy.Absent },
		"It is requested already, and the backend does not offer it: change that in dom0.", true},
	{remedy.SGOn, func(s *situation, _ *change) bool { return s.drops() && !s.single() },
		"This driver drops packets over 18 slots, which scatter-gather allows. Run the step single-pages first.", false},
	{remedy.SGOff, func(s *situation, _ *change) bool { return s.Straddles == remedy.On },
		"On this kernel some small heads straddle a page, and those packets are dropped while scatter-gather is off.", false},
	{remedy.SGOff, func(s *situation, _ *change) bool { return s.linearizes() },
		"This driver linearizes: there is nothing to work around, and scatter-gather off costs CPU.", false},
	{remedy.SGOff, func(s *situation, _ *change) bool { return s.Straddles == remedy.NotKnown },
		"Whether this kernel drops small packets while scatter-gather is off is unknown; root can find out.", false},
	{remedy.OffloadOff, func(s *situation, _ *change) bool { return s.linearizes() },
		"This driver linearizes: there is nothing to work around, and it costs much CPU.", false},
	{remedy.OffloadOn, func(s *situation, _ *change) bool { return s.drops() && !s.single() },
		"This driver drops packets over 18 slots, and large packets need them. Run the step single-pages first.", false},
	{"mtu-", func(s *situation, c *change) bool { return c.mtu > largestMTU },
		"Frames over 65,535 bytes would reach the driver, which drops them.", false},
	{"mtu-", func(s *situation, c *change) bool { return c.mtu > plainMTU && (s.sgOff() || s.SG == remedy.Absent) },
		"Without scatter-gather the driver accepts no MTU above 1500.", false},
	{"mtu-", func(s *situation, c *change) bool { return c.mtu > plainMTU && s.drops() },
		"With an MTU above 1500 one segment of small fragments can need over 18 slots. This driver drops it and every retransmission, and the connection stalls.", false},
}

// A situation is the facts about one interface, as the rules ask for them.
type situation struct {
	remedy.Facts
	iface *check.Interface

	switchElsewhere bool // net.core is not shown in this network namespace
	otherDriver     bool
}

func (s *situation) drops() bool      { return s.Linearizes == remedy.Off }
func (s *situation) linearizes() bool { return s.Linearizes == remedy.On }
func (s *situation) single() bool     { return s.SinglePages == remedy.On }
func (s *situation) sgOff() bool      { return s.SG == remedy.Off }

// applies reports whether the remedy would change something here.
func (s *situation) applies(id remedy.ID) bool { return remedy.Of(id).Applies(&s.Facts) }

// canBeSingle reports that the switch is there.
func (s *situation) canBeSingle() bool { return s.single() || s.SinglePages == remedy.Off }

// situations are one for each interface that is checked.
func situations(m *check.Machine) []*situation {
	var all []*situation
	for n := range m.Interfaces {
		i := &m.Interfaces[n]
		all = append(all, &situation{
			Facts: m.FactsOf(i), iface: i, otherDriver: !i.IsNetfront(), switchElsewhere: m.SinglePages.Missing == check.SwitchElsewhere,
		})
	}
	return all
}

// has reports which features can be changed, of those that check reads.
func (s *situation) has() map[string]bool {
	f := s.iface.Features.Value
	return map[string]bool{
		"tx-scatter-gather": f.ScatterGather.Changeable, "tx-tcp-segmentation": f.TSO.Changeable,
		"tx-tcp6-segmentation": f.TSO6.Changeable, "tx-generic-segmentation": f.GSO.Changeable,
	}
}
