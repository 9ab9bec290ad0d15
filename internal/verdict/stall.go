package verdict

import (
	"xentrace/internal/event"
	"xentrace/internal/remedy"
	"xentrace/internal/slots"
)

const ordinaryMTU = 1500

// cutPayload is how much of a segment a frame of an ordinary MTU carries: what the headers
// of IPv6 and of TCP with its timestamps leave.
const cutPayload = ordinaryMTU - 72

// RecutFits reports whether each part of a segment is within the limit if the kernel
// re-segments it for an MTU of 1500. Small fragments are not: as many fit a shorter part.
func RecutFits(p *event.Packet) bool {
	needed, left := 1, uint32(cutPayload) // the headers lie in one page
	for _, frag := range p.Frags {
		for at := uint32(0); at < frag.Size; {
			if left == 0 {
				needed, left = 1, cutPayload
			}
			n := min(left, frag.Size-at)
			needed += int(slots.Of(frag.Offset+at, n))
			if needed > slots.Limit {
				return false
			}
			at, left = at+n, left-n
		}
	}
	return true
}

// ForStall returns what helps a connection whose segment is dropped for this cause at every
// retransmission, best first: what frees it (measured: docs/stalled-connection.md), then what
// prevents the next stall.
func ForStall(f remedy.Facts, c event.Cause) []event.Advice {
	recut := f.MTU > ordinaryMTU && f.RecutFits
	switch c {
	case event.TooManySlots:
		frees := remedy.SGOff
		if recut {
			frees = remedy.MTU1500
		}
		return remedy.For(f, frees, remedy.SinglePages, remedy.UpdateKernel)
	case event.LinearizeFailed:
		if recut {
			return remedy.For(f, remedy.MTU1500, remedy.MemoryReserve, remedy.SinglePages)
		}
		return remedy.For(f, remedy.MemoryReserve, remedy.SinglePages)
	}
	return remedy.For(f, OfCause(c).Remedies...)
}
