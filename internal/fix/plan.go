package fix

import (
	"fmt"
	"slices"
	"strings"

	"xentrace/internal/check"
	"xentrace/internal/event"
	"xentrace/internal/netdev"
	"xentrace/internal/remedy"
)

// A Plan is the steps for a machine, in the order in which they are done.
type Plan struct {
	Steps []Step
	// Left names the findings that are not OK and that no step here is about, such
	// as "queues eth0".
	Left []string
	// Unknown means that too little is known to plan everything; a sentence.
	Unknown string
	// Unseen is why other network namespaces were not examined; empty if they were.
	Unseen string

	interfaces []Identity
	machine    *check.Machine
}

// A Choice is what the user asked for.
type Choice struct {
	Steps []string // only these, whether anything calls for them or not; all that are called for if empty
	Force bool     // also those that do harm here
}

// NewPlan makes the plan from the facts that check read. findings are named in Plan.Left.
func NewPlan(m *check.Machine, findings []event.Finding, choice Choice) (*Plan, error) {
	p := &planner{machine: m, situations: situations(m), choice: choice}
	plan := &Plan{Unseen: m.Unseen, machine: m}
	for _, s := range p.situations {
		plan.interfaces = append(plan.interfaces, IdentityOf(s.iface.Interface))
	}
	todo := actions
	if len(choice.Steps) > 0 {
		var err error
		if todo, err = chosen(choice.Steps); err != nil {
			return nil, err
		}
	}
	for _, a := range todo {
		plan.Steps = append(plan.Steps, p.steps(a)...)
	}
	if len(choice.Steps) == 0 {
		plan.Left, plan.Unknown = left(findings), p.unknown()
	}
	return plan, nil
}

// chosen returns the actions of these names in the order of all actions.
func chosen(names []string) ([]action, error) {
	var list []action
	for _, name := range names {
		a, err := actionNamed(name)
		if err != nil {
			return nil, fmt.Errorf("step %q: %w", name, err)
		}
		if !slices.ContainsFunc(list, func(other action) bool { return other.name == name }) {
			list = append(list, a)
		}
	}
	rank := func(a action) int {
		if a.change.mtu != 0 {
			a.name = "mtu-1500"
		}
		return slices.IndexFunc(actions, func(other action) bool { return other.name == a.name })
	}
	slices.SortStableFunc(list, func(a, b action) int { return rank(a) - rank(b) })
	return list, nil
}

type planner struct {
	machine    *check.Machine
	situations []*situation
	choice     Choice
}

// steps makes the steps of one action: for the machine one, if any interface calls
// for it, else one for each interface that does.
func (p *planner) steps(a action) []Step {
	var steps []Step
	asked := len(p.choice.Steps) > 0
	for _, s := range p.situations {
		if !asked && !called(a.name, s) {
			continue
		}
		step := p.step(a, s)
		switch reason, final := object(a, s); {
		case reason != "" && p.choice.Force && !final:
			step.Message = "Done because of --force: " + reason
		case reason != "":
			step.Status, step.Message = event.Refused, reason
		case asked && done(a, s):
			step.Message = "Already set."
		}
		steps = append(steps, step)
		if a.change.sysctl != "" && step.Status != event.Refused {
			for _, s := range p.situations {
				s.SinglePages = remedy.On
			}
		}
		if step.Interface == "" {
			break
		}
	}
	return steps
}

func called(name string, s *situation) bool {
	for _, r := range rules {
		if string(r.step) == name && !s.otherDriver && r.when(s) {
			return true
		}
	}
	return false
}

// object returns the first objection to a step, if there is one.
func object(a action, s *situation) (reason string, final bool) {
	for _, o := range objections {
		if (string(o.step) == a.name || o.step == "" || o.step == "mtu-" && a.change.mtu != 0) && o.when(s, &a.change) {
			return o.reason, o.final
		}
	}
	return "", false
}

// done reports that the step would change nothing.
func done(a action, s *situation) bool {
	switch remedy.ID(a.name) {
	case remedy.SinglePages:
		return s.single()
	case remedy.SGOn:
		return s.SG == remedy.On
	case remedy.SGOff:
		return s.sgOff()
	case remedy.OffloadOn:
		return !s.OffloadsOff()
	case remedy.OffloadOff:
		return !s.applies(remedy.OffloadOff)
	}
	return a.change.mtu != 0 && a.change.mtu == s.MTU
}

func (p *planner) step(a action, s *situation) Step {
	step := Step{FixStep: event.FixStep{Name: a.name, Command: a.command, Effect: a.effect, Cost: a.cost}, change: a.change, manual: a.manual}
	if a.manual {
		step.Message = "For you to do: --apply skips it."
	}
	if !strings.Contains(a.command, "{ifname}") {
		return step
	}
	step.Interface, step.NetNS, step.identity = s.iface.Name, s.iface.Namespace, IdentityOf(s.iface.Interface)
	step.has = s.has()
	step.Command = strings.ReplaceAll(a.command, "{ifname}", remedy.Quote(s.iface.Name))
	if s.iface.Namespace != p.machine.NetNS && s.iface.Path != "" {
		step.Command = "nsenter --net=" + remedy.Quote(s.iface.Path) + " -- " + step.Command
	}
	return step
}

func (p *planner) unknown() string {
	for _, s := range p.situations {
		if !s.otherDriver && s.Linearizes == remedy.NotKnown {
			return "Whether the driver linearizes is unknown, so no step that depends on it is planned. Run xentrace check for the reason; root can often find out."
		}
	}
	return ""
}

// mended are the findings that steps are about, or that report what the others
// do.
var mended = []event.FindingID{check.LinearizeCode, check.ScatterGather, check.MTU, check.Offload, check.TxDropped, check.KernelLog, check.SkbFrags}

func left(findings []event.Finding) []string {
	var names []string
	for n := range findings {
		f := &findings[n]
		if f.Status != event.Warn && f.Status != event.Fail || slices.Contains(mended, f.ID) {
			continue
		}
		name := string(f.ID)
		if f.Interface != "" {
			name += " " + f.Interface
		}
		names = append(names, name)
	}
	return names
}

// Doable returns the steps that --apply carries out.
func (p *Plan) Doable() []Step {
	var steps []Step
	for _, s := range p.Steps {
		if s.Status == event.Planned && !s.manual {
			steps = append(steps, s)
		}
	}
	return steps
}

// Identities returns the interfaces that were planned for.
func (p *Plan) Identities() []Identity { return p.interfaces }

// OtherDrivers returns the names of those among them that xen-netfront does not drive.
func (p *Plan) OtherDrivers() []string {
	var names []string
	for _, i := range p.interfaces {
		if i.Driver != netdev.DriverNetfront {
			names = append(names, netdev.Interface{Name: i.Name}.String())
		}
	}
	return names
}

// Changed returns the interfaces that --apply changes: all that were planned for, if a
// step is the machine's.
func (p *Plan) Changed() []Identity {
	var changed []Identity
	for _, s := range p.Doable() {
		if s.Interface == "" {
			return p.interfaces
		}
		if !slices.Contains(changed, s.identity) {
			changed = append(changed, s.identity)
		}
	}
	return changed
}

// Refused reports whether a step was refused.
func (p *Plan) Refused() bool {
	return slices.ContainsFunc(p.Steps, func(s Step) bool { return s.Status == event.Refused })
}

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
	{remedy.OffloadOn, func(s *situation) bool { return s.linearizes() && s.OffloadsOff() }},
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
		"On this kernel some small heads straddle a page boundary, and those packets are dropped while scatter-gather is off.", false},
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

func (s *situation) applies(id remedy.ID) bool { return remedy.Of(id).Applies(&s.Facts) }

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

func (s *situation) has() map[string]bool {
	f := s.iface.Features.Value
	return map[string]bool{
		"tx-scatter-gather": f.ScatterGather.Changeable, "tx-tcp-segmentation": f.TSO.Changeable,
		"tx-tcp6-segmentation": f.TSO6.Changeable, "tx-generic-segmentation": f.GSO.Changeable,
	}
}
