package check

import (
	"fmt"
	"strings"

	"xentrace/internal/event"
	"xentrace/internal/netfront"
)

func (m *Machine) offload(i *Interface) event.Finding {
	f := about(i, Offload)
	if i.Features.Missing != "" {
		f.Status, f.Message = event.Unknown, "Whether TSO and GSO are on cannot be told: "+i.Features.Missing+"."
		return f
	}
	features := i.Features.Value
	f.Evidence = []event.Fact{{Key: "tso", Value: features.TSO.Active}, {Key: "tso6", Value: features.TSO6.Active}, {Key: "gso", Value: features.GSO.Active}}
	var off, flags []string // by the administrator
	if !features.TSO.Active && !features.TSO.Requested {
		off, flags = append(off, "TSO"), append(flags, "tso on")
	}
	if !features.GSO.Active && !features.GSO.Requested {
		off, flags = append(off, "GSO"), append(flags, "gso on")
	}
	switch {
	case len(off) == 0 && !features.TSO.Active && !features.ScatterGather.Active:
		f.Message = "TSO is off because scatter-gather is."
	case len(off) == 0 && !features.TSO.Active:
		f.Message = "TSO is asked for and off: the backend does not offer it."
	case len(off) == 0:
		f.Message = "TSO and GSO are on: the stack hands large packets to the driver."
	default:
		m.offloadOff(&f, i, strings.Join(off, " and "), strings.Join(flags, " "))
	}
	return f
}

// offloadOff judges what an administrator turned off, which is an old way around
// the drop of packets over the limit.
func (m *Machine) offloadOff(f *event.Finding, i *Interface, off, flags string) {
	verb := "is"
	if strings.Contains(off, "and") {
		verb = "are"
	}
	switch m.Code.linearizes() {
	case netfront.Linearizes:
		f.Status = event.Warn
		f.Message = fmt.Sprintf("%s %s off: an old way around a defect that this driver does not have. It costs processor time and throughput.", off, verb)
		f.Advice = m.advise(i, event.Advice{
			Command: "ethtool -K {ifname} sg on " + flags,
			Effect:  "Bulk senders use less processor time. It lasts until the next start: the line that turned them off stands in a start-up script, a udev rule or the interface's configuration.",
		})
	case netfront.Drops:
		f.Message = fmt.Sprintf("%s %s off, which keeps most packets over the limit away from this driver, at the cost of processor time. Leave it until the kernel is updated.", off, verb)
		if i.MTU > plainMTU {
			f.Status = event.Warn
			f.Message = fmt.Sprintf("%s %s off, which is only half a way around this driver's drops: with an MTU of %d single segments can still need more than 18 slots.", off, verb, i.MTU)
			f.Advice = []event.Advice{updateKernel()}
		}
	default:
		f.Status = event.Unknown
		f.Message = fmt.Sprintf("%s %s off. Whether that is still of use depends on whether the driver linearizes, which is not known.", off, verb)
	}
}
