package check

import (
	"fmt"
	"path"
	"slices"
	"strings"

	"xentrace/internal/event"
	"xentrace/internal/remedy"
)

// A PCIDevice is a network function of the PCI bus, which bypasses the frontend.
type PCIDevice struct {
	Address    string // such as 0000:00:05.0
	ID         string // vendor:device
	Name       string
	Module     string // the driver that is made for it; empty where this kernel has none
	Loaded     bool   // that driver is there
	Driver     string // the one that has it; empty for none
	Interfaces []string
}

// betterDevices are the names of network devices that EC2 passes through to Xen guests, by vendor
// and device. Any other function of the class is one too.
var betterDevices = map[string]string{
	"1d0f:0ec2": "Amazon ENA", "1d0f:1ec2": "Amazon ENA", "1d0f:ec20": "Amazon ENA", "1d0f:ec21": "Amazon ENA",
	"8086:10ed": "Intel 82599 virtual function", "8086:1515": "Intel X540 virtual function", "8086:1565": "Intel X550 virtual function",
}

// emulators are subsystem vendors of NICs that QEMU emulates: of Xen and of QEMU itself. They are
// slower than the frontend.
var emulators = []string{"0x5853", "0x1af4"}

// ethernet begins the class of an Ethernet controller.
const ethernet = "0x0200"

const pciDevices = "sys/bus/pci/devices"

func (r *reader) readPCI() Known[[]PCIDevice] {
	if !r.exists(pciDevices) && !r.exists("sys/bus") {
		return missing[[]PCIDevice](notThere("sys/bus"))
	}
	var found []PCIDevice
	for _, address := range r.list(pciDevices) {
		device := pciDevices + "/" + address
		id := strings.TrimPrefix(r.line(device+"/vendor"), "0x") + ":" + strings.TrimPrefix(r.line(device+"/device"), "0x")
		name, listed := betterDevices[id]
		if !listed && (!strings.HasPrefix(r.line(device+"/class"), ethernet) || slices.Contains(emulators, r.line(device+"/subsystem_vendor"))) {
			continue
		}
		if !listed {
			name = "PCI network device " + id
		}
		d := PCIDevice{Address: address, ID: id, Name: name, Driver: r.link(device + "/driver"), Interfaces: r.list(device + "/net")}
		if d.Driver == "" {
			d.Module = r.moduleOf(r.line(device + "/modalias"))
			d.Loaded = d.Module != "" && r.exists("sys/module/"+strings.ReplaceAll(d.Module, "-", "_"))
		}
		found = append(found, d)
	}
	return known(found)
}

// moduleOf finds the module for a device in modules.alias, whose lines are "alias PATTERN MODULE".
func (r *reader) moduleOf(modalias string) string {
	if modalias == "" {
		return ""
	}
	for _, root := range []string{"lib/modules/", "usr/lib/modules/"} {
		content, err := r.read(root + r.source.Release + "/modules.alias")
		if err != nil {
			continue
		}
		for line := range strings.Lines(content) {
			fields := strings.Fields(line)
			if len(fields) != 3 || fields[0] != "alias" || !strings.HasPrefix(fields[1], "pci:") {
				continue
			}
			if is, err := path.Match(fields[1], modalias); err == nil && is {
				return fields[2]
			}
		}
	}
	return ""
}

func (m *Machine) betterDevice() event.Finding {
	f := event.Finding{ID: BetterDevice}
	if m.Hypervisor.Dom0 {
		return event.Finding{}
	}
	if m.PCI.Missing != "" {
		f.Status, f.Message = event.Unknown, "Whether there is a PCI network device is unknown: "+m.PCI.Missing+"."
		return f
	}
	f.Message = "No PCI network device."
	var names, unused, used, elsewhere []string
	for _, d := range m.PCI.Value {
		names = append(names, d.ID+" at "+d.Address)
		switch {
		case d.Driver == "":
			unused = append(unused, fmt.Sprintf("%s at %s has no driver", d.Name, d.Address))
			f.Advice = event.AppendAdvice(f.Advice, remedy.For(remedy.Facts{Module: d.Module, Loaded: d.Loaded, Address: d.Address}, remedy.LoadBetter, remedy.LogOfBetter, remedy.GetBetter)...)
		case len(d.Interfaces) == 0: // moved to another network namespace, or given to a VM
			elsewhere = append(elsewhere, fmt.Sprintf("%s at %s (driver %s)", d.Name, d.Address, d.Driver))
		case !m.anyUp(d.Interfaces):
			unused = append(unused, fmt.Sprintf("%s at %s (%s) is not up", d.Name, d.Address, strings.Join(d.Interfaces, ", ")))
			f.Advice = event.AppendAdvice(f.Advice, remedy.For(remedy.Facts{Device: d.Interfaces[0]}, remedy.BetterUp)...)
		default:
			used = append(used, fmt.Sprintf("%s (%s)", d.Name, strings.Join(d.Interfaces, ", ")))
		}
	}
	switch {
	case len(unused) == 1:
		f.Status, f.Message = event.Warn, unused[0]+". Traffic through it would bypass the frontend."
	case len(unused) > 1:
		f.Status, f.Message = event.Warn, strings.Join(unused, "; ")+". Traffic through them would bypass the frontend."
	case len(used) > 0:
		f.Message = "Up alongside the frontend: " + strings.Join(used, ", ") + ". Make sure the traffic uses it."
	case len(elsewhere) > 0:
		f.Message = "Without an interface in this network namespace: " + strings.Join(elsewhere, ", ") + "."
	}
	f.Evidence = []event.Fact{{Key: "devices", Value: strings.Join(names, ", ")}}
	return f
}

func (m *Machine) anyUp(names []string) bool {
	return slices.ContainsFunc(m.Others, func(i Interface) bool { return i.Up && slices.Contains(names, i.Name) })
}
