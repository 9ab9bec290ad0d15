package fix

// A rule says when a step is called for.
type rule struct {
	step string
	when func(*situation) bool
}

// rules are in the order of the actions.
var rules = []rule{
	{"single-pages", func(s *situation) bool { return s.drops() && !s.single && s.singleOpen != noSwitch }},
	{"tso-gso-off", func(s *situation) bool {
		return s.drops() && s.singleOpen == noSwitch && !s.sgOff && !(s.tsoOff && s.gsoOff)
	}},
	{"sg-on", func(s *situation) bool { return s.sgOff && (s.linearizes() || s.drops() && s.canBeSingle()) }},
	{"tso-gso-on", func(s *situation) bool { return s.linearizes() && (s.tsoOff || s.gsoOff) }},
	{"mtu-1500", func(s *situation) bool { return s.drops() && s.iface.MTU > plainMTU }},
	{"mtu-65517", func(s *situation) bool { return s.linearizes() && s.iface.MTU > largestMTU }},
	{"update-kernel", func(s *situation) bool { return s.drops() }},
}

// An objection says when a step would do harm, or nothing, and why. Those that
// force does not help against are final.
type objection struct {
	step   string // a name, or "mtu-" for each that begins so
	when   func(*situation, *change) bool
	reason string
	final  bool
}

var objections = []objection{
	{"single-pages", func(s *situation, _ *change) bool { return s.singleOpen == noSwitch },
		"This kernel has no such setting.", true},
	{"single-pages", func(s *situation, _ *change) bool { return s.singleOpen == switchElsewhere },
		"The setting belongs to the whole machine and is not shown in this network namespace, that of a container perhaps. Run xentrace fix on the machine itself, or enter its first namespace: nsenter --target 1 --net.", true},
	{"", func(s *situation, c *change) bool { return c.sysctl == "" && s.otherDriver },
		"The interface is not driven by xen-netfront, for which the steps are meant.", false},
	{"sg-on", func(s *situation, _ *change) bool { return s.sgMissing },
		"It is asked for already, and the backend does not offer it: that is to be changed in dom0.", true},
	{"sg-on", func(s *situation, _ *change) bool { return s.drops() && !s.single },
		"This driver drops packets of more than 18 slots, and scatter-gather off keeps them away from it: the step single-pages has to come first.", false},
	{"sg-off", func(s *situation, _ *change) bool { return s.crossing },
		"On this kernel the buffers of some small packets cross a page, and those packets are dropped while scatter-gather is off.", false},
	{"sg-off", func(s *situation, _ *change) bool { return s.linearizes() },
		"This driver copies packets over the limit and sends them: there is nothing to work around, and scatter-gather off only costs.", false},
	{"sg-off", func(s *situation, _ *change) bool { return s.crossingOpen },
		"Whether small packets are dropped on this kernel while scatter-gather is off is not known; root can find out.", false},
	{"tso-gso-off", func(s *situation, _ *change) bool { return s.linearizes() },
		"This driver copies packets over the limit and sends them: there is nothing to work around, and it costs much processor time.", false},
	{"tso-gso-on", func(s *situation, _ *change) bool { return s.drops() && !s.single },
		"This driver drops packets of more than 18 slots, and large packets are those that need them: the step single-pages has to come first.", false},
	{"mtu-", func(s *situation, c *change) bool { return c.mtu > largestMTU },
		"Frames of more than 65535 bytes would get through to the driver, which drops them.", false},
	{"mtu-", func(s *situation, c *change) bool { return c.mtu > plainMTU && (s.sgOff || s.sgMissing) },
		"Without scatter-gather the driver takes no MTU above 1500.", false},
	{"mtu-", func(s *situation, c *change) bool { return c.mtu > plainMTU && s.drops() },
		"With an MTU above 1500 a single segment of small pieces can need more than 18 slots. This driver drops it, each time it is sent again too, and the connection hangs.", false},
}
