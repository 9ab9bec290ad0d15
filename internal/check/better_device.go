package check

import (
	"fmt"
	"strings"

	"xentrace/internal/event"
	"xentrace/internal/remedy"
)

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

// betterDevice looks for a device that would do better than the frontend.
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
			f.Status = event.Warn
			f.Message = fmt.Sprintf("%s at %s has no driver: it bypasses the frontend.", d.Name, d.Address)
			f.Advice = remedy.For(remedy.Facts{Module: d.Module}, remedy.LoadBetter)
		case !m.anyUp(d.Interfaces):
			f.Status = event.Warn
			f.Message = fmt.Sprintf("%s at %s (%s) is not up: it bypasses the frontend.", d.Name, d.Address, strings.Join(d.Interfaces, ", "))
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

// anyUp tells whether one of these interfaces is up.
func (m *Machine) anyUp(names []string) bool {
	for _, i := range m.Others {
		for _, name := range names {
			if i.Name == name && i.Up {
				return true
			}
		}
	}
	return false
}
