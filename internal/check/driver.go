package check

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"xentrace/internal/event"
	"xentrace/internal/netdev"
	"xentrace/internal/remedy"
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
		return fmt.Sprintf("%d minutes", int(d.Minutes()))
	}
}

// A PCIDevice is a network device that is better than the frontend.
type PCIDevice struct {
	Address    string // such as 0000:00:05.0
	ID         string // vendor:device
	Name       string
	Module     string // the driver that is made for it
	Driver     string // the one that has it; empty for none
	Interfaces []string
}

// betterDevices are the network devices that EC2 and other hosts pass through to
// Xen guests, by vendor and device.
var betterDevices = map[string]struct{ name, module string }{
	"1d0f:0ec2": {"Amazon ENA", "ena"},
	"1d0f:1ec2": {"Amazon ENA", "ena"},
	"1d0f:ec20": {"Amazon ENA", "ena"},
	"1d0f:ec21": {"Amazon ENA", "ena"},
	"8086:10ed": {"Intel 82599 virtual function", "ixgbevf"},
	"8086:1515": {"Intel X540 virtual function", "ixgbevf"},
	"8086:1565": {"Intel X550 virtual function", "ixgbevf"},
}

func (r *reader) readPCI() []PCIDevice {
	const bus = "sys/bus/pci/devices"
	var found []PCIDevice
	for _, address := range r.list(bus) {
		device := bus + "/" + address
		id := strings.TrimPrefix(r.line(device+"/vendor"), "0x") + ":" + strings.TrimPrefix(r.line(device+"/device"), "0x")
		if better, is := betterDevices[id]; is {
			found = append(found, PCIDevice{address, id, better.name, better.module, r.link(device + "/driver"), r.list(device + "/net")})
		}
	}
	return found
}

func (m *Machine) betterDevice() event.Finding {
	f := event.Finding{ID: BetterDevice, Message: "No PCI network device known to be faster than the frontend.", Evidence: []event.Fact{{Key: "devices", Value: ""}}}
	if m.Hypervisor.Dom0 {
		return event.Finding{}
	}
	var names, used []string
	for _, d := range m.PCI {
		names = append(names, d.ID+" at "+d.Address)
		switch {
		case d.Driver == "":
			f.Status, f.Message = event.Warn, fmt.Sprintf("%s at %s has no driver: it bypasses the frontend.", d.Name, d.Address)
			f.Advice = remedy.For(remedy.Facts{Module: d.Module}, remedy.LoadBetter)
		case !m.anyUp(d.Interfaces):
			f.Status, f.Message = event.Warn, fmt.Sprintf("%s at %s (%s) is not up: it bypasses the frontend.", d.Name, d.Address, strings.Join(d.Interfaces, ", "))
			if len(d.Interfaces) > 0 {
				f.Advice = remedy.For(remedy.Facts{Device: d.Interfaces[0]}, remedy.BetterUp)
			}
		default:
			used = append(used, fmt.Sprintf("%s (%s)", d.Name, strings.Join(d.Interfaces, ", ")))
		}
	}
	if f.Status == event.OK && len(used) > 0 {
		f.Message = "Up alongside the frontend: " + strings.Join(used, ", ") + ". Make sure the traffic uses it."
	}
	f.Evidence = []event.Fact{{Key: "devices", Value: strings.Join(names, ", ")}}
	return f
}

func (m *Machine) anyUp(names []string) bool {
	return slices.ContainsFunc(m.Others, func(i Interface) bool { return i.Up && slices.Contains(names, i.Name) })
}
