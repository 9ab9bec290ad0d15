package expression

import (
	"golang.org/x/net/bpf"
)

// A qualifiers is what a value is: the words before it.
type qualifiers struct {
	proto     string // "" if none is named
	direction string // "src", "dst", "or", "and", or "" for either
	kind      string // host, net, port, portrange, proto, or "" for a host
}

func (q *qualifiers) String() string {
	direction := q.direction
	switch direction {
	case "or":
		direction = "src or dst"
	case "and":
		direction = "src and dst"
	}
	return joined(q.proto, direction, q.kind)
}

// primitive reads one that begins with a keyword.
func (p *parser) primitive() (node, *qualifiers, error) {
	t := p.peek()
	switch {
	case t.kind == endOfText:
		return nil, nil, fault(t, "want a condition here, e.g. tcp port 443 or host 10.0.0.9")
	case t.kind == symbol:
		return nil, nil, fault(t, "want a condition here, e.g. tcp port 443 or host 10.0.0.9")
	case refused[t.text] != "":
		return nil, nil, fault(t, "%s", refused[t.text])
	}
	switch t.text {
	case "less", "greater":
		p.take()
		n, err := p.lengthLimit(t.text)
		return n, nil, err
	case "vlan":
		p.take()
		n, err := p.vlan()
		return n, nil, err
	case "broadcast", "multicast":
		n, err := p.cast("", t)
		return n, nil, err
	}
	return p.qualified()
}

// qualified reads qualifiers and the values behind them, or a protocol alone.
func (p *parser) qualified() (node, *qualifiers, error) {
	first := p.peek()
	q := &qualifiers{}
	if _, ok := protocols[first.text]; ok {
		q.proto = p.take().text
		if q.proto == "link" {
			q.proto = "ether"
		}
	}
	if t := p.peek(); q.proto != "" && t.kind == word && (t.text == "broadcast" || t.text == "multicast") {
		n, err := p.cast(q.proto, t)
		return n, nil, err
	}
	if p.direction(q); q.direction != "" && p.peek().text == "proto" {
		return nil, nil, fault(p.peek(), "a protocol has no direction; leave out src and dst")
	}
	if t := p.peek(); t.kind == word {
		switch t.text {
		case "host", "net", "port", "portrange", "proto":
			q.kind = p.take().text
		default:
			if reason, ok := refused[t.text]; ok {
				return nil, nil, fault(t, "%s", reason)
			}
		}
	}
	if q.direction == "" && q.kind == "" {
		if q.proto == "" {
			return nil, nil, fault(first, "not the beginning of a condition; write e.g. tcp port 443 or host 10.0.0.9")
		}
		n, err := p.protocolAlone(q.proto, first)
		return n, nil, err
	}
	n, err := p.values(q)
	return n, q, err
}

func (p *parser) direction(q *qualifiers) {
	other := map[string]string{"src": "dst", "dst": "src"}
	t := p.peek()
	if t.kind != word || other[t.text] == "" {
		return
	}
	q.direction = p.take().text
	if p.after().text != other[t.text] {
		return
	}
	switch join := p.peek().text; join {
	case "or", "||":
		q.direction = "or"
	case "and", "&&":
		q.direction = "and"
	default:
		return
	}
	p.at += 2
}

func (p *parser) protocolAlone(name string, t token) (node, error) {
	proto := protocols[name]
	switch {
	case proto.etherType != 0:
		return p.etherType(proto.etherType), nil
	case proto.number != 0:
		return p.above(proto), nil
	}
	return nil, fault(t, "not a condition by itself; write ether host, ether proto, ether broadcast or ether multicast")
}

func (p *parser) etherType(value uint32) node { return equals(p.link, 2, value) }

// above is a protocol above IP.
func (p *parser) above(proto protocol) node {
	four := allOf{p.etherType(etherIPv4), equals(p.net+9, 1, proto.number)}
	// Behind a fragment header too, but no other extension header, as in libpcap.
	six := allOf{p.etherType(etherIPv6), oneOf{
		equals(p.net+6, 1, proto.number),
		allOf{equals(p.net+6, 1, protoFragment), equals(p.net+40, 1, proto.number)},
	}}
	switch {
	case !proto.over6:
		return four
	case !proto.over4:
		return six
	}
	return oneOf{four, six}
}

// lengthLimit reads the number behind less or greater; both bounds are within.
func (p *parser) lengthLimit(which string) (node, error) {
	t := p.take()
	if t.kind != number {
		return nil, fault(t, "want a number of bytes behind %s", which)
	}
	cond := bpf.JumpGreaterOrEqual
	if which == "less" {
		cond = bpf.JumpLessOrEqual
	}
	return compare(-prefix, 4, cond, t.value), nil
}

// vlan reads a tag, and moves what follows behind it.
func (p *parser) vlan() (node, error) {
	const mostTags = 8
	p.require("vlan")
	n := allOf{oneOf{p.etherType(0x8100), p.etherType(0x88a8), p.etherType(0x9100)}}
	if t := p.peek(); t.kind == number {
		p.take()
		if t.value > 4095 {
			return nil, fault(t, "not a VLAN: a number from 0 to 4095")
		}
		n = append(n, test{load: []bpf.Instruction{load(p.net, 2), bpf.ALUOpConstant{Op: bpf.ALUOpAnd, Val: 0x0fff}}, cond: bpf.JumpEqual, value: t.value})
	}
	if p.link += 4; p.link > 12+4*mostTags {
		return nil, fault(p.peek(), "too many VLAN tags; at most %d", mostTags)
	}
	p.net += 4
	return n, nil
}

// cast reads broadcast or multicast.
func (p *parser) cast(proto string, t token) (node, error) {
	p.take()
	switch {
	case (proto == "" || proto == "ether") && t.text == "broadcast":
		p.require("ether broadcast")
		return allOf{equals(2, 4, 1<<32-1), equals(0, 2, 1<<16-1)}, nil
	case proto == "" || proto == "ether":
		p.require("ether multicast")
		return compare(0, 1, bpf.JumpBitsSet, 1), nil
	case proto == "ip" && t.text == "multicast":
		return allOf{p.etherType(etherIPv4), compare(p.net+16, 1, bpf.JumpGreaterOrEqual, 224)}, nil
	case proto == "ip6" && t.text == "multicast":
		return allOf{p.etherType(etherIPv6), equals(p.net+24, 1, 255)}, nil
	case proto == "ip":
		return nil, fault(t, "not supported, it depends on the interface's netmask; write ip dst host ADDRESS")
	}
	return nil, fault(t, "%s has none; write ether %s, ip multicast or ip6 multicast", proto, t.text)
}
