// Package header returns the first bytes of a packet: those that were read from it, or
// its record in the same form.
package header

import (
	"encoding/binary"

	"xentrace/internal/event"
)

// Lengths of headers, in bytes.
const (
	Ethernet = 14
	ipv4     = 20
	ipv6     = 40
	fragment = 8 // IPv6 extension header
	udp      = 8
	tcp      = 20
	maxTCP   = 60
)

// Protocol numbers, as in the headers.
const (
	etherIPv4 = 0x0800
	etherIPv6 = 0x86dd
	protoTCP  = 6
	protoUDP  = 17
	protoFrag = 44
)

// A Frame is the first bytes of a packet.
type Frame struct {
	Bytes []byte // from the link header on; empty if not even the EtherType is known
	Len   int    // of the whole packet in bytes, link header included
	// Reconstructed: the bytes were made from the packet's record. MAC addresses, VLAN
	// tags, TTL, flags, acknowledgement, window and options are not the packet's own;
	// checksums are 0; what follows the last known field is left out.
	Reconstructed bool
}

// Of returns the first bytes of a packet.
func Of(p *event.Packet) Frame {
	if len(p.Header) > 0 {
		return Frame{Bytes: p.Header, Len: max(frameLength(p), len(p.Header))}
	}
	f := p.Flow
	if f == nil {
		return notIP(p)
	}
	b := make([]byte, 0, Ethernet+ipv6+fragment+maxTCP)
	length := ipLength(p)
	if f.Source.Addr().Unmap().Is4() {
		b = appendIPv4(appendEthernet(b, etherIPv4), f, length)
	} else {
		b = appendIPv6(appendEthernet(b, etherIPv6), f, length)
	}
	if !laterFragment(f) {
		b = appendTransport(b, p, Ethernet+length)
	}
	return Frame{Bytes: b, Len: max(Ethernet+length, len(b)), Reconstructed: true}
}

// frameLength is how long a packet is whose header was read. Where the Ethernet header only
// stands for one, which its zero addresses and IP's own length show, Len does not count it.
func frameLength(p *event.Packet) int {
	b := p.Header
	if len(b) < Ethernet+ipv4 || [12]byte(b[:12]) != [12]byte{} {
		return p.Len
	}
	length := -1
	switch binary.BigEndian.Uint16(b[12:]) {
	case etherIPv4:
		length = int(binary.BigEndian.Uint16(b[Ethernet+2:]))
	case etherIPv6:
		length = ipv6 + int(binary.BigEndian.Uint16(b[Ethernet+4:]))
	}
	if length == p.Len {
		return Ethernet + p.Len
	}
	return p.Len
}

func notIP(p *event.Packet) Frame {
	frame := Frame{Len: p.Len, Reconstructed: true}
	if p.EtherType != 0 {
		frame.Bytes = appendEthernet(nil, p.EtherType)
		frame.Len = max(p.Len, Ethernet)
	}
	return frame
}

func appendEthernet(b []byte, etherType uint16) []byte {
	return binary.BigEndian.AppendUint16(append(b, make([]byte, Ethernet-2)...), etherType)
}

func headerLength(f *event.Flow) int {
	if f.Source.Addr().Unmap().Is4() {
		return ipv4
	}
	return ipv6
}

// ipLength returns how long the packet is without its link header. A packet of a tunnel's
// device has none, and one that is dropped before the driver may have none yet: the length
// of its TCP header shows that, which is a multiple of 4.
func ipLength(p *event.Packet) int {
	if p.Flow.Proto == protoTCP && p.Flow.SeqKnown {
		if _, _, ok := tcpHeader(p, p.Len-Ethernet); !ok {
			if _, _, ok := tcpHeader(p, p.Len); ok {
				return p.Len
			}
		}
	}
	least := headerLength(p.Flow)
	if p.Flow.Proto == protoUDP {
		least += udp
	}
	return max(p.Len-Ethernet, least)
}

// laterFragment reports whether the packet is a fragment that is not the first: it has no
// ports.
func laterFragment(f *event.Flow) bool {
	return (f.Proto == protoTCP || f.Proto == protoUDP) && f.Source.Port() == 0 && f.Destination.Port() == 0
}

func appendIPv4(b []byte, f *event.Flow, length int) []byte {
	if length > 0xffff {
		length = 0 // as the kernel writes it: the length is the frame's
	}
	fragment := uint16(0x4000) // do not fragment
	if laterFragment(f) {
		fragment = 1
	}
	b = append(b, 0x45, 0)
	b = binary.BigEndian.AppendUint16(b, uint16(length))
	b = binary.BigEndian.AppendUint16(b, 0) // identification
	b = binary.BigEndian.AppendUint16(b, fragment)
	b = append(b, 64, f.Proto, 0, 0) // TTL, protocol, checksum
	source, destination := f.Source.Addr().Unmap().As4(), f.Destination.Addr().Unmap().As4()
	return append(append(b, source[:]...), destination[:]...)
}

func appendIPv6(b []byte, f *event.Flow, length int) []byte {
	payload := length - ipv6
	if payload > 0xffff {
		payload = 0
	}
	next := f.Proto
	if laterFragment(f) {
		next = protoFrag
	}
	b = append(b, 0x60, 0, 0, 0)
	b = binary.BigEndian.AppendUint16(b, uint16(payload))
	b = append(b, next, 64)
	source, destination := f.Source.Addr().As16(), f.Destination.Addr().As16()
	b = append(append(b, source[:]...), destination[:]...)
	if laterFragment(f) {
		b = append(b, f.Proto, 0, 0, 1<<3, 0, 0, 0, 0)
	}
	return b
}

// appendTransport appends what is known of the header behind IP, for a frame of length.
func appendTransport(b []byte, p *event.Packet, length int) []byte {
	f := p.Flow
	if f.Proto != protoTCP && f.Proto != protoUDP {
		return b
	}
	b = binary.BigEndian.AppendUint16(b, f.Source.Port())
	b = binary.BigEndian.AppendUint16(b, f.Destination.Port())
	if f.Proto == protoUDP {
		b = binary.BigEndian.AppendUint16(b, uint16(length-len(b)+4))
		return binary.BigEndian.AppendUint16(b, 0)
	}
	size, flags, ok := tcpHeader(p, length-Ethernet)
	if !ok {
		return b
	}
	b = binary.BigEndian.AppendUint32(b, f.Seq)
	b = binary.BigEndian.AppendUint32(b, 0)
	b = append(b, uint8(size/4)<<4, flags)
	b = binary.BigEndian.AppendUint16(b, 0xffff)
	b = append(b, 0, 0, 0, 0) // checksum, urgent pointer
	return append(b, make([]byte, size-tcp)...)
}

const (
	flagFIN = 0x01
	flagSYN = 0x02
	flagACK = 0x10

	stateSynSent = 2
	stateSynRecv = 3
)

// tcpHeader returns how long the TCP header of a packet is, which has length bytes without
// the link header, and its flags: what is not payload is header, and a header is a
// multiple of 4 long, so that a SYN or FIN shows in the sequence numbers.
func tcpHeader(p *event.Packet, length int) (size int, flags byte, ok bool) {
	f := p.Flow
	if !f.SeqKnown {
		return 0, 0, false
	}
	size, flags = length-headerLength(f)-int(f.SeqLength), flagACK
	if size%4 == 3 {
		size++
		flags |= finOrSyn(p)
	}
	return size, flags, size%4 == 0 && size >= tcp && size <= maxTCP
}

func finOrSyn(p *event.Packet) byte {
	if p.TCP != nil && (p.TCP.State == stateSynSent || p.TCP.State == stateSynRecv) {
		return flagSYN
	}
	return flagFIN
}
