package check

import (
	"fmt"

	"xentrace/internal/event"
	"xentrace/internal/netfront"
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
	status    event.Status
	message   string // {some} stands for the share
}

var scatterGatherRules = []scatterGatherRule{
	{false, straddleSome, event.Fail, "Scatter-gather is off, so a packet that needs two slots is dropped. On this kernel small packets do when their buffer crosses a page, which is so for {some}. A buffer is used again at once, so the losses come in runs."},
	{true, straddleSome, event.Fail, "Scatter-gather is off. That keeps packets of more than 18 slots away from this driver, which would drop them, but small packets whose buffer crosses a page are dropped instead, which is so for {some}. A buffer is used again at once, so the losses come in runs."},
	{false, straddleNever, event.Warn, "Scatter-gather is off. On this kernel the packets that this machine sends itself still fit one slot; forwarded ones that cross a page are dropped, and sending takes more processor time."},
	{true, straddleNever, event.Warn, "Scatter-gather is off, which keeps packets of more than 18 slots away from this driver, which would drop them. Forwarded packets that cross a page are dropped, and sending takes more processor time."},
	{false, straddleUnknown, event.Warn, "Scatter-gather is off, so a packet that needs two slots is dropped. Whether small packets do on this kernel is not known: {missing}."},
	{true, straddleUnknown, event.Warn, "Scatter-gather is off, which keeps packets of more than 18 slots away from this driver, which would drop them. Whether small packets need two slots on this kernel, and are dropped, is not known: {missing}."},
}

func (m *Machine) scatterGather(i *Interface) event.Finding {
	f := about(i, ScatterGather)
	if i.Features.Missing != "" {
		f.Status, f.Message = event.Unknown, "Whether scatter-gather is on cannot be told: "+i.Features.Missing+"."
		return f
	}
	sg := i.Features.Value.ScatterGather
	f.Evidence = append([]event.Fact{{Key: "on", Value: sg.Active}, {Key: "requested", Value: sg.Requested}}, m.slabEvidence()...)
	drops := m.Code.linearizes() == netfront.Drops
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
	observed(&f, i)
	return f
}

// scatterGatherOff finds the rule.
func (m *Machine) scatterGatherOff(drops bool) (event.Status, string) {
	for _, rule := range scatterGatherRules {
		if rule.drops == drops && rule.straddles == m.straddling() {
			return rule.status, fill(rule.message, "some", m.some(), "missing", m.Slab.Missing)
		}
	}
	return event.Unknown, ""
}

func (m *Machine) scatterGatherAdvice(requested, drops bool) []event.Advice {
	switch {
	case requested:
		return []event.Advice{{Effect: "Scatter-gather is asked for, and the backend does not offer it: that is to be changed in dom0."}}
	case drops:
		update := updateKernel()
		update.Effect += " Then turn scatter-gather on again."
		return []event.Advice{update}
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

func (m *Machine) slabEvidence() []event.Fact {
	if m.Slab.Missing != "" {
		return []event.Fact{{Key: "small_head_bytes", Value: nil}, {Key: "small_heads_in_slab", Value: nil}, {Key: "small_heads_crossing", Value: nil}}
	}
	s := m.Slab.Value
	return []event.Fact{{Key: "small_head_bytes", Value: s.Bytes}, {Key: "small_heads_in_slab", Value: s.Objects}, {Key: "small_heads_crossing", Value: s.Crossing()}}
}

// observed adds what the tracer counted.
func observed(f *event.Finding, i *Interface) {
	o := i.Observed
	if o == nil {
		return
	}
	if o.Missing != "" {
		f.Message += " Nothing was observed: " + o.Missing + "."
		f.Evidence = append(f.Evidence, event.Fact{Key: "observed_packets", Value: nil})
		return
	}
	lost, packets := o.Totals.Causes[event.SGOff], o.Totals.Packets
	bounced, oneSlot := o.Totals.Bounced, o.Totals.Slots[1]
	f.Evidence = append(f.Evidence, event.Fact{Key: "observed_ms", Value: o.Duration.Milliseconds()}, event.Fact{Key: "observed_packets", Value: packets},
		event.Fact{Key: "observed_one_slot", Value: oneSlot}, event.Fact{Key: "observed_sg_off", Value: lost}, event.Fact{Key: "observed_bounced", Value: bounced})
	for _, feature := range f.Evidence {
		if feature.Key == "on" && feature.Value == true {
			f.Message += fmt.Sprintf(" In %.1f s, %d of %d packets were certain to lie within a page (one slot); %d began right before the end of one and were copied.", o.Duration.Seconds(), oneSlot, packets, bounced)
			return
		}
	}
	f.Message += fmt.Sprintf(" In %.1f s, %d of %d packets crossed a page and were dropped for it.", o.Duration.Seconds(), lost, packets)
	if lost > 0 {
		f.Status = event.Fail
	}
}
