package verdict

import (
	"fmt"
	"strings"

	"xentrace/internal/event"
	"xentrace/internal/slots"
)

// A span is a range of whole numbers. The zero value is empty.
type span struct {
	least, most int
	some        bool
}

func (s *span) add(n int) {
	if !s.some {
		*s = span{least: n, most: n, some: true}
		return
	}
	s.least, s.most = min(s.least, n), max(s.most, n)
}

// String is the number, or "5 to 7".
func (s span) String() string {
	if s.least == s.most {
		return fmt.Sprint(s.least)
	}
	return fmt.Sprintf("%d to %d", s.least, s.most)
}

// of returns "1 fragment", "3 to 5 fragments".
func (s span) of(noun string) string {
	if s.least != 1 || s.most != 1 {
		noun += "s"
	}
	return s.String() + " " + noun
}

func (s span) within(least, most int) bool { return s.least >= least && s.most <= most }

func (t *tally) sentence() string {
	parts := []string{t.memory()}
	if t.gsoSize.most > 0 {
		parts = append(parts, fmt.Sprintf("%s of %s", t.gsoSegs.of("segment"), t.gsoSize.of("byte")))
	}
	text := strings.Join(append(parts, t.slots.of("slot")), ", ")
	if t.pattern.cause != "" {
		text += ": " + t.pattern.cause
	}
	if t.forwarded == t.packets {
		text += "; no local socket: it came from another network namespace, a guest or another host"
	}
	return text + "."
}

// memory describes the fragments, or the linear part of packets without any.
func (t *tally) memory() string {
	if t.frags.most == 0 {
		head := fmt.Sprintf("no fragments, linear part of %s", t.heads.of("byte"))
		if t.beforeEnd.within(0, t.heads.least-1) {
			head += fmt.Sprintf(" starting %s before a page boundary", t.beforeEnd.of("byte"))
		}
		return head
	}
	memory := fmt.Sprintf("%s of %s", t.frags.of("fragment"), t.sizes.of("byte"))
	switch {
	case t.sizes.most > slots.PageSize && t.straddling.most == 0:
		return memory + ", none in more pages than its length needs"
	case t.sizes.most > slots.PageSize:
		return fmt.Sprintf("%s, %s of them in 1 page more than their length needs", memory, t.straddling)
	case t.straddling.most == 0:
		return memory + ", none straddling a page boundary"
	case t.straddling == t.frags && t.frags.least == t.frags.most && t.frags.most > 1:
		return memory + ", all straddling a page boundary"
	case t.straddling.within(1, 1):
		return memory + ", 1 of them straddling a page boundary"
	default:
		return fmt.Sprintf("%s, %s of them straddling a page boundary", memory, t.straddling)
	}
}

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
