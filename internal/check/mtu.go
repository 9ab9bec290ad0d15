package check

import (
	"fmt"
	"strings"

	"xentrace/internal/event"
	"xentrace/internal/netfront"
	"xentrace/internal/verdict"
)

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
		f.Status = event.Warn
		f.Message = fmt.Sprintf("The MTU of %d lets frames of more than 65535 bytes through, which the driver drops.", i.MTU)
		f.Advice = m.advise(i, verdict.OfCause(event.TooBig).Advice...)
	case i.MTU > plainMTU && m.Code.linearizes() == netfront.Drops:
		f.Status = event.Warn
		f.Message = fmt.Sprintf("With an MTU of %d a single segment of small pieces can need more than 18 slots. This driver drops it, each time it is sent again too, and the connection hangs.", i.MTU)
		f.Advice = m.advise(i, event.Advice{
			Command: "ip link set dev {ifname} mtu 1500",
			Effect:  "Segments are cut smaller, those of connections that hang included.",
			Cost:    "The gain of jumbo frames is lost for all traffic on the interface.",
		})
	case !sg:
		f.Message = fmt.Sprintf("The MTU is %d. The %d that ec2rl advises while scatter-gather is off cannot be set: without it the driver refuses more than %d.", i.MTU, jumboMTU, plainMTU)
	default:
		f.Message = fmt.Sprintf("The MTU of %d is no danger with this driver.", i.MTU)
		if m.Code.linearizes() == netfront.Unknown && i.MTU > plainMTU {
			f.Status = event.Unknown
			f.Message = fmt.Sprintf("Whether the MTU of %d is a danger depends on whether the driver linearizes, which is not known.", i.MTU)
		}
	}
	return f
}

// fill puts values in the place of {names}.
func fill(text string, values ...string) string {
	pairs := make([]string, 0, len(values))
	for n := 0; n+1 < len(values); n += 2 {
		pairs = append(pairs, "{"+values[n]+"}", values[n+1])
	}
	return strings.NewReplacer(pairs...).Replace(text)
}
