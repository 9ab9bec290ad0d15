package check

import (
	"fmt"

	"xentrace/internal/event"
	"xentrace/internal/netdev"
	"xentrace/internal/remedy"
	"xentrace/internal/verdict"
)

func (r *reader) readEvents(i *Interface) {
	if i.IsNetfront() {
		i.Events = tried(netdev.ReadEventChannels(r.source.Files, i.BusInfo))
	}
}

// eventChannels judges events that found nothing to do. Since XSA-332 (Linux 5.10) the kernel delays
// the end of such an interrupt, and with it the next one.
func (m *Machine) eventChannels(i *Interface) event.Finding {
	f := about(i, EventChannels)
	if i.Events.Missing != "" {
		f.Status, f.Message = event.Unknown, "Spurious events are unknown: "+i.Events.Missing+"."
		return f
	}
	e := i.Events.Value
	f.Evidence = []event.Fact{
		{Key: "events", Value: e.Events}, {Key: "spurious_events", Value: e.Spurious}, {Key: "spurious_threshold", Value: e.Threshold},
		{Key: "jiffies_eoi_delayed", Value: e.DelayedJiffies},
	}
	switch {
	case e.Events == 0:
		f.Message = "No event yet."
	case !verdict.ManySpurious(e.Events, e.Spurious):
		f.Message = fmt.Sprintf("%d of %d events were spurious.", e.Spurious, e.Events)
	default:
		f.Status = event.Warn
		f.Message = fmt.Sprintf("%d of %d events were spurious, and the kernel delayed interrupts for them (XSA-332) by %d jiffies in all. That slows the interface.", e.Spurious, e.Events, e.DelayedJiffies)
		facts := m.FactsOf(i)
		facts.Spurious, facts.SpuriousThreshold, facts.Vif = true, e.Threshold, i.BusInfo
		f.Advice = remedy.For(facts, remedy.SpuriousFix, remedy.SpuriousThreshold, remedy.SpuriousHost)
	}
	return f
}
