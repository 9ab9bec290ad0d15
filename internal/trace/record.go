package trace

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"xentrace/bpf"
	"xentrace/internal/event"
	"xentrace/internal/slots"
)

// recordHeader is how long a packet record without fragments is, in bytes.
const recordHeader = int(unsafe.Offsetof(bpf.XentracePacketEvent{}.Frags))

// stackedRecord is the offset of the stack in a record that has one: after the space for all
// fragments.
const stackedRecord = int(unsafe.Sizeof(bpf.XentracePacketEvent{}))

const interfaceRecord = int(unsafe.Sizeof(bpf.XentraceInterfaceEvent{}))

// recordDecoder turns ring buffer records into packets. It has its own buffers, so that a
// storm of records allocates only what is kept.
type recordDecoder struct {
	packet    bpf.XentracePacketEvent
	call      bpf.XentraceCallStack // its frames are none if the record has no stack
	iface     bpf.XentraceInterfaceEvent
	elsewhere bpf.XentraceElsewhereHead
	jiffy     time.Duration // length of one
	wallTime  func(monotonic uint64) time.Time

	foreignPIDs bool // the BPF programs' PIDs are not those of this PID namespace

	names map[[16]uint8]string // of processes, as they were last read
}

// parts are what most packets refer to, in one allocation.
type parts struct {
	flow   event.Flow
	socket event.Socket
	sender event.Task
	tcp    event.TCP
}

// newParts also returns n fragments.
func newParts(n int) (*parts, []event.Frag) {
	if n > usualFrags {
		return &parts{}, make([]event.Frag, n)
	}
	whole := &struct {
		parts
		frags [usualFrags]event.Frag
	}{}
	return &whole.parts, whole.frags[:n:n]
}

// usualFrags is how many fragments a packet has at most on most kernels (MAX_SKB_FRAGS).
const usualFrags = 17

// mostNames bounds the names that are kept.
const mostNames = 256

func (d *recordDecoder) kind(raw []byte) (bpf.XentraceEventKind, error) {
	if len(raw) < interfaceRecord {
		return 0, fmt.Errorf("record of %d bytes: shorter than any", len(raw))
	}
	return *(*bpf.XentraceEventKind)(unsafe.Pointer(&raw[0])), nil
}

// decodeInterface returns an interface that is not registered.
func (d *recordDecoder) decodeInterface(raw []byte) event.Device {
	copy(unsafe.Slice((*byte)(unsafe.Pointer(&d.iface)), interfaceRecord), raw)
	return event.Device{
		Name:  cString(d.iface.Name[:]),
		Index: int(d.iface.Header.Ifindex),
		NetNS: d.iface.Header.Netns,
	}
}

// decodePacket returns the packet; the name of its interface is left out.
func (d *recordDecoder) decodePacket(raw []byte) (event.Packet, error) {
	if len(raw) < recordHeader {
		return event.Packet{}, fmt.Errorf("packet record of %d bytes: shorter than its %d bytes of header", len(raw), recordHeader)
	}
	record := &d.packet
	copy(unsafe.Slice((*byte)(unsafe.Pointer(record)), int(unsafe.Sizeof(*record))), raw)
	frags := int(record.NrFrags)
	if frags > len(record.Frags) || recordHeader+frags*int(unsafe.Sizeof(record.Frags[0])) > len(raw) {
		return event.Packet{}, fmt.Errorf("packet record of %d bytes: too short for %d fragments", len(raw), frags)
	}
	behind, err := d.decodeCall(raw, recordHeader+frags*int(unsafe.Sizeof(record.Frags[0])))
	if err != nil {
		return event.Packet{}, err
	}
	header, err := decodeHeader(record, raw[behind:])
	if err != nil {
		return event.Packet{}, err
	}
	parts, fragments := newParts(frags)
	p := d.packetOf(record, fragments, parts)
	p.Header = header
	if record.Tcp.Present != 0 {
		p.TCP = d.decodeTCP(&parts.tcp, &record.Tcp, &p)
	}
	return p, nil
}

// packetOf returns what stands in fixed members of a record.
func (d *recordDecoder) packetOf(record *bpf.XentracePacketEvent, frags []event.Frag, parts *parts) event.Packet {
	p := event.Packet{
		Time:       d.wallTime(record.TimeNs),
		CPU:        int(record.Header.Cpu),
		Interface:  event.Device{Index: int(record.Header.Ifindex), NetNS: record.Header.Netns},
		Queue:      int(record.Queue),
		Verdict:    event.Verdict(record.Verdict),
		Cause:      event.Cause(record.Cause),
		Slots:      int(record.Slots),
		Limit:      slots.Limit,
		Len:        int(record.Len),
		HeadOffset: int(record.HeadOffset),
		HeadLen:    int(record.HeadLen),
		Frags:      frags,
		GSOSize:    int(record.GsoSize),
		GSOSegs:    int(record.GsoSegs),
		EtherType:  record.EtherType,
		Flow:       decodeFlow(&parts.flow, &record.Flow),
		Socket:     decodeSocket(&parts.socket, &record.Socket),
	}
	switch {
	case record.Inner.Family == 0:
	case record.BeforeNat != 0:
		p.BeforeNAT = decodeFlow(&event.Flow{}, &record.Inner)
	default:
		p.Inner = decodeInner(&event.Flow{}, &record.Inner)
	}
	for i := range frags {
		frags[i] = event.Frag{Offset: record.Frags[i].Offset, Size: record.Frags[i].Size}
	}
	if record.Sender.Tgid != 0 && !d.foreignPIDs {
		parts.sender = taskOf(&record.Sender, d.name(record.Sender.Comm))
		p.Sender = &parts.sender
	}
	return p
}

// name returns a process's name.
func (d *recordDecoder) name(comm [16]uint8) string {
	name, known := d.names[comm]
	if known {
		return name
	}
	if d.names == nil || len(d.names) >= mostNames {
		d.names = make(map[[16]uint8]string)
	}
	name = cString(comm[:])
	d.names[comm] = name
	return name
}

// decodeCall decodes the stack, if the record has one, and returns the offset in the record
// after its fragments or its stack.
func (d *recordDecoder) decodeCall(raw []byte, behindFrags int) (int, error) {
	d.call.NrKernel, d.call.NrUser = 0, 0
	if d.packet.Stacked == 0 {
		return behindFrags, nil
	}
	behind := stackedRecord + int(unsafe.Sizeof(d.call))
	if len(raw) < behind {
		return 0, fmt.Errorf("packet record of %d bytes: too short for a stack", len(raw))
	}
	copy(unsafe.Slice((*byte)(unsafe.Pointer(&d.call)), int(unsafe.Sizeof(d.call))), raw[stackedRecord:])
	if int(d.call.NrKernel) > len(d.call.Kernel) || int(d.call.NrUser) > len(d.call.User) {
		return 0, fmt.Errorf("packet record: stack of %d and %d frames, of at most %d and %d",
			d.call.NrKernel, d.call.NrUser, len(d.call.Kernel), len(d.call.User))
	}
	return behind, nil
}

// noAddresses is the part of an Ethernet header before the type, with zero addresses.
const noAddresses = 12

// decodeHeader returns the packet's first bytes. A packet that begins with its network
// header gets an Ethernet header without addresses.
func decodeHeader(record *bpf.XentracePacketEvent, rest []byte) ([]byte, error) {
	snapped := int(record.Snapped)
	switch {
	case snapped == 0:
		return nil, nil
	case snapped > len(rest):
		return nil, fmt.Errorf("packet record: %d bytes of the packet, and the record has %d", snapped, len(rest))
	case record.Linkless == 0:
		return slices.Clone(rest[:snapped]), nil
	}
	header := make([]byte, noAddresses, noAddresses+2+snapped)
	header = binary.BigEndian.AppendUint16(header, record.EtherType)
	return append(header, rest[:snapped]...), nil
}

// decodeFlow returns to with the flow in it; nil if there is none.
func decodeFlow(to *event.Flow, f *bpf.XentraceFlow) *event.Flow {
	var source, destination netip.Addr
	switch f.Family {
	case 4:
		source = netip.AddrFrom4([4]byte(f.Saddr[:4]))
		destination = netip.AddrFrom4([4]byte(f.Daddr[:4]))
	case 6:
		source = netip.AddrFrom16(f.Saddr)
		destination = netip.AddrFrom16(f.Daddr)
	default:
		return nil
	}
	*to = event.Flow{
		Proto:       f.Proto,
		Source:      netip.AddrPortFrom(source, f.Sport),
		Destination: netip.AddrPortFrom(destination, f.Dport),
		Seq:         f.Seq,
		SeqKnown:    f.HasSeq != 0,
		SeqLength:   f.SeqLength,
	}
	return to
}

// decodeInner returns the flow of a carried packet. Addresses of a socket may be IPv4 ones
// that are written as IPv6.
func decodeInner(to *event.Flow, f *bpf.XentraceFlow) *event.Flow {
	flow := decodeFlow(to, f)
	if flow != nil {
		flow.Source = netip.AddrPortFrom(flow.Source.Addr().Unmap(), flow.Source.Port())
		flow.Destination = netip.AddrPortFrom(flow.Destination.Addr().Unmap(), flow.Destination.Port())
	}
	return flow
}

// decodeTCP returns the state of the packet's socket; nil if the packet is not known to be
// a segment of it.
func (d *recordDecoder) decodeTCP(tcp *event.TCP, state *bpf.XentraceTcpState, p *event.Packet) *event.TCP {
	*tcp = decodeState(state, d.jiffy)
	switch {
	case p.Inner != nil && p.Inner.Proto == unix.IPPROTO_TCP && p.Inner.SeqKnown:
		tcp.Seq = p.Inner.Seq
	case p.Inner != nil && p.Inner.Proto == unix.IPPROTO_TCP:
		tcp.Seq = tcp.SndUna
	case p.Flow != nil && p.Flow.SeqKnown:
		tcp.Seq = p.Flow.Seq
	default:
		return nil
	}
	return tcp
}

// decodeState returns the state of a connection; its Seq is left out.
func decodeState(t *bpf.XentraceTcpState, jiffy time.Duration) event.TCP {
	return event.TCP{
		State:       t.State,
		SndUna:      t.SndUna,
		SndNxt:      t.SndNxt,
		WriteSeq:    t.WriteSeq,
		Retransmits: int(t.Retransmits),
		RTO:         time.Duration(t.RtoJiffies) * jiffy,
		SRTT:        time.Duration(t.SrttUs) * time.Microsecond,
		SndQBytes:   t.WriteSeq - t.SndUna,
		Backoff:     int(t.Backoff),

		TotalRetransmits: t.TotalRetrans,
		BytesAcked:       t.BytesAcked,
	}
}

func decodeSocket(to *event.Socket, s *bpf.XentraceSocketIdentity) *event.Socket {
	if s.Address == 0 {
		return nil
	}
	*to = event.Socket{Address: s.Address, Cookie: s.Cookie, Inode: s.Inode, Cgroup: s.Cgroup, UID: s.Uid, Hash: s.Hash}
	return to
}

func cString(bytes []byte) string {
	for i, b := range bytes {
		if b == 0 {
			return string(bytes[:i])
		}
	}
	return string(bytes)
}
