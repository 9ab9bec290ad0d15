package check

import (
	"fmt"
	"io/fs"
	"strings"

	"xentrace/internal/event"
	"xentrace/internal/netfront"
)

const (
	sgmtuModule  = "xennetsgmtu"
	rocketModule = "xennetrocket"

	success = "SUCCESS"
	warning = "WARN"
	failure = "FAILURE"
)

// A firstDevice is the interface whose driver ec2rl takes for that of all: the
// first by name that is not virtual.
type firstDevice struct{ name, module string }

// readForEC2RL reads what else ec2rl looks at: the board's tag, and the module of
// the driver of the first interface.
func (r *reader) readForEC2RL(m *Machine) {
	m.AssetTag = r.line("sys/devices/virtual/dmi/id/board_asset_tag")
	for _, name := range r.list("sys/class/net") {
		target, err := fs.ReadLink(r.source.Files, "sys/class/net/"+name)
		if err != nil || strings.Contains(target, "virtual") {
			continue
		}
		m.First = firstDevice{name, r.link("sys/class/net/" + name + "/device/driver/module")}
		return
	}
}

// EC2RL reports what the two modules of ec2rl that are about this driver would report.
func EC2RL(m *Machine) []event.Opinion {
	var all []event.Opinion
	for i := range m.Interfaces {
		if m.Interfaces[i].Namespace == m.NetNS {
			all = append(all, m.sgmtu(&m.Interfaces[i]))
		}
	}
	for i := range m.Others {
		if !m.Others[i].Loopback {
			all = append(all, m.sgmtu(&m.Others[i]))
		}
	}
	return append(all, m.rocket())
}

// gate is what both modules ask first. They look at the driver of one interface
// only, the first by name.
func (m *Machine) gate() (reason string, passed bool) {
	if strings.HasPrefix(m.AssetTag, "i-") {
		return "it assumes Nitro", false
	}
	switch first := m.First; {
	case first.name == "":
		return "it finds only virtual interfaces", false
	case first.module == "":
		return fmt.Sprintf("it looks at the driver of %s only, and does not find it", first.name), false
	case first.module != "xen_netfront" && first.module != "netfront":
		return fmt.Sprintf("it looks at the driver of %s only, which is %s", first.name, first.module), false
	}
	return "", true
}

func (m *Machine) sgmtu(i *Interface) event.Opinion {
	o := event.Opinion{Module: sgmtuModule, Interface: i.Name, Verdict: success}
	reason, passed := m.gate()
	switch {
	case !passed:
	case i.Features.Missing != "":
		o.Verdict = ""
		o.Message = "Scatter-gather is unknown: " + i.Features.Missing + "."
		return o
	case i.Features.Value.ScatterGather.Active:
		reason = "scatter-gather is on"
	case i.MTU == jumboMTU:
		o.Verdict, reason = warning, "scatter-gather is off; it does not see the MTU of 9001 in the output of today's ifconfig"
	default:
		o.Verdict, reason = warning, fmt.Sprintf("scatter-gather is off and the MTU is %d", i.MTU)
	}
	truth, sentence := m.loses(i)
	judgeOpinion(&o, truth, reason, sentence)
	return o
}

// rocket is the module that looks for one message in the kernel's log.
func (m *Machine) rocket() event.Opinion {
	o := event.Opinion{Module: rocketModule, Verdict: success}
	reason, passed := m.gate()
	switch {
	case !passed:
	case m.Log.Missing != "":
		o.Verdict = ""
		o.Message = "The kernel log cannot be read: " + m.Log.Missing + "."
		return o
	case m.Log.Value.RocketsShown > 0:
		o.Verdict, reason = failure, fmt.Sprintf("the kernel log has the message %d times", m.Log.Value.RocketsShown)
	case m.Log.Value.Rockets > 0:
		reason = "the kernel log was cleared since, so dmesg does not print the message"
	default:
		reason = "the kernel log does not have the message"
	}
	truth, sentence := m.overflows()
	judgeOpinion(&o, truth, reason, sentence)
	return o
}

// judgeOpinion compares a verdict with the truth: whether packets are lost.
func judgeOpinion(o *event.Opinion, truth Known[bool], reason, sentence string) {
	o.Message = strings.ToUpper(reason[:1]) + reason[1:] + ". " + sentence
	if truth.Missing == "" {
		right := truth.Value == (o.Verdict != success)
		o.Right = &right
	}
}

func (m *Machine) loses(i *Interface) (Known[bool], string) {
	linearizes := m.Code.linearizes()
	switch {
	case !i.IsNetfront():
		return known(false), "Not an interface of xen-netfront: not affected."
	case i.Features.Missing != "":
		return missing[bool](i.Features.Missing), "Scatter-gather is unknown."
	case i.Features.Value.ScatterGather.Active && linearizes == netfront.Drops:
		return known(true), "The driver drops packets over 18 slots, which scatter-gather allows."
	case i.Features.Value.ScatterGather.Active && linearizes == netfront.Linearizes:
		return known(false), "The driver linearizes packets over 18 slots."
	case i.Features.Value.ScatterGather.Active:
		return missing[bool]("whether the driver linearizes is unknown"), "Whether the driver linearizes is unknown."
	}
	switch m.straddling() {
	case straddleSome:
		return known(true), "Small packets whose head straddles a page boundary are dropped. The MTU of 9001 that it advises cannot be set while scatter-gather is off."
	case straddleNever:
		return known(false), "On this kernel the machine's own packets fit 1 slot; only forwarded ones can need 2."
	default:
		return missing[bool](m.Slab.Missing), "Whether small packets straddle a page boundary on this kernel is unknown."
	}
}

func (m *Machine) overflows() (Known[bool], string) {
	switch {
	case !m.concerned():
		return known(false), "No interface is driven by xen-netfront."
	case m.Code.linearizes() == netfront.Linearizes:
		return known(false), "The driver linearizes such packets."
	case m.Code.linearizes() == netfront.Drops:
		return known(true), "The driver drops such packets, with or without the message."
	default:
		return missing[bool]("whether the driver linearizes is unknown"), "Whether the driver linearizes is unknown."
	}
}
