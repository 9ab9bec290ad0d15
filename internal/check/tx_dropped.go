package check

import (
	"fmt"
	"time"

	"xentrace/internal/event"
	"xentrace/internal/remedy"
)

func (m *Machine) txDropped(i *Interface) event.Finding {
	f := about(i, TxDropped)
	if i.Counters.Missing != "" {
		f.Status, f.Message = event.Unknown, "Interface counters cannot be read: "+i.Counters.Missing+"."
		return f
	}
	c := &i.Counters.Value
	dropped, moved := c.Later.TxDropped, c.Later.TxDropped-c.TxDropped
	var hours any
	if m.Uptime > 0 {
		hours = float64(int(10*m.Uptime.Hours())) / 10
	}
	f.Evidence = []event.Fact{{Key: "tx_dropped", Value: dropped}, {Key: "tx_packets", Value: c.Later.TxPackets}, {Key: "uptime_hours", Value: hours},
		{Key: "tx_dropped_meanwhile", Value: moved}, {Key: "meanwhile_ms", Value: c.After.Milliseconds()}}
	if dropped == 0 {
		f.Message = "No TX drops since the interface was created."
		return f
	}
	f.Status = event.Warn
	f.Message = fmt.Sprintf("%d packets dropped and %d sent since the interface was created%s.", dropped, c.Later.TxPackets, m.rate(dropped))
	if moved > 0 {
		f.Status = event.Fail
		f.Message += fmt.Sprintf(" %d of the drops came while this command ran (%d ms).", moved, c.After.Milliseconds())
	}
	f.Message += " The counter includes drops by the network core before the driver."
	f.Advice = m.advise(i, remedy.WatchDriver)
	return f
}

// rate is how many that is per hour, if all came since the boot.
func (m *Machine) rate(dropped uint64) string {
	if m.Uptime < time.Minute {
		return ""
	}
	return fmt.Sprintf(", at most %s ago (at least %.1f per hour)", span(m.Uptime), float64(dropped)/m.Uptime.Hours())
}

// span rounds a time for people.
func span(d time.Duration) string {
	switch {
	case d >= 48*time.Hour:
		return fmt.Sprintf("%d days", int(d.Hours()/24))
	case d >= 2*time.Hour:
		return fmt.Sprintf("%d hours", int(d.Hours()))
	default:
		return fmt.Sprintf("%d minutes", int(d.Minutes()))
	}
}
