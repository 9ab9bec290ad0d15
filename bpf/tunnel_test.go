package bpf

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"testing"
)

func udpTo(port uint16) []byte {
	return binary.BigEndian.AppendUint16([]byte{0xc0, 0x01}, port)
}

// udpHeader is one to that port.
func udpHeader(port uint16) []byte { return append(udpTo(port), 0, 0, 0, 0) }

func vxlan(flags byte) []byte { return []byte{flags, 0, 0, 0, 0, 0, 42, 0} }

// geneve has options of that many words.
func geneve(words byte, protocol uint16) []byte {
	header := binary.BigEndian.AppendUint16([]byte{words, 0}, protocol)
	return append(header, make([]byte, 4+4*int(words))...)
}

// gre has those flags, and words behind the protocol.
func gre(flags, protocol uint16, words int) []byte {
	header := binary.BigEndian.AppendUint16(binary.BigEndian.AppendUint16(nil, flags), protocol)
	return append(header, make([]byte, 4*words)...)
}

// mpls is a stack of labels, the last of which is marked as such.
func mpls(labels int) (stack []byte) {
	for n := range labels {
		stack = append(stack, 0, 6, byte(n+1)<<4, 64)
	}
	stack[len(stack)-2] |= 1
	return stack
}

// pppoe is the header of a session's data, and PPP's protocol.
func pppoe(code byte, protocol uint16) []byte {
	return binary.BigEndian.AppendUint16([]byte{0x11, code, 0, 1, 0, 100}, protocol)
}

// The carried packet's addresses are the outer one's, its ports those of all other tests.
var (
	inner4    = join(ipv4(6, 0, 0), tcp())
	inner6    = join(ipv6(6), tcp())
	overVXLAN = join(ethernet(0x0800), ipv4(17, 0, 0), udpHeader(4789), vxlan(8))
)

// tunnels are packets, and what they carry.
var tunnels = []struct {
	name   string
	bytes  []byte
	outer  uint8 // protocol
	port   uint16
	family uint8 // of the carried packet, 0: none
	proto  uint8
	seq    bool
}{
	{"VXLAN", join(overVXLAN, ethernet(0x0800), inner4), 17, 4789, 4, 6, true},
	{"VXLAN on Linux's own port", join(ethernet(0x0800), ipv4(17, 0, 0), udpHeader(8472), vxlan(8), ethernet(0x0800), inner4), 17, 8472, 4, 6, true},
	{"VXLAN over IPv6, IPv6 in it", join(ethernet(0x86dd), ipv6(17), udpHeader(4789), vxlan(8), ethernet(0x86dd), inner6), 17, 4789, 6, 6, true},
	{"VXLAN, a tagged frame in it", join(overVXLAN, ethernet(0x0800, 0x8100), inner4), 17, 4789, 4, 6, true},
	{"VXLAN behind a tag", join(ethernet(0x0800, 0x8100), ipv4(17, 0, 0), udpHeader(4789), vxlan(8), ethernet(0x0800), inner4), 17, 4789, 4, 6, true},
	{"VXLAN behind options", join(ethernet(0x0800), ipv4(17, 0, 10), udpHeader(4789), vxlan(8), ethernet(0x0800), inner4), 17, 4789, 4, 6, true},
	{"VXLAN, ARP in it", join(overVXLAN, ethernet(0x0806), make([]byte, 28)), 17, 4789, 0, 0, false},
	{"VXLAN, ICMP in it", join(overVXLAN, ethernet(0x0800), ipv4(1, 0, 0), make([]byte, 8)), 17, 4789, 4, 1, false},
	{"VXLAN without a network", join(ethernet(0x0800), ipv4(17, 0, 0), udpHeader(4789), vxlan(0), ethernet(0x0800), inner4), 17, 4789, 0, 0, false},
	{"VXLAN, first fragment", join(ethernet(0x0800), ipv4(17, 0x2000, 0), udpHeader(4789), vxlan(8), ethernet(0x0800), inner4), 17, 4789, 4, 6, true},
	{"VXLAN, later fragment", join(ethernet(0x0800), ipv4(17, 0x2001, 0), udpHeader(4789), vxlan(8), ethernet(0x0800), inner4), 17, 0, 0, 0, false},
	{"VXLAN, head ends in its header", join(overVXLAN[:len(overVXLAN)-1]), 17, 4789, 0, 0, false},
	{"VXLAN, head ends in the carried IPv4 header", join(overVXLAN, ethernet(0x0800), inner4[:19]), 17, 4789, 0, 0, false},
	{"VXLAN, head ends behind the carried IPv4 header", join(overVXLAN, ethernet(0x0800), inner4[:20]), 17, 4789, 4, 6, false},
	{"Geneve", join(ethernet(0x0800), ipv4(17, 0, 0), udpHeader(6081), geneve(0, 0x6558), ethernet(0x0800), inner4), 17, 6081, 4, 6, true},
	{"Geneve with options", join(ethernet(0x0800), ipv4(17, 0, 0), udpHeader(6081), geneve(63, 0x6558), ethernet(0x86dd), inner6), 17, 6081, 6, 6, true},
	{"Geneve, IPv6 without a frame", join(ethernet(0x86dd), ipv6(17), udpHeader(6081), geneve(2, 0x86dd), inner6), 17, 6081, 6, 6, true},
	{"UDP to another port", join(ethernet(0x0800), ipv4(17, 0, 0), udpHeader(4790), vxlan(8), ethernet(0x0800), inner4), 17, 4790, 0, 0, false},
	{"GRE", join(ethernet(0x0800), ipv4(47, 0, 0), gre(0, 0x0800, 0), inner4), 47, 0, 4, 6, true},
	{"GRE with checksum, key and sequence number", join(ethernet(0x0800), ipv4(47, 0, 0), gre(0xb000, 0x86dd, 3), inner6), 47, 0, 6, 6, true},
	{"GRE with a key", join(ethernet(0x86dd), ipv6(47), gre(0x2000, 0x0800, 1), inner4), 47, 0, 4, 6, true},
	{"GRE, a frame in it", join(ethernet(0x0800), ipv4(47, 0, 0), gre(0, 0x6558, 0), ethernet(0x0800), inner4), 47, 0, 4, 6, true},
	{"GRE of PPTP", join(ethernet(0x0800), ipv4(47, 0, 0), gre(0x3001, 0x880b, 2), inner4), 47, 0, 0, 0, false},
	{"IPIP", join(ethernet(0x0800), ipv4(4, 0, 0), inner4), 4, 0, 4, 6, true},
	{"SIT", join(ethernet(0x0800), ipv4(41, 0, 0), inner6), 41, 0, 6, 6, true},
	{"IPv6 in IPv6", join(ethernet(0x86dd), ipv6(41), inner6), 41, 0, 6, 6, true},
	{"IPv4 in IPv6 behind options", join(ethernet(0x86dd), ipv6(60), extension(4, 0), inner4), 4, 0, 4, 6, true},
	{"one level only", join(ethernet(0x0800), ipv4(4, 0, 0), ipv4(4, 0, 0), inner4), 4, 0, 4, 4, false},
	{"IPv4 that says it carries IPv6", join(ethernet(0x0800), ipv4(41, 0, 0), inner4, tcp()), 41, 0, 0, 0, false},
	{"MPLS", join(ethernet(0x8847), mpls(1), inner4), 0, 0, 4, 6, true},
	{"MPLS, IPv6 in it", join(ethernet(0x8847), mpls(1), inner6), 0, 0, 6, 6, true},
	{"MPLS, three labels", join(ethernet(0x8847), mpls(3), inner4), 0, 0, 4, 6, true},
	{"MPLS, as many labels as are read", join(ethernet(0x8847), mpls(8), inner4), 0, 0, 4, 6, true},
	{"MPLS, a label more", join(ethernet(0x8847), mpls(9), inner4), 0, 0, 0, 0, false},
	{"MPLS multicast behind a tag", join(ethernet(0x8848, 0x8100), mpls(2), inner6), 0, 0, 6, 6, true},
	{"MPLS, a pseudowire in it", join(ethernet(0x8847), mpls(1), make([]byte, 4), ethernet(0x0800), inner4), 0, 0, 0, 0, false},
	{"MPLS, head ends in the labels", join(ethernet(0x8847), mpls(2)[:6]), 0, 0, 0, 0, false},
	{"MPLS, head ends behind the labels", join(ethernet(0x8847), mpls(2)), 0, 0, 0, 0, false},
	{"MPLS, later fragment in it", join(ethernet(0x8847), mpls(1), ipv4(17, 1, 0), make([]byte, 8)), 0, 0, 4, 17, false},
	{"PPPoE", join(ethernet(0x8864), pppoe(0, 0x0021), inner4), 0, 0, 4, 6, true},
	{"PPPoE, IPv6 in it, behind a tag", join(ethernet(0x8864, 0x8100), pppoe(0, 0x0057), inner6), 0, 0, 6, 6, true},
	{"PPPoE behind three tags", join(ethernet(0x8864, 0x88a8, 0x9100, 0x8100), pppoe(0, 0x0021), inner4), 0, 0, 4, 6, true},
	{"PPPoE, LCP in it", join(ethernet(0x8864), pppoe(0, 0xc021), inner4), 0, 0, 0, 0, false},
	{"PPPoE that ends a session", join(ethernet(0x8864), pppoe(0xa7, 0x0021), inner4), 0, 0, 0, 0, false},
	{"PPPoE discovery", join(ethernet(0x8863), pppoe(0, 0x0021), inner4), 0, 0, 0, 0, false},
	{"PPPoE, head ends in its header", join(ethernet(0x8864), pppoe(0, 0x0021)[:7]), 0, 0, 0, 0, false},
	{"ARP", join(ethernet(0x0806), make([]byte, 28)), 0, 0, 0, 0, false},
	{"no tunnel", join(ethernet(0x0800), inner4), 6, sourcePort, 0, 0, false},
}

func TestCarriedFlows(t *testing.T) {
	a := newArena(t)
	inFrags := uint32(0)
	for _, f := range rocket {
		inFrags += f[1]
	}
	for _, typed := range waysOfReading(t, a) {
		r := newTracer(t, a, typed)
		for _, test := range tunnels {
			t.Run(fmt.Sprintf("%s typed %d", test.name, typed), func(t *testing.T) {
				a.t, r.t = t, t
				r.lay(test.bytes)
				event := r.record()
				want := flowFields{Family: test.family, Proto: test.proto}
				want.Saddr, want.Daddr = addresses(test.family)
				if test.seq {
					want.Sport, want.Dport, want.Seq, want.HasSeq = sourcePort, destinationPort, sequence, 1
				}
				if got := flowOf(&XentracePacketEvent{Flow: event.Inner}); got != want {
					t.Errorf("carried flow %+v, want %+v", got, want)
				}
				if test.seq && event.Inner.SeqLength != inFrags {
					t.Errorf("%d sequence numbers, want %d", event.Inner.SeqLength, inFrags)
				}
				if event.Flow.Proto != test.outer || test.outer == 17 && event.Flow.Dport != test.port {
					t.Errorf("outer protocol %d, port %d, want %d, %d", event.Flow.Proto, event.Flow.Dport, test.outer, test.port)
				}
			})
		}
	}
}

// A TCP socket's packet that does not show its segment has the socket's addresses.
func TestFlowOfTheSocket(t *testing.T) {
	const local, remote = 40001, 443
	a := newArena(t)
	r := newTracer(t, a, 0)
	encrypted := join(ethernet(0x0800), ipv4(17, 0, 0), udpHeader(51820), make([]byte, 32))
	near, far := netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("10.0.0.2")
	near6, far6 := netip.MustParseAddr("fd00::1"), netip.MustParseAddr("fd00::2")
	tcp4 := fakeSocket{familyIPv4, stream, protocolTCP, established}
	for _, test := range []struct {
		name   string
		head   []byte
		socket fakeSocket
		want   uint8 // family of the carried flow by the socket, 0: none
	}{
		{"WireGuard", encrypted, tcp4, 4},
		{"WireGuard, IPv6 in it", encrypted, fakeSocket{familyIPv6, stream, protocolTCP, established}, 6},
		{"ESP", join(ethernet(0x0800), ipv4(50, 0, 0), make([]byte, 32)), tcp4, 4},
		{"MPLS", join(ethernet(0x8847), make([]byte, 60)), tcp4, 4},
		{"encrypted in VXLAN", join(overVXLAN, ethernet(0x0800), ipv4(50, 0, 0), make([]byte, 32)), tcp4, 4},
		{"a listener's", encrypted, fakeSocket{familyIPv4, stream, protocolTCP, listening}, 0},
		{"of a UDP socket", encrypted, fakeSocket{familyIPv4, datagram, protocolUDP, closed}, 0},
		{"not in a tunnel", join(ethernet(0x0800), inner4), tcp4, 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			a.t, r.t = t, t
			r.lay(test.head)
			a.socket(test.socket, tcpFields{})
			a.set(atSock, local, "sock", "__sk_common", "skc_num")
			a.set(atSock, uint64(remote>>8|remote&0xff<<8), "sock", "__sk_common", "skc_dport")
			for member, address := range map[string]netip.Addr{"skc_rcv_saddr": near, "skc_daddr": far, "skc_v6_rcv_saddr": near6, "skc_v6_daddr": far6} {
				offset, _ := a.offset("sock", "__sk_common", member)
				copy(a.memory[atSock+offset:], address.AsSlice())
			}
			var want flowFields
			if test.want != 0 {
				want = flowFields{Family: test.want, Proto: 6, Sport: local, Dport: remote}
			}
			switch test.want {
			case 4:
				copy(want.Saddr[:], near.AsSlice())
				copy(want.Daddr[:], far.AsSlice())
			case 6:
				want.Saddr, want.Daddr = near6.As16(), far6.As16()
			}
			if got := flowOf(&XentracePacketEvent{Flow: r.record().Inner}); got != want {
				t.Errorf("carried flow %+v, want %+v", got, want)
			}
		})
	}
	r.lay(join(overVXLAN, ethernet(0x0800), inner4))
	a.socket(tcp4, tcpFields{})
	r.t = t
	if inner := r.record().Inner; inner.HasSeq != 1 || inner.Sport != sourcePort {
		t.Errorf("carried flow %+v, want that of the packet's bytes", inner)
	}
}
