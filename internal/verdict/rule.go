// Package verdict puts in sentences what happened to a packet and why. The rules are data;
// nothing here looks at the machine. Remedies are in package remedy, by ID.
package verdict

import (
	"xentrace/internal/event"
	"xentrace/internal/remedy"
	"xentrace/internal/slots"
)

// A Rule explains one verdict, one cause of a drop, or one drop reason of the kernel.
type Rule struct {
	Name     string // as in the JSON output
	Meaning  string // one sentence: what happened, and why
	Remedies []remedy.ID
}

// OfCause returns the rule for a drop with this cause.
func OfCause(c event.Cause) Rule {
	rule, known := causeRules[c]
	if !known {
		c = event.UnknownCause
		rule = causeRules[c]
	}
	rule.Name = c.String()
	return rule
}

// OfPacket returns the rule for a packet that was dropped, by the driver or elsewhere.
func OfPacket(p *event.Packet) Rule {
	if p.Layer == event.LayerElsewhere {
		return OfReason(p.Reason)
	}
	return OfCause(p.Cause)
}

// OfVerdict returns the rule for a verdict. It is empty but for the name for those that need
// no explanation, and for Dropped, which OfCause explains.
func OfVerdict(v event.Verdict) Rule {
	rule := verdictRules[v]
	rule.Name = v.String()
	return rule
}

// causeRules follow the tests of xennet_start_xmit, 5.10 to 7.3.
var causeRules = map[event.Cause]Rule{
	event.NoQueues: {
		Meaning:  "The interface has no TX queue: connecting to the backend failed or is not complete.",
		Remedies: []remedy.ID{remedy.LogOfDriver, remedy.Reattach},
	},
	event.DeviceBroken: {
		Meaning:  "The frontend disabled the interface because its backend misbehaved. Every packet is dropped until the device is replaced.",
		Remedies: []remedy.ID{remedy.LogOfBroken, remedy.Reattach},
	},
	event.TooBig: {
		Meaning:  "The packet is longer than 65,535 bytes, the most a ring request can describe.",
		Remedies: []remedy.ID{remedy.MTU65517, remedy.GROLimit},
	},
	event.TooManySlots: {
		Meaning:  "The packet is over the slot limit (18) and this driver does not linearize, so every retransmission is dropped too.",
		Remedies: []remedy.ID{remedy.UpdateKernel, remedy.SinglePages, remedy.MTU1500},
	},
	event.LinearizeFailed: {
		Meaning:  "The packet is over the slot limit (18), and there was no contiguous memory for the copy.",
		Remedies: []remedy.ID{remedy.SinglePages, remedy.OffloadOff, remedy.MemoryReserve},
	},
	event.BounceFailed: {
		Meaning:  "The packet had to be copied before it could be shared with the backend, and there was no memory for the copy.",
		Remedies: []remedy.ID{remedy.MemoryReserve},
	},
	event.NoCarrier: {
		Meaning:  "The interface has no carrier: its backend in dom0 is not connected.",
		Remedies: []remedy.ID{remedy.CarrierState},
	},
	event.SGOff: {
		Meaning:  "The packet needs 2 slots or more while scatter-gather is off. On Linux 6.3 and later small packets do when their head straddles a page boundary.",
		Remedies: []remedy.ID{remedy.SGOn, remedy.SGBackend},
	},
	event.NeedsGSO: {
		Meaning:  "The device was to segment the packet, but the feature was turned off between the stack and the driver.",
		Remedies: []remedy.ID{remedy.FeatureState},
	},
	event.UnknownCause: {
		Meaning:  "The driver dropped the packet, and none of its known tests explains why.",
		Remedies: []remedy.ID{remedy.ReportPacket},
	},
}

var verdictRules = map[event.Verdict]Rule{
	event.Linearized: {
		Meaning:  "The packet was over the slot limit (18); the driver copied it into one buffer and sent it. Nothing is lost while memory for the copies is found.",
		Remedies: []remedy.ID{remedy.SinglePages},
	},
	event.Bounced: {
		Meaning: "The driver copied the packet before sending it: its head starts less than 14 bytes before a page boundary, or the backend is untrusted. Nothing is lost.",
	},
	event.OverLimit: {
		Meaning: "This driver sent the packet. xen-netfront would have linearized it (Linux 3.17 and later) or dropped it (3.7 to 3.16).",
	},
	event.Rejected: {
		Meaning:  "The driver sent the packet and the backend rejected it: the packet is lost, and no counter of the guest shows it.",
		Remedies: []remedy.ID{remedy.Rejected, remedy.UpdateKernel, remedy.BackendDebug},
	},
}

const ordinaryMTU = 1500

// cutPayload is how much of a segment a frame of an ordinary MTU carries: what the headers
// of IPv6 and of TCP with its timestamps leave.
const cutPayload = ordinaryMTU - 72

// RecutFits reports whether each part of a segment is within the limit if the kernel
// re-segments it for an MTU of 1500. Small fragments are not: as many fit a shorter part.
func RecutFits(p *event.Packet) bool {
	needed, left := 1, uint32(cutPayload) // the headers are in one page
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
