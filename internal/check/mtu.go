package check

import (
	"fmt"
	"strings"

	"xentrace/internal/event"
	"xentrace/internal/netfront"
	"xentrace/internal/remedy"
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
		f.Message = fmt.Sprintf("With an MTU of %d frames can be longer than 65,535 bytes; the driver drops those.", i.MTU)
		f.Advice = m.advise(i, remedy.MTU65517)
	case i.MTU > plainMTU && m.Code.linearizes() == netfront.Drops:
		f.Status = event.Warn
		f.Message = fmt.Sprintf("With an MTU of %d one segment of small fragments can need over 18 slots. This driver drops it and every retransmission, and the connection stalls.", i.MTU)
		f.Advice = m.advise(i, remedy.MTU1500)
	case !sg:
		f.Message = fmt.Sprintf("MTU is %d. The %d that ec2rl advises cannot be set: without scatter-gather the driver refuses more than %d.", i.MTU, jumboMTU, plainMTU)
	case m.Code.linearizes() == netfront.Unknown && i.MTU > plainMTU:
		f.Status = event.Unknown
		f.Message = fmt.Sprintf("Whether the MTU of %d causes drops depends on whether the driver linearizes, which is unknown.", i.MTU)
	default:
		f.Message = fmt.Sprintf("MTU is %d: no risk with this driver.", i.MTU)
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
