package trace

import (
	"fmt"
	"unsafe"

	"xentrace/bpf"
	"xentrace/internal/event"
	"xentrace/internal/kernel"
)

// elsewhereHeader is what precedes the packet in the record of a drop elsewhere,
// in bytes.
const elsewhereHeader = int(unsafe.Offsetof(bpf.XentraceElsewhereEvent{}.Packet))

// decodeElsewhere returns a packet that was dropped outside the driver; the name of
// its interface, the name of the reason and the stack are left out.
func (d *recordDecoder) decodeElsewhere(raw []byte) (event.Packet, error) {
	if len(raw) < elsewhereHeader {
		return event.Packet{}, fmt.Errorf("record of a drop elsewhere of %d bytes: shorter than its %d bytes of header", len(raw), elsewhereHeader)
	}
	head := &d.elsewhere
	copy(unsafe.Slice((*byte)(unsafe.Pointer(head)), elsewhereHeader), raw)
	if int(head.NrFrames) > len(head.Frames) {
		return event.Packet{}, fmt.Errorf("record of a drop elsewhere: %d frames, of at most %d", head.NrFrames, len(head.Frames))
	}
	p, err := d.decodePacket(raw[elsewhereHeader:])
	if err != nil {
		return event.Packet{}, err
	}
	p.Layer = event.LayerElsewhere
	p.CPU = int(head.Header.Cpu)
	p.Interface = event.Device{Index: int(head.Header.Ifindex), NetNS: head.Header.Netns}
	return p, nil
}

// takeElsewhere decodes a drop elsewhere and says why and where it was dropped.
func (t *Tracer) takeElsewhere(raw []byte) (event.Packet, error) {
	p, err := t.decoder.decodeElsewhere(raw)
	if err != nil {
		return event.Packet{}, err
	}
	head := &t.decoder.elsewhere
	if t.elsewhere.reasons != nil {
		p.Reason = t.elsewhere.reasons.Name(head.Reason)
	}
	p.Stack = t.stacks.name(head.Frames[:head.NrFrames], head.Location)
	if t.calls != nil {
		p.Stack = append(p.Stack, t.calls.user(&t.decoder)...)
	}
	return p, nil
}

// How the kernel side counts reasons: see bpf/elsewhere.h.
const (
	coreReasons      = 256
	subsystemReasons = 32
	subsystemShift   = 16

	// numReasons is how many are counted apart, and one for all others.
	numReasons = len(bpf.XentraceElsewhereCounters{}.Reasons)
)

// otherReasons is what reasons are called that are counted together.
const otherReasons = "other"

// reasonAt returns the reason that is counted at this place.
func reasonAt(place int) uint32 {
	if place < coreReasons {
		return uint32(place)
	}
	subsystem, number := (place-coreReasons)/subsystemReasons+1, (place-coreReasons)%subsystemReasons
	return uint32(subsystem)<<subsystemShift | uint32(number)
}

// nameReasons returns how often each reason was counted; nil where the kernel
// tells none.
func nameReasons(counted *[numReasons]uint64, names *kernel.DropReasons) map[string]uint64 {
	if names == nil {
		return nil
	}
	named := make(map[string]uint64)
	for place, n := range counted {
		switch {
		case n == 0:
		case place == numReasons-1:
			named[otherReasons] += n
		default:
			named[names.Name(reasonAt(place))] += n
		}
	}
	return named
}

// fillReasons says which drops were asked for, and why a reason is missing.
func (t *Tracer) fillReasons(totals *event.Totals) {
	totals.Drops = t.options.Drops
	switch {
	case t.elsewhere == nil:
		const reason = "drops elsewhere are counted with --drops all only"
		totals.Missing["elsewhere"], totals.Missing["reasons"] = reason, reason
	case t.elsewhere.reasons == nil:
		totals.Missing["reasons"] = "this kernel tells no reasons for drops"
	}
}
