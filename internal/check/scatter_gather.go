package check

import (
	"fmt"

	"xentrace/internal/event"
	"xentrace/internal/kernel"
	"xentrace/internal/verdict"
)

// What the geometry of small heads means where every packet must lie in one page.
type straddling uint8

const (
	straddleUnknown straddling = iota
	straddleNever
	straddleSome
)

func (m *Machine) straddling() straddling {
	switch {
	case m.Slab.Missing != "":
		return straddleUnknown
	case m.Slab.Value.Crossing() == 0:
		return straddleNever
	default:
		return straddleSome
	}
}

// A scatterGatherRule is what scatter-gather being off means.
type scatterGatherRule struct {
	drops     bool // the driver drops packets over the limit
	straddles straddling
	status    Status
	message   string // {some} stands for the share
}

var scatterGatherRules = []scatterGatherRule{
	{false, straddleSome, Fail, "Scatter-gather is off, so a packet that needs two slots is dropped. On this kernel small packets do when their buffer crosses a page, which is so for {some}. A buffer is used again at once, so the losses come in runs."},
	{true, straddleSome, Fail, "Scatter-gather is off. That keeps packets of more than 18 slots away from this driver, which would drop them, but small packets whose buffer crosses a page are dropped instead, which is so for {some}. A buffer is used again at once, so the losses come in runs."},
	{false, straddleNever, Warn, "Scatter-gather is off. On this kernel the packets that this machine sends itself still fit one slot; forwarded ones that cross a page are dropped, and sending takes more processor time."},
	{true, straddleNever, Warn, "Scatter-gather is off, which keeps packets of more than 18 slots away from this driver, which would drop them. Forwarded packets that cross a page are dropped, and sending takes more processor time."},
	{false, straddleUnknown, Warn, "Scatter-gather is off, so a packet that needs two slots is dropped. Whether small packets do on this kernel is not known: {missing}."},
	{true, straddleUnknown, Warn, "Scatter-gather is off, which keeps packets of more than 18 slots away from this driver, which would drop them. Whether small packets need two slots on this kernel, and are dropped, is not known: {missing}."},
}

func (m *Machine) scatterGather(i *Interface) Finding {
	f := about(i, ScatterGather)
	if i.Features.Missing != "" {
		f.Status, f.Message = Unknown, "Whether scatter-gather is on cannot be told: "+i.Features.Missing+"."
		return f
	}
	sg := i.Features.Value.ScatterGather
	f.Evidence = append([]Fact{{"on", sg.Active}, {"requested", sg.Requested}}, m.slabEvidence()...)
	drops := m.Code.linearizes() == kernel.Drops
	switch {
	case sg.Active:
		f.Message = "Scatter-gather is on: packets of up to 18 slots go out as they are."
		if m.straddling() == straddleSome {
			f.Message += " Leave it on: without it small packets are lost here when their buffer crosses a page, which is so for " + m.some() + "."
		}
	default:
		f.Status, f.Message = m.scatterGatherOff(drops)
		f.Advice = m.advise(i, m.scatterGatherAdvice(sg.Requested, drops)...)
	}
	f.observed(i)
	return f
}

// scatterGatherOff finds the rule.
func (m *Machine) scatterGatherOff(drops bool) (Status, string) {
	for _, rule := range scatterGatherRules {
		if rule.drops == drops && rule.straddles == m.straddling() {
			return rule.status, fill(rule.message, "some", m.some(), "missing", m.Slab.Missing)
		}
	}
	return Unknown, ""
}

func (m *Machine) scatterGatherAdvice(requested, drops bool) []verdict.Advice {
	switch {
	case requested:
		return []verdict.Advice{{Effect: "Scatter-gather is asked for, and the backend does not offer it: that is to be changed in dom0."}}
	case drops:
		update := updateKernel()
		update.Effect += " Then turn scatter-gather on again."
		return []verdict.Advice{update}
	default:
		return verdict.OfCause(event.SGOff).Advice
	}
}

// some says how many small buffers cross a page. It is no share of packets: what
// was freed last is used first.
func (m *Machine) some() string {
	if m.straddling() != straddleSome {
		return ""
	}
	s := m.Slab.Value
	return fmt.Sprintf("%d of %d buffers of %d bytes", s.Crossing(), s.Objects, s.Bytes)
}

func (m *Machine) slabEvidence() []Fact {
	if m.Slab.Missing != "" {
		return []Fact{{"small_head_bytes", nil}, {"small_heads_in_slab", nil}, {"small_heads_crossing", nil}}
	}
	s := m.Slab.Value
	return []Fact{{"small_head_bytes", s.Bytes}, {"small_heads_in_slab", s.Objects}, {"small_heads_crossing", s.Crossing()}}
}

// observed adds what the tracer counted.
func (f *Finding) observed(i *Interface) {
	o := i.Observed
	if o == nil {
		return
	}
	if o.Missing != "" {
		f.Message += " Nothing was observed: " + o.Missing + "."
		f.Evidence = append(f.Evidence, Fact{"observed_packets", nil})
		return
	}
	lost, packets := o.Totals.Causes[event.SGOff], o.Totals.Packets
	bounced, oneSlot := o.Totals.Bounced, o.Totals.Slots[1]
	f.Evidence = append(f.Evidence, Fact{"observed_ms", o.Duration.Milliseconds()}, Fact{"observed_packets", packets},
		Fact{"observed_one_slot", oneSlot}, Fact{"observed_sg_off", lost}, Fact{"observed_bounced", bounced})
	for _, feature := range f.Evidence {
		if feature.Key == "on" && feature.Value == true {
			f.Message += fmt.Sprintf(" In %.1f s, %d of %d packets were certain to lie within a page (one slot); %d began right before the end of one and were copied.", o.Duration.Seconds(), oneSlot, packets, bounced)
			return
		}
	}
	f.Message += fmt.Sprintf(" In %.1f s, %d of %d packets crossed a page and were dropped for it.", o.Duration.Seconds(), lost, packets)
	if lost > 0 {
		f.Status = Fail
	}
}
