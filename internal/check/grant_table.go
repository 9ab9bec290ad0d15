package check

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"xentrace/internal/event"
	"xentrace/internal/remedy"
)

// A GrantTable is what decides how an HVM guest reaches its grant table. It is in the memory BAR
// of the Xen platform PCI device, which firmware covers with an uncached MTRR. On Intel CPUs Xen
// overrides that for guests without passed-through devices; on AMD CPUs nothing does.
type GrantTable struct {
	CPUVendor string // as in /proc/cpuinfo; empty if not known
	Uncached  Known[bool]
}

// amdVendors are those of CPUs with AMD's nested paging.
var amdVendors = []string{"AuthenticAMD", "HygonGenuine"}

const xenPlatform = "5853:0001"

func (r *reader) readGrantTable() GrantTable {
	g := GrantTable{Uncached: r.uncachedBAR()}
	for line := range strings.Lines(r.text("proc/cpuinfo")) {
		switch key, value, _ := strings.Cut(line, ":"); strings.TrimSpace(key) {
		case "vendor_id":
			g.CPUVendor = strings.TrimSpace(value)
			return g
		case "CPU implementer":
			g.CPUVendor = "ARM"
			return g
		}
	}
	return g
}

// mtrrRange is a line of /proc/mtrr: "reg01: base=0x0f0000000 ( 3840MB), size=  128MB, count=1: uncachable".
var mtrrRange = regexp.MustCompile(`base=(0x[0-9a-f]+) .*size= *([0-9]+)([KM])B.*: ([a-z-]+)`)

// uncachedBAR reports whether an uncached MTRR covers the platform device's memory.
func (r *reader) uncachedBAR() Known[bool] {
	at, found := r.platformBAR()
	if !found {
		return missing[bool]("the Xen platform PCI device does not show")
	}
	content := r.content("proc/mtrr")
	if content.Missing != "" {
		return missing[bool](content.Missing)
	}
	for line := range strings.Lines(content.Value) {
		fields := mtrrRange.FindStringSubmatch(line)
		if fields == nil || fields[4] != "uncachable" {
			continue
		}
		base, _ := strconv.ParseUint(fields[1], 0, 64)
		size, _ := strconv.ParseUint(fields[2], 10, 32)
		size <<= map[string]int{"K": 10, "M": 20}[fields[3]]
		if at >= base && at-base < size {
			return known(true)
		}
	}
	return known(false)
}

// platformBAR is where the second BAR of the platform device begins, from lines "START END FLAGS".
func (r *reader) platformBAR() (uint64, bool) {
	for _, address := range r.list(pciDevices) {
		device := pciDevices + "/" + address
		if strings.TrimPrefix(r.line(device+"/vendor"), "0x")+":"+strings.TrimPrefix(r.line(device+"/device"), "0x") != xenPlatform {
			continue
		}
		lines := strings.Split(r.text(device+"/resource"), "\n")
		if len(lines) < 2 {
			return 0, false
		}
		start, _, _ := strings.Cut(lines[1], " ")
		at, err := strconv.ParseUint(start, 0, 64)
		return at, err == nil && at != 0
	}
	return 0, false
}

func (m *Machine) grantTable() event.Finding {
	f := event.Finding{ID: GrantTableOf}
	g := &m.Grants
	f.Evidence = []event.Fact{
		{Key: "cpu_vendor", Value: orNull(g.CPUVendor)}, {Key: "guest_type", Value: orNull(m.Hypervisor.GuestType)},
		{Key: "xen_version", Value: orNull(m.Hypervisor.Version)}, {Key: "uncached", Value: g.Uncached.fact()},
	}
	amd := slices.Contains(amdVendors, g.CPUVendor)
	switch kind := m.Hypervisor.GuestType; {
	case m.Hypervisor.Dom0:
		return event.Finding{}
	case kind == "PV":
		f.Message = "A PV guest's grant table is ordinary memory."
	case g.CPUVendor == "":
		f.Status, f.Message = event.Unknown, "Whether the grant table is uncached is unknown: /proc/cpuinfo has no CPU vendor."
	case !amd:
		f.Message = fmt.Sprintf("The uncached grant table of AMD hosts does not concern this CPU (%s).", g.CPUVendor)
	case kind != "HVM":
		f.Status, f.Message = event.Unknown, "AMD hosts can map the grant table uncached, which slows the interface. For this type of guest it cannot be known from inside."
	case g.Uncached.Missing != "":
		f.Status, f.Message = event.Unknown, "AMD hosts can map the grant table uncached, which slows the interface. Whether this one does is unknown: "+g.Uncached.Missing+"."
	case g.Uncached.Value:
		f.Status, f.Message = event.Warn, "The grant table is uncached (an MTRR covers the memory of the Xen platform device), and on this AMD host nothing overrides that. Each packet costs more CPU."
		f.Advice = remedy.For(m.FactsOf(nil), remedy.GrantTableCached)
	default:
		f.Message = "The grant table is cached: no uncached MTRR covers it."
	}
	return f
}
