package check

import (
	"fmt"
	"strings"

	"xentrace/internal/event"
	"xentrace/internal/netdev"
	"xentrace/internal/remedy"
)

// driver reports the driver of an interface.
func (m *Machine) driver(i *Interface) event.Finding {
	f := about(i, DriverOf)
	f.Evidence = []event.Fact{{Key: "driver", Value: i.Driver}, {Key: "bus", Value: i.BusInfo}, {Key: "mtu", Value: i.MTU}, {Key: "up", Value: i.Up}, {Key: "carrier", Value: i.Running}}
	switch {
	case !i.IsNetfront():
		f.Message = fmt.Sprintf("%s is driven by %s, not by xen-netfront: these checks do not apply.", i, driverName(i.Interface))
	case !i.Up:
		f.Message = fmt.Sprintf("%s is driven by xen-netfront and is down.", i)
	case !i.Running:
		f.Status = event.Fail
		f.Message = fmt.Sprintf("%s has no carrier: its backend in dom0 is not connected, and every packet is dropped.", i)
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
		f.Status = event.Warn
		f.Message = "Xen offers a network device without a driver: " + strings.Join(m.Unbound, ", ") + "."
		f.Advice = remedy.For(m.FactsOf(nil), remedy.LoadDriver, remedy.Unplug)
	} else {
		f.Message = "No interface is driven by xen-netfront: these checks do not apply."
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
