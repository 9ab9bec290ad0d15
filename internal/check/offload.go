package check

import (
	"fmt"
	"strings"

	"xentrace/internal/event"
	"xentrace/internal/netdev"
	"xentrace/internal/netfront"
	"xentrace/internal/remedy"
)

func (m *Machine) offload(i *Interface) event.Finding {
	f := about(i, Offload)
	if i.Features.Missing != "" {
		f.Status, f.Message = event.Unknown, "TSO and GSO are unknown: "+i.Features.Missing+"."
		return f
	}
	features := i.Features.Value
	f.Evidence = []event.Fact{{Key: "tso", Value: features.TSO.Active}, {Key: "tso6", Value: features.TSO6.Active}, {Key: "gso", Value: features.GSO.Active}}
	var off, refused, withheld []string // by the administrator; by the backend, as far as requested and at all
	facts := m.FactsOf(i)
	for _, feature := range []struct {
		name string
		netdev.Feature
		offered bool
	}{{"TSO", features.TSO, facts.TSO != remedy.Absent || features.TSO.Requested}, {"TSO for IPv6", features.TSO6, facts.TSO6 != remedy.Absent || features.TSO6.Requested}, {"GSO", features.GSO, true}} {
		switch {
		case feature.Active:
		case !feature.offered:
			withheld = append(withheld, feature.name)
		case feature.Requested:
			refused = append(refused, feature.name)
		default:
			off = append(off, feature.name)
		}
	}
	switch {
	case len(off) > 0:
		m.offloadOff(&f, i, off)
		m.setBy(&f, i, "tso", "gso")
	case len(withheld) > 0:
		f.Message = list(withheld) + " " + areOff(withheld) + ", and the backend does not offer " + map[bool]string{false: "it", true: "them"}[len(withheld) > 1] + "."
	case len(refused) == 0:
		f.Message = "TSO, TSO for IPv6 and GSO are on."
	case !features.ScatterGather.Active:
		f.Message = list(refused) + " " + areOff(refused) + " because scatter-gather is off."
	default:
		f.Message = list(refused) + " " + areOff(refused) + " although requested: the backend does not offer it."
	}
	return f
}

// offloadOff judges what an administrator turned off, which is an old workaround for drops
// over the limit.
func (m *Machine) offloadOff(f *event.Finding, i *Interface, names []string) {
	off := list(names) + " " + areOff(names)
	if m.FactsOf(i).SG == remedy.Absent {
		f.Message = off + ". That needs scatter-gather, which the backend does not offer."
		return
	}
	switch m.Code.linearizes() {
	case netfront.Linearizes:
		f.Status, f.Message = event.Warn, off+": a workaround for a defect that this driver does not have. It costs CPU and throughput."
		f.Advice = m.advise(i, remedy.SGOn, remedy.OffloadOn)
	case netfront.Drops:
		f.Message = off + ", which keeps most packets over the limit away from this driver, and costs CPU. Leave it until the kernel is updated."
		if i.MTU > plainMTU {
			f.Status, f.Message = event.Warn, fmt.Sprintf("%s, which avoids only some of this driver's drops: with an MTU of %d one segment can still need over 18 slots.", off, i.MTU)
			f.Advice = m.advise(i, remedy.UpdateKernel)
		}
	default:
		f.Status, f.Message = event.Unknown, off+". Whether that is of use depends on whether the driver linearizes, which is unknown."
	}
}

func list(names []string) string {
	if n := len(names) - 1; n > 0 {
		return strings.Join(names[:n], ", ") + " and " + names[n]
	}
	return names[0]
}

func areOff(names []string) string {
	if len(names) > 1 {
		return "are off"
	}
	return "is off"
}

const (
	plainMTU = 1500 // the most that the driver allows without scatter-gather
	jumboMTU = 9001 // what EC2 has, and what ec2rl looks for
	// A frame of this MTU, with its Ethernet header and a VLAN tag, has the 65535
	// bytes that a request on the ring can say.
	largestMTU = 65517
)

func (m *Machine) mtu(i *Interface) event.Finding {
	f := about(i, MTU)
	f.Evidence = []event.Fact{{Key: "mtu", Value: i.MTU}}
	sg := i.Features.Missing != "" || i.Features.Value.ScatterGather.Active
	switch {
	case i.MTU > largestMTU:
		f.Status, f.Message = event.Warn, fmt.Sprintf("With an MTU of %d frames can be longer than 65,535 bytes; the driver drops those.", i.MTU)
		f.Advice = m.advise(i, remedy.MTU65517)
		if m.Code.linearizes() == netfront.Drops {
			f.Advice = m.advise(i, remedy.MTU1500)
		}
	case i.MTU > plainMTU && m.Code.linearizes() == netfront.Drops:
		f.Status, f.Message = event.Warn, fmt.Sprintf("With an MTU of %d one segment of small fragments can need over 18 slots. This driver drops it and every retransmission, and the connection stalls.", i.MTU)
		f.Advice = m.advise(i, remedy.MTU1500)
	case !sg:
		f.Message = fmt.Sprintf("MTU is %d. The %d that ec2rl advises cannot be set: without scatter-gather the driver refuses more than %d.", i.MTU, jumboMTU, plainMTU)
	case m.Code.linearizes() == netfront.Unknown && i.MTU > plainMTU:
		f.Status, f.Message = event.Unknown, fmt.Sprintf("Whether the MTU of %d causes drops depends on whether the driver linearizes, which is unknown.", i.MTU)
	case m.Code.linearizes() == netfront.Linearizes:
		f.Message = fmt.Sprintf("MTU is %d: no risk with this driver.", i.MTU)
	default:
		f.Message = fmt.Sprintf("MTU is %d: only packets of many small fragments can need over 18 slots.", i.MTU)
	}
	if f.Status == event.Warn {
		m.setBy(&f, i, "mtu")
	}
	return f
}
