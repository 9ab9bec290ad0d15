package redact

import (
	"net"
	"net/netip"
)

// mostEntries bounds each table of replacements. What comes later shares one replacement.
const mostEntries = 1 << 16

// addresses replaces addresses: of one family, private or public as before, and those of
// one network (/24, /64 of IPv6) in one network.
type addresses struct {
	known    map[netip.Addr]netip.Addr
	networks map[netip.Prefix]*network
	counts   map[kind]int // networks of each kind
	macs     map[[6]byte][6]byte
}

type network struct {
	number int // among those of its kind
	hosts  int
}

// A kind of addresses has replacements of its own.
type kind uint8

const (
	kept kind = iota // loopback, multicast, unspecified and broadcast identify no host
	public4
	private4
	link4
	public6
	private6
	link6
)

func kindOf(a netip.Addr) kind {
	switch {
	case !a.IsValid(), a.IsUnspecified(), a.IsLoopback(), a.IsMulticast(), a == netip.AddrFrom4([4]byte{255, 255, 255, 255}):
		return kept
	case a.Is4() && a.IsPrivate():
		return private4
	case a.Is4() && a.IsLinkLocalUnicast():
		return link4
	case a.Is4():
		return public4
	case a.IsPrivate():
		return private6
	case a.IsLinkLocalUnicast():
		return link6
	}
	return public6
}

// address returns the replacement of an address; the same one each time.
func (t *addresses) address(a netip.Addr) netip.Addr {
	if a.Is4In6() {
		return netip.AddrFrom16(t.address(a.Unmap()).As16())
	}
	a = a.WithZone("")
	k := kindOf(a)
	if k == kept {
		return a
	}
	if old, is := t.known[a]; is {
		return old
	}
	if len(t.known) >= mostEntries {
		return numbered(k, &network{number: 0xffff}, 0)
	}
	n := t.network(a, k)
	host := n.hosts
	n.hosts++
	made := numbered(k, n, host)
	t.known[a] = made
	return made
}

func (t *addresses) network(a netip.Addr, k kind) *network {
	bits := 24
	if a.Is6() {
		bits = 64
	}
	prefix := netip.PrefixFrom(a, bits).Masked()
	n := t.networks[prefix]
	if n == nil {
		n = &network{number: t.counts[k]}
		t.counts[k]++
		t.networks[prefix] = n
	}
	return n
}

// documentation are the networks of RFC 5737.
var documentation = [3][3]byte{{192, 0, 2}, {198, 51, 100}, {203, 0, 113}}

// numbered is the address of a host in a network, both by number. Public IPv4 networks
// beyond the documentation ones are taken from 240.0.0.0/4, which nobody has.
func numbered(k kind, n *network, host int) netip.Addr {
	high, low := byte(n.number>>8), byte(n.number)
	last := byte(host%254 + 1)
	switch k {
	case private4:
		return netip.AddrFrom4([4]byte{10, high, low, last})
	case link4:
		return netip.AddrFrom4([4]byte{169, 254, low, last})
	case public4:
		if n.number < len(documentation) {
			d := documentation[n.number]
			return netip.AddrFrom4([4]byte{d[0], d[1], d[2], last})
		}
		return netip.AddrFrom4([4]byte{240, high, low, last})
	}
	b := [16]byte{0: 0x20, 1: 0x01, 2: 0x0d, 3: 0xb8, 6: high, 7: low, 14: byte((host + 1) >> 8), 15: byte(host + 1)}
	switch k {
	case private6:
		b[0], b[1], b[2], b[3] = 0xfd, 0, 0, 0
	case link6:
		b[0], b[1], b[2], b[3], b[6], b[7] = 0xfe, 0x80, 0, 0, 0, 0
	}
	return netip.AddrFrom16(b)
}

// mac returns the replacement of a hardware address: a locally administered one.
func (t *addresses) mac(a [6]byte) [6]byte {
	if a == ([6]byte{}) || a[0]&1 == 1 { // unspecified, or a group
		return a
	}
	if old, is := t.macs[a]; is {
		return old
	}
	if len(t.macs) >= mostEntries {
		return [6]byte{2, 0, 0, 0xff, 0xff, 0xff}
	}
	n := len(t.macs) + 1
	made := [6]byte{2, 0, 0, byte(n >> 16), byte(n >> 8), byte(n)}
	t.macs[a] = made
	return made
}

func macText(b [6]byte) string { return net.HardwareAddr(b[:]).String() }
