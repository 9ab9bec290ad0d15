package check

import (
	"fmt"
	"strings"

	"xentrace/internal/event"
	"xentrace/internal/netdev"
	"xentrace/internal/remedy"
	"xentrace/internal/verdict"
)

const (
	someDropped = 100  // received packets; fewer show nothing
	manyDropped = 0.01 // of those received
)

// receive judges the receiving side. rx_errors are the driver's: packets of the backend that are
// malformed. rx_dropped are the network core's.
func (m *Machine) receive(i *Interface) event.Finding {
	f := about(i, Receive)
	if i.Counters.Missing != "" {
		f.Status, f.Message = event.Unknown, "Interface counters cannot be read: "+i.Counters.Missing+"."
		return f
	}
	c := &i.Counters.Value
	moved := c.Later.RxErrors - c.RxErrors
	logged, _ := m.logged(i, received)
	f.Evidence = []event.Fact{
		{Key: "rx_packets", Value: c.Later.RxPackets}, {Key: "rx_errors", Value: c.Later.RxErrors}, {Key: "rx_errors_meanwhile", Value: moved},
		{Key: "rx_dropped", Value: c.Later.RxDropped}, {Key: "logged", Value: logged},
	}
	var sentences []string
	if c.Later.RxErrors > 0 {
		f.Status = event.Warn
		sentences = append(sentences, "The driver dropped "+verdict.Count(int(c.Later.RxErrors), "malformed packet")+" from the backend (rx_errors).")
	}
	if moved > 0 {
		f.Status = event.Fail
		sentences = append(sentences, fmt.Sprintf("%d of them while this command ran.", moved))
	}
	if logged > 0 {
		f.Status = max(f.Status, event.Warn)
		sentences = append(sentences, "The kernel log has "+verdict.Count(logged, "message")+" about malformed packets.")
	}
	if f.Status != event.OK {
		f.Advice = m.advise(i, remedy.LogOfDriver, remedy.UpdateBackend)
	}
	dropped := c.Later.RxDropped
	if share := event.Ratio(dropped, c.Later.RxPackets); dropped >= someDropped && share >= manyDropped {
		f.Status = max(f.Status, event.Warn)
		sentences = append(sentences, fmt.Sprintf("The network core dropped %d received packets, %.1f %% (rx_dropped): of a protocol or VLAN that nothing here handles, or its backlog was full.", dropped, 100*share))
		f.Advice = event.AppendAdvice(f.Advice, m.advise(i, remedy.LinkState, remedy.BacklogState)...)
	}
	if len(sentences) == 0 {
		sentences = []string{fmt.Sprintf("%d packets received, none counted as malformed; %d dropped by the network core. Buffers that could not be allocated are not counted.", c.Later.RxPackets, dropped)}
		if m.Log.Missing != "" {
			sentences = append(sentences, "The kernel log was not searched.")
		}
	}
	f.Message = strings.Join(sentences, " ")
	return f
}

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
