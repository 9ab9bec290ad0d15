package verdict

import (
	"xentrace/internal/event"
	"xentrace/internal/slots"
)

// Facts are what the advice for a connection that hangs depends on.
type Facts struct {
	MTU         int  // of the interface, in bytes; 0 if it is not known
	SinglePages bool // net.core.high_order_alloc_disable is on
	CutFits     bool // the segment that hangs, as CutFits tells of its packet
}

// ordinaryMTU is what jumbo frames are larger than.
const ordinaryMTU = 1500

// cutPayload is how much of a segment a frame of an ordinary MTU carries: what the headers
// of IPv6 and of TCP with its timestamps leave.
const cutPayload = ordinaryMTU - 72

// CutFits tells whether each part of a segment is within the limit if the kernel cuts it
// anew for an MTU of 1500. Small pieces are not: as many of them go into a shorter part.
func CutFits(p *event.Packet) bool {
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

// A stallRule is advice with what it requires.
type stallRule struct {
	requires func(Facts) bool
	advice   event.Advice
}

func always(Facts) bool { return true }

func cuttable(f Facts) bool { return f.MTU > ordinaryMTU && f.CutFits }

func uncuttable(f Facts) bool { return !cuttable(f) }

func blocks(f Facts) bool { return !f.SinglePages }

// Advice for a segment that is dropped at every retransmission. What frees it was tried
// in a guest: docs/advice.md.
var (
	recutSegments = event.Advice{
		Command: "ip link set dev {ifname} mtu 1500",
		Effect:  "The segment that hangs is cut anew at its next retransmission, which frees the connection. The MTU can be put back when nothing hangs any more and new segments are kept small.",
		Cost:    "The gain of jumbo frames is lost for all traffic on the interface meanwhile.",
	}
	gatherOffForNow = event.Advice{
		Command: "ethtool -K {ifname} sg off",
		Effect:  "The kernel then copies each packet into one piece, which frees the connection at its next retransmission. It is for that moment only: turn sg, tso and gso on again when nothing hangs any more, and set the MTU if it was larger than 1500.",
		Cost:    "Meanwhile the MTU is at most 1500, bulk senders use much more CPU, and from Linux 6.3 on small packets are lost.",
	}
	keepNewSmall = event.Advice{
		Command: orderZeroFrags.Command,
		Effect:  "What programs write from now on lies in single pages and stays within the limit. A segment that hangs already stays as it is.",
		Cost:    orderZeroFrags.Cost,
	}
	updateKernel = event.Advice{
		Effect: "Update the kernel: from Linux 3.17 on (and in stable kernels that took the change) the driver copies such a packet into one buffer and sends it. Turning off TSO and GSO neither frees the connection nor keeps the next from hanging.",
		Cost:   "A restart.",
	}
)

// stallRules hold, for each cause that has advice of its own for a connection that
// hangs, that advice, best first.
var stallRules = map[event.Cause][]stallRule{
	event.TooManySlots: {
		{cuttable, recutSegments},
		{uncuttable, gatherOffForNow},
		{blocks, keepNewSmall},
		{always, updateKernel},
	},
	event.LinearizeFailed: {
		{cuttable, recutSegments},
		{always, memoryReserve},
		{blocks, keepNewSmall},
	},
}

// ForStall returns what would help a connection whose segment is dropped for this cause
// at every retransmission, best first: what frees it, then what keeps others from
// hanging.
func ForStall(f Facts, c event.Cause) []event.Advice {
	rules, own := stallRules[c]
	if !own {
		return OfCause(c).Advice
	}
	var advice []event.Advice
	for _, rule := range rules {
		if rule.requires(f) {
			advice = append(advice, rule.advice)
		}
	}
	return advice
}
