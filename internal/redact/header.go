package redact

import (
	"encoding/binary"
	"net/netip"
	"slices"
)

// EtherTypes and protocol numbers.
const (
	etherIPv4 = 0x0800
	etherIPv6 = 0x86dd
	ether8021 = 0x8100
	ether8022 = 0x88a8

	protoICMP   = 1
	protoTCP    = 6
	protoUDP    = 17
	protoICMPv6 = 58
)

const (
	linkBytes = 14
	tagBytes  = 4
	ipv4Bytes = 20
	ipv6Bytes = 40
	tcpBytes  = 20
	udpBytes  = 8
	icmpBytes = 4 // type, code and checksum; what follows may hold a packet
)

// header replaces the addresses in a packet's first bytes. What is not understood, and what
// comes after the headers of TCP, UDP or ICMP, becomes zeros; so do TCP's and UDP's
// checksums. The one of IPv4 is made right.
func (r *Redactor) header(packet []byte) []byte {
	b := slices.Clone(packet)
	if len(b) < linkBytes {
		clear(b)
		return b
	}
	for _, at := range []int{0, 6} {
		made := r.addresses.mac([6]byte(b[at : at+6]))
		copy(b[at:], made[:])
	}
	at := 12
	kind := binary.BigEndian.Uint16(b[at:])
	for (kind == ether8021 || kind == ether8022) && len(b) >= at+tagBytes+2 {
		at += tagBytes
		kind = binary.BigEndian.Uint16(b[at:])
	}
	rest := b[at+2:]
	switch {
	case kind == etherIPv4 && len(rest) >= ipv4Bytes:
		r.ipv4(rest)
	case kind == etherIPv6 && len(rest) >= ipv6Bytes:
		r.ipv6(rest)
	default:
		clear(rest)
	}
	return b
}

func (r *Redactor) ipv4(b []byte) {
	for _, at := range []int{12, 16} {
		made := r.addresses.address(netip.AddrFrom4([4]byte(b[at : at+4]))).As4()
		copy(b[at:], made[:])
	}
	length := int(b[0]&15) * 4
	if length < ipv4Bytes || length > len(b) {
		clear(b[ipv4Bytes:])
		return
	}
	for i := range b[ipv4Bytes:length] { // options may hold addresses
		b[ipv4Bytes+i] = 1 // no operation
	}
	b[10], b[11] = 0, 0
	binary.BigEndian.PutUint16(b[10:], checksum(b[:length]))
	if binary.BigEndian.Uint16(b[6:])&0x1fff != 0 { // not the first fragment
		clear(b[length:])
		return
	}
	transport(b[length:], b[9])
}

func (r *Redactor) ipv6(b []byte) {
	for _, at := range []int{8, 24} {
		made := r.addresses.address(netip.AddrFrom16([16]byte(b[at : at+16]))).As16()
		copy(b[at:], made[:])
	}
	transport(b[ipv6Bytes:], b[6])
}

// transport keeps a header and clears what is behind it.
func transport(b []byte, proto byte) {
	switch {
	case proto == protoTCP && len(b) >= tcpBytes:
		end := min(max(int(b[12]>>4)*4, tcpBytes), len(b))
		b[16], b[17] = 0, 0
		clear(b[end:])
	case proto == protoUDP && len(b) >= udpBytes:
		b[6], b[7] = 0, 0
		clear(b[udpBytes:])
	case (proto == protoICMP || proto == protoICMPv6) && len(b) >= icmpBytes:
		b[2], b[3] = 0, 0
		clear(b[icmpBytes:])
	default:
		clear(b)
	}
}

// checksum is the one of the internet protocols, RFC 1071.
func checksum(b []byte) uint16 {
	var sum uint32
	for ; len(b) > 1; b = b[2:] {
		sum += uint32(binary.BigEndian.Uint16(b))
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return ^uint16(sum)
}
