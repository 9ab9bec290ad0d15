package fix

import "xentrace/internal/remedy"

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
