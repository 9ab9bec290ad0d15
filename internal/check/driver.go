package check

import (
	"fmt"
	"strings"
	"time"

	"xentrace/internal/event"
	"xentrace/internal/netdev"
	"xentrace/internal/remedy"
	"xentrace/internal/verdict"
)

func (m *Machine) driver(i *Interface) event.Finding {
	f := about(i, DriverOf)
	f.Evidence = []event.Fact{{Key: "driver", Value: i.Driver}, {Key: "bus", Value: i.BusInfo}, {Key: "mtu", Value: i.MTU}, {Key: "up", Value: i.Up}, {Key: "carrier", Value: i.Running}}
	switch {
	case !i.IsNetfront():
		f.Message = fmt.Sprintf("%s is driven by %s, not by xen-netfront: these checks do not apply.", i, driverName(i.Interface))
	case !i.Up:
		f.Message = fmt.Sprintf("%s is driven by xen-netfront and is down.", i)
	case !i.Running:
		f.Status, f.Message = event.Fail, fmt.Sprintf("%s has no carrier: its backend in dom0 is not connected, and every packet is dropped.", i)
		f.Advice = m.advise(i, remedy.CarrierState)
	default:
		f.Message = fmt.Sprintf("%s is driven by xen-netfront.", i)
	}
	return f
}

// otherDrivers reports a machine without any interface of the frontend.
func (m *Machine) otherDrivers() event.Finding {
	if len(m.Interfaces) > 0 {
		return event.Finding{}
	}
	f := event.Finding{ID: DriverOf}
	if len(m.Unbound) > 0 {
		f.Status, f.Message = event.Warn, "Xen offers a network device without a driver: "+strings.Join(m.Unbound, ", ")+"."
		f.Advice = remedy.For(m.FactsOf(nil), remedy.LoadDriver, remedy.GetDriver, remedy.Unplug, remedy.LogOfDriver)
	} else {
		f.Message = "No interface is driven by xen-netfront: these checks do not apply."
	}
	if m.NoBus {
		f.Message += " Network devices without a driver cannot be seen: there is no /sys/bus."
	}
	if f.Status == event.OK && (m.NoBus || m.Unseen != "") && m.Hypervisor.isXen() && !m.Hypervisor.Dom0 {
		f.Status = event.Unknown
	}
	var names []string
	for _, i := range m.Others {
		if !i.Loopback {
			names = append(names, fmt.Sprintf("%s (%s)", i, driverName(i.Interface)))
		}
	}
	f.Evidence = []event.Fact{{Key: "interfaces", Value: strings.Join(names, ", ")}}
	if m.Unseen != "" {
		f.Message += " Other network namespaces were not checked: " + m.Unseen + "."
		f.Evidence = append(f.Evidence, event.Fact{Key: "other_namespaces", Value: nil})
	}
	return f
}

func driverName(i netdev.Interface) string {
	if i.Driver == "" {
		return "the kernel"
	}
	return i.Driver
}

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
	f.Status, f.Message = event.Warn, fmt.Sprintf("%d packets dropped and %d sent since the interface was created%s.", dropped, c.Later.TxPackets, m.rate(dropped))
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
		return verdict.Count(int(d.Minutes()), "minute")
	}
}
