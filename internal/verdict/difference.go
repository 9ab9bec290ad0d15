package verdict

import (
	"fmt"

	"xentrace/internal/event"
)

// Netfront is what InterfaceTotals.Driver holds for an interface of the Xen
// frontend.
const Netfront = "xen-netfront"

// Difference explains why the drops that were counted for an interface and
// what its own tx_dropped moved by are not the same number. It returns "" where
// they are, and where tx_dropped could not be read.
func Difference(t *event.InterfaceTotals) string {
	if t.TxDroppedDelta == nil || *t.TxDroppedDelta == t.Dropped {
		return ""
	}
	moved := *t.TxDroppedDelta
	switch {
	case t.Driver != Netfront:
		return fmt.Sprintf("%s is not xen-netfront: it drops for reasons of its own, which are not judged here.", t.Driver)
	case moved > t.Dropped:
		sentence := fmt.Sprintf("%d more than the driver's own drops: the counter also holds what the kernel's core dropped before the driver was asked.", moved-t.Dropped)
		if t.Backend == event.Tracepoint {
			sentence += " Packets from netpoll, pktgen and raw sockets that bypass the queue are not seen by the tracepoint backend."
		}
		return sentence
	case t.Queues > 1:
		return fmt.Sprintf("%d fewer than the driver's drops: it adds to this counter without a lock, and with %d queues additions get lost. The count of drops is the exact one.", t.Dropped-moved, t.Queues)
	case t.Gone:
		return fmt.Sprintf("%d fewer than the driver's drops: the counter was last read before the interface went away.", t.Dropped-moved)
	default:
		return fmt.Sprintf("%d fewer than the driver's drops, which one queue does not explain unless the interface was set up anew meanwhile. The count of drops is the exact one.", t.Dropped-moved)
	}
}
