package verdict

import (
	"fmt"

	"xentrace/internal/event"
)

// Netfront is InterfaceTotals.Driver of a Xen interface.
const Netfront = "xen-netfront"

// Difference explains why the delta of an interface's own tx_dropped differs from the
// drops that xentrace counted; "" if they are equal or tx_dropped could not be read.
func Difference(t *event.InterfaceTotals) string {
	if t.TxDroppedDelta == nil || *t.TxDroppedDelta == t.Dropped {
		return ""
	}
	moved := *t.TxDroppedDelta
	switch {
	case t.Driver != Netfront:
		return fmt.Sprintf("%s is not xen-netfront: it drops for reasons of its own, which xentrace does not judge.", t.Driver)
	case moved > t.Dropped:
		sentence := fmt.Sprintf("%d more than the driver's own drops: the counter includes what the kernel's core dropped before calling the driver.", moved-t.Dropped)
		if t.Backend == event.Tracepoint {
			sentence += " The tracepoint backend misses packets of netpoll, pktgen and AF_PACKET with qdisc bypass."
		}
		return sentence
	case t.Queues > 1:
		return fmt.Sprintf("%d fewer than the driver's drops: it updates this counter without a lock, so %d queues lose increments. The drops counted by xentrace are exact.", t.Dropped-moved, t.Queues)
	case t.Gone:
		return fmt.Sprintf("%d fewer than the driver's drops: the counter was last read before the interface went away.", t.Dropped-moved)
	default:
		return fmt.Sprintf("%d fewer than the driver's drops, which one queue does not explain unless the interface was reconnected meanwhile. The drops counted by xentrace are exact.", t.Dropped-moved)
	}
}
