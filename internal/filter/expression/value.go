package expression

import (
	"encoding/binary"
	"net"
	"net/netip"
	"strconv"
	"strings"

	"golang.org/x/net/bpf"
)

// value reads one value, of the kind that q names.
func (p *parser) value(q *qualifiers) (node, error) {
	switch q.kind {
	case "port", "portrange":
		return p.port(q)
	case "proto":
		return p.protoValue(q)
	case "net":
		return p.network(q)
	}
	return p.host(q)
}

// either applies the qualifiers' direction to what is made for a source and a destination.
func (q *qualifiers) either(source, destination node) node {
	switch q.direction {
	case "src":
		return source
	case "dst":
		return destination
	case "and":
		return allOf{source, destination}
	}
	return oneOf{source, destination}
}

func (p *parser) host(q *qualifiers) (node, error) {
	t := p.take()
	if q.proto == "ether" {
		return p.etherHost(q, t)
	}
	switch t.kind {
	case dotted:
		address, err := netip.ParseAddr(t.text)
		if p.peek().text == "/" {
			return nil, fault(t, "a network; write %s", phraseFor(q, "net"))
		}
		if err != nil {
			return nil, fault(t, "not an IPv4 address of 4 octets; write net 10.1.0.0/16 for a network")
		}
		return p.four(q, t, word4(address), 1<<32-1)
	case address6:
		if p.peek().text == "/" {
			return nil, fault(t, "a network; write %s", phraseFor(q, "net"))
		}
		return p.six(q, t, netip.PrefixFrom(netip.MustParseAddr(t.text), 128))
	case mac:
		return nil, fault(t, "a MAC address; write ether host")
	case word:
		return nil, fault(t, "names are not looked up; write the address")
	}
	return nil, fault(t, "want an address such as 10.0.0.9 or fd00::9")
}

// phraseFor is the qualifiers with another kind.
func phraseFor(q *qualifiers, kind string) string {
	other := *q
	other.kind = kind
	return other.String()
}

func (p *parser) etherHost(q *qualifiers, t token) (node, error) {
	if t.kind != mac || q.kind == "net" {
		return nil, fault(t, "not a MAC address: write ether host 00:16:3e:01:02:03")
	}
	parts := strings.FieldsFunc(t.text, func(r rune) bool { return r == ':' || r == '-' })
	address := make(net.HardwareAddr, 6)
	for i, part := range parts {
		octet, err := strconv.ParseUint(part, 16, 8)
		if err != nil {
			return nil, fault(t, "not a MAC address: write ether host 00:16:3e:01:02:03")
		}
		address[i] = byte(octet)
	}
	p.require("ether host")
	at := func(offset int) node {
		return allOf{equals(offset+2, 4, binary.BigEndian.Uint32(address[2:])), equals(offset, 2, uint32(binary.BigEndian.Uint16(address)))}
	}
	return q.either(at(6), at(0)), nil
}

func word4(a netip.Addr) uint32 {
	octets := a.As4()
	return binary.BigEndian.Uint32(octets[:])
}

// four matches IPv4 addresses; without a protocol also those in ARP and RARP packets.
func (p *parser) four(q *qualifiers, t token, address, mask uint32) (node, error) {
	at := func(etherType uint32, source, destination int) node {
		return allOf{p.etherType(etherType), q.either(masked(p.net+source, address, mask), masked(p.net+destination, address, mask))}
	}
	ip, arp, rarp := at(etherIPv4, 12, 16), at(etherARP, 14, 24), at(etherRARP, 14, 24)
	switch q.proto {
	case "":
		return oneOf{ip, arp, rarp}, nil
	case "ip":
		return ip, nil
	case "arp":
		p.require("arp host")
		return arp, nil
	case "rarp":
		p.require("rarp host")
		return rarp, nil
	}
	if q.proto == "ip6" {
		return nil, fault(t, "not an IPv6 address")
	}
	return nil, withoutProto(q, t, "addresses")
}

func (p *parser) six(q *qualifiers, t token, prefix netip.Prefix) (node, error) {
	switch q.proto {
	case "", "ip6":
	case "ip", "arp", "rarp":
		return nil, fault(t, "not an IPv4 address")
	default:
		return nil, withoutProto(q, t, "addresses")
	}
	octets := prefix.Addr().As16()
	at := func(offset int) node {
		var all allOf
		for i, bits := 0, prefix.Bits(); i < 4 && bits > 0; i, bits = i+1, bits-32 {
			mask := uint32(1<<32 - 1)
			if bits < 32 {
				mask <<= 32 - bits
			}
			all = append(all, masked(offset+4*i, binary.BigEndian.Uint32(octets[4*i:]), mask))
		}
		return all
	}
	return allOf{p.etherType(etherIPv6), q.either(at(p.net+8), at(p.net+24))}, nil
}

// withoutProto reports that a protocol has no such value, and how to ask for both.
func withoutProto(q *qualifiers, t token, what string) error {
	rest := *q
	rest.proto = ""
	return fault(t, "%s has no %s; write %s and %s %s", q.proto, what, q.proto, rest.String(), t.text)
}

// network reads 10.0.0.0/8, 10.0.0.0 mask 255.0.0.0, 10.1 for 10.1.0.0/16, or fd00::/8.
func (p *parser) network(q *qualifiers) (node, error) {
	t := p.take()
	if q.proto == "ether" {
		return nil, fault(t, "Ethernet has no networks; write ether host MAC")
	}
	switch t.kind {
	case address6:
		return p.network6(q, t)
	case number:
		if t.value == 0 || t.value > 255 || p.peek().text == "/" {
			return nil, fault(t, "write the network's 4 octets, e.g. net 10.0.0.0/8")
		}
		return p.four(q, t, t.value<<24, 0xff<<24)
	case dotted:
	case word:
		return nil, fault(t, "names are not looked up; write the network, e.g. net 10.0.0.0/8")
	default:
		return nil, fault(t, "want a network such as 10.0.0.0/8 or fd00::/8")
	}
	address, bits, err := octets(t)
	if err != nil {
		return nil, err
	}
	mask := ^uint32(0) << (32 - bits)
	switch {
	case p.accept("/"):
		if bits, err = p.bits(32); err != nil {
			return nil, err
		}
		mask = uint32(uint64(1<<32-1) << (32 - bits))
	case p.accept("mask"):
		of := p.take()
		if of.kind != dotted {
			return nil, fault(of, "want a netmask such as 255.255.0.0 behind mask")
		}
		if mask, _, err = octets(of); err != nil {
			return nil, err
		}
	}
	if address&^mask != 0 {
		return nil, fault(t, "has bits set that its mask has not; write %s for one address", phraseFor(q, "host"))
	}
	return p.four(q, t, address, mask)
}

// octets reads 2 to 4 octets of an address, filled up with zeros, and how many bits they are.
func octets(t token) (address uint32, bits int, err error) {
	parts := strings.Split(t.text, ".")
	for _, part := range parts {
		octet, err := strconv.ParseUint(part, 10, 8)
		if err != nil || len(part) > 1 && part[0] == '0' {
			return 0, 0, fault(t, "not an IPv4 address: octets are 0 to 255, without zeros in front")
		}
		address = address<<8 | uint32(octet)
	}
	bits = 8 * len(parts)
	return address << (32 - bits), bits, nil
}

// bits reads the length of a prefix.
func (p *parser) bits(most uint32) (int, error) {
	t := p.take()
	if t.kind != number || t.value > most {
		return 0, fault(t, "not a prefix length: a number from 0 to %d", most)
	}
	return int(t.value), nil
}

func (p *parser) network6(q *qualifiers, t token) (node, error) {
	bits := 128
	if p.accept("/") {
		var err error
		if bits, err = p.bits(128); err != nil {
			return nil, err
		}
	}
	prefix := netip.PrefixFrom(netip.MustParseAddr(t.text), bits)
	if prefix.Masked().Addr() != prefix.Addr() {
		return nil, fault(t, "has bits set behind its %d; write %s for one address", bits, phraseFor(q, "host"))
	}
	return p.six(q, t, prefix)
}

// port reads a port or, behind portrange, two with a dash between.
func (p *parser) port(q *qualifiers) (node, error) {
	t := p.take()
	low, high := t.value, t.value
	switch {
	case t.kind == word && q.kind == "portrange":
		first, last, _ := strings.Cut(t.text, "-")
		a, errA := strconv.ParseUint(first, 10, 16)
		b, errB := strconv.ParseUint(last, 10, 16)
		if errA != nil || errB != nil {
			return nil, fault(t, "not a range of ports; write portrange 8000-8080")
		}
		low, high = uint32(min(a, b)), uint32(max(a, b))
	case t.kind == word && strings.Contains(t.text, "-") && t.text[0] >= '0' && t.text[0] <= '9':
		return nil, fault(t, "a range; write %s", phraseFor(q, "portrange"))
	case t.kind == word:
		return nil, fault(t, "names are not looked up; write the port's number (/etc/services has it)")
	case t.kind != number || t.value > 65535:
		return nil, fault(t, "not a port: a number from 0 to 65535")
	}
	proto, ok := protocols[q.proto]
	if !ok && q.proto != "" || ok && q.proto != "tcp" && q.proto != "udp" && q.proto != "sctp" {
		return nil, withoutProto(q, t, "ports")
	}
	numbers := []uint32{protoTCP, protoUDP, protoSCTP}
	if ok {
		numbers = []uint32{proto.number}
	}
	return oneOf{p.port4(q, numbers, low, high), p.port6(q, numbers, low, high)}, nil
}

func anyOf(offset int, values []uint32) node {
	var any oneOf
	for _, v := range values {
		any = append(any, equals(offset, 1, v))
	}
	return any
}

// port4 matches ports behind an IPv4 header; a fragment that is not the first has none.
func (p *parser) port4(q *qualifiers, numbers []uint32, low, high uint32) node {
	at := func(offset int) []bpf.Instruction {
		return []bpf.Instruction{
			bpf.LoadMemShift{Off: uint32(prefix + p.net)},
			bpf.LoadIndirect{Off: uint32(prefix + p.net + offset), Size: 2},
		}
	}
	return allOf{
		p.etherType(etherIPv4), anyOf(p.net+9, numbers), p.firstFragment(),
		q.either(between(at(0), low, high), between(at(2), low, high)),
	}
}

func (p *parser) firstFragment() node {
	return negate{compare(p.net+6, 2, bpf.JumpBitsSet, 0x1fff)}
}

// port6 matches ports right behind an IPv6 header, as libpcap does.
func (p *parser) port6(q *qualifiers, numbers []uint32, low, high uint32) node {
	at := func(offset int) []bpf.Instruction { return []bpf.Instruction{load(p.net+40+offset, 2)} }
	return allOf{
		p.etherType(etherIPv6), anyOf(p.net+6, numbers),
		q.either(between(at(0), low, high), between(at(2), low, high)),
	}
}

func between(value []bpf.Instruction, low, high uint32) node {
	if low == high {
		return test{load: value, cond: bpf.JumpEqual, value: low}
	}
	return allOf{test{load: value, cond: bpf.JumpGreaterOrEqual, value: low}, test{load: value, cond: bpf.JumpLessOrEqual, value: high}}
}

// protoValue reads a protocol's number, or its name behind a backslash.
func (p *parser) protoValue(q *qualifiers) (node, error) {
	t := p.take()
	named, isName := protocols[strings.TrimPrefix(t.text, `\`)]
	if t.kind == word && isName {
		return nil, fault(t, `a keyword; write proto \%s`, t.text)
	}
	if q.proto == "ether" {
		return p.etherProto(t, named.etherType)
	}
	value := t.value
	switch {
	case t.kind == escaped && named.number != 0:
		value = named.number
	case t.kind != number || value > 255:
		return nil, fault(t, `not a protocol: a number from 0 to 255, or a name such as \tcp`)
	}
	switch q.proto {
	case "", "ip", "ip6":
		return p.above(protocol{number: value, over4: q.proto != "ip6", over6: q.proto != "ip"}), nil
	}
	return nil, fault(t, "%s carries no other protocol; write proto, ip proto or ip6 proto", q.proto)
}

func (p *parser) etherProto(t token, named uint32) (node, error) {
	value := t.value
	switch {
	case t.kind == escaped && named != 0:
		value = named
	case t.kind != number || value < 0x600 || value > 0xffff || value == 0x809b || value == 0x80f3:
		return nil, fault(t, `not an EtherType of Ethernet II: a number from 0x600 to 0xffff, or one of \ip, \ip6, \arp, \rarp`)
	}
	return p.etherType(value), nil
}
