package check

import (
	"fmt"
	"strings"

	"xentrace/internal/event"
)

// A Hypervisor is what the machine runs on.
type Hypervisor struct {
	Type      string // of /sys/hypervisor, such as "xen"; empty without it
	GuestType string // PV, PVH or HVM (Linux 4.13)
	Version   string // of Xen
	Dom0      bool
	Vendor    string // of the system, as its firmware has it
	Product   string
	BIOS      string // its version
	Signature string // of the CPU's hypervisor leaf; empty without one, or where it is not read
	CPUFlag   bool   // /proc/cpuinfo has the flag hypervisor
	CPUInfo   bool   // /proc/cpuinfo has flags at all
}

const (
	xenSignature = "XenVMMXenVMM"
	amazonVendor = "Amazon EC2"
)

// signatures are those of other hypervisors, by CPUID leaf 0x40000000.
var signatures = map[string]string{
	"KVMKVMKVM":    "KVM",
	"TCGTCGTCGTCG": "QEMU",
	"Microsoft Hv": "Hyper-V",
	"VMwareVMware": "VMware",
	"VBoxVBoxVBox": "VirtualBox",
	"bhyve bhyve ": "bhyve",
	"ACRNACRNACRN": "ACRN",
}

func (h *Hypervisor) isXen() bool {
	return h.Type == "xen" || h.Signature == xenSignature || h.Vendor == "Xen"
}

func (h *Hypervisor) isNitro() bool { return h.Vendor == amazonVendor && !h.isXen() }

// readHypervisor reads what the kernel, the firmware and the CPU report.
func (r *reader) readHypervisor() Hypervisor {
	h := Hypervisor{
		Type: r.line("sys/hypervisor/type"), GuestType: r.line("sys/hypervisor/guest_type"),
		Dom0:   strings.Contains(r.line("proc/xen/capabilities"), "control_d"),
		Vendor: r.line("sys/class/dmi/id/sys_vendor"), Product: r.line("sys/class/dmi/id/product_name"), BIOS: r.line("sys/class/dmi/id/bios_version"),
	}
	if major := r.line("sys/hypervisor/version/major"); major != "" {
		h.Version = major + "." + r.line("sys/hypervisor/version/minor") + r.line("sys/hypervisor/version/extra")
	}
	if r.source.Signature != nil {
		h.Signature = r.source.Signature()
	}
	for line := range strings.Lines(r.text("proc/cpuinfo")) {
		if flags, is := strings.CutPrefix(line, "flags"); is {
			h.CPUInfo = true
			h.CPUFlag = strings.Contains(flags+" ", " hypervisor ") || strings.HasSuffix(strings.TrimSpace(flags), " hypervisor")
			break
		}
	}
	return h
}

func (m *Machine) virtualization() event.Finding {
	h := &m.Hypervisor
	f := event.Finding{ID: Virtualization, Evidence: h.evidence()}
	f.Status, f.Message = h.describe()
	return f
}

func (h *Hypervisor) evidence() []event.Fact {
	return []event.Fact{
		{Key: "hypervisor", Value: orNull(h.Type)}, {Key: "guest_type", Value: orNull(h.GuestType)}, {Key: "xen_version", Value: orNull(h.Version)},
		{Key: "system_vendor", Value: orNull(h.Vendor)}, {Key: "product", Value: orNull(h.Product)}, {Key: "bios_version", Value: orNull(h.BIOS)}, {Key: "cpuid_signature", Value: orNull(h.Signature)},
	}
}

func (h *Hypervisor) describe() (event.Status, string) {
	switch {
	case h.Dom0:
		return event.OK, fmt.Sprintf("dom0 of %s: it serves guests through xen-netback. These checks are for guests.", h.xen())
	case h.isXen() && h.GuestType == "" && h.Type == "":
		return event.OK, fmt.Sprintf("Xen guest, according to the %s; there is no /sys/hypervisor.", h.witness())
	case h.isXen() && h.GuestType == "":
		return event.OK, fmt.Sprintf("Guest of %s; the kernel does not report its type.", h.xen())
	case h.isXen():
		return event.OK, fmt.Sprintf("Guest of %s, type %s.", h.xen(), h.GuestType)
	case h.isNitro():
		return event.OK, fmt.Sprintf("EC2 instance on Nitro (%s), not on Xen: its network device is not a Xen frontend.", h.Product)
	case h.Signature != "":
		return event.OK, fmt.Sprintf("Guest of %s, not of Xen.", h.name())
	case h.CPUFlag:
		return event.OK, "Guest of a hypervisor other than Xen."
	case h.CPUInfo:
		return event.OK, "No hypervisor found: a physical machine, or a container on one."
	}
	return event.Unknown, "Hypervisor unknown: there is no /sys/hypervisor, and neither firmware nor CPU report one."
}

func (h *Hypervisor) xen() string {
	name := "Xen"
	if h.Version != "" {
		name += " " + h.Version
	}
	if strings.Contains(strings.ToLower(h.BIOS+h.Version), "amazon") {
		name += " on EC2"
	}
	return name
}

// witness is what reports Xen, if not the kernel.
func (h *Hypervisor) witness() string {
	if h.Signature == xenSignature {
		return "CPU"
	}
	return "firmware"
}

func (h *Hypervisor) name() string {
	if name, is := signatures[h.Signature]; is {
		return name
	}
	return fmt.Sprintf("the hypervisor %q", h.Signature)
}
