package expression

import (
	"encoding/binary"
	"math/rand/v2"
	"net"
	"testing"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
)

// A frame of the corpus, whole.
type frame struct {
	name string
	data []byte
}

var (
	macA = net.HardwareAddr{0x00, 0x16, 0x3e, 0x01, 0x02, 0x03}
	macB = net.HardwareAddr{0x00, 0x16, 0x3e, 0x0a, 0x0b, 0x0c}
)

func frameOf(t testing.TB, name string, parts ...gopacket.SerializableLayer) frame {
	t.Helper()
	b := gopacket.NewSerializeBuffer()
	if err := gopacket.SerializeLayers(b, gopacket.SerializeOptions{FixLengths: true}, parts...); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return frame{name, b.Bytes()}
}

func ethernet(kind layers.EthernetType) *layers.Ethernet {
	return &layers.Ethernet{SrcMAC: macA, DstMAC: macB, EthernetType: kind}
}

func tagged(parts ...uint16) []gopacket.SerializableLayer {
	all := []gopacket.SerializableLayer{ethernet(layers.EthernetTypeDot1Q)}
	for i, id := range parts {
		kind := layers.EthernetTypeDot1Q
		if i == len(parts)-1 {
			kind = layers.EthernetTypeIPv4
		}
		all = append(all, &layers.Dot1Q{VLANIdentifier: id, Priority: 3, Type: kind})
	}
	return all
}

func ip4(proto layers.IPProtocol, source, destination string) *layers.IPv4 {
	return &layers.IPv4{Version: 4, IHL: 5, TTL: 64, Protocol: proto, SrcIP: net.ParseIP(source).To4(), DstIP: net.ParseIP(destination).To4()}
}

func ip6(next layers.IPProtocol, source, destination string) *layers.IPv6 {
	return &layers.IPv6{Version: 6, HopLimit: 64, NextHeader: next, SrcIP: net.ParseIP(source), DstIP: net.ParseIP(destination)}
}

func tcp(source, destination uint16, change func(*layers.TCP)) *layers.TCP {
	t := &layers.TCP{SrcPort: layers.TCPPort(source), DstPort: layers.TCPPort(destination), Seq: 1000, Ack: 2000, Window: 500}
	if change != nil {
		change(t)
	}
	return t
}

func udp(source, destination uint16) *layers.UDP {
	return &layers.UDP{SrcPort: layers.UDPPort(source), DstPort: layers.UDPPort(destination)}
}

func payload(n int) gopacket.Payload {
	b := make(gopacket.Payload, n)
	for i := range b {
		b[i] = byte(i)
	}
	return b
}

func fragmentOf(ip *layers.IPv4, offset uint16, more bool) *layers.IPv4 {
	ip.FragOffset = offset
	if more {
		ip.Flags = layers.IPv4MoreFragments
	}
	return ip
}

func withOptions(ip *layers.IPv4) *layers.IPv4 {
	ip.Options = []layers.IPv4Option{{OptionType: 7, OptionLength: 11, OptionData: make([]byte, 9)}}
	return ip
}

// raw is a header that gopacket does not write, e.g. of ARP.
func raw(hex ...byte) gopacket.Payload { return hex }

func arp(t testing.TB, kind layers.EthernetType, sender, target string) frame {
	return frameOf(t, "ARP", ethernet(kind), &layers.ARP{
		AddrType: layers.LinkTypeEthernet, Protocol: layers.EthernetTypeIPv4, HwAddressSize: 6, ProtAddressSize: 4, Operation: 1,
		SourceHwAddress: macA, SourceProtAddress: net.ParseIP(sender).To4(), DstHwAddress: make([]byte, 6), DstProtAddress: net.ParseIP(target).To4(),
	})
}

// corpus is what the expressions of testdata ask for, and what they must not take for it.
func corpus(t testing.TB) []frame {
	e4, e6 := ethernet(layers.EthernetTypeIPv4), ethernet(layers.EthernetTypeIPv6)
	const a, b, c, d = "10.0.0.1", "10.0.0.9", "192.168.1.7", "172.16.5.4"
	const x, y, z = "fd00::1", "fd00::9", "2001:db8:1:2::7"
	syn := func(t *layers.TCP) { t.SYN = true }
	all := []frame{
		frameOf(t, "tcp 80", e4, ip4(6, a, b), tcp(40000, 80, nil), payload(100)),
		frameOf(t, "tcp 443 syn", e4, ip4(6, b, a), tcp(40001, 443, syn)),
		frameOf(t, "tcp syn ack", e4, ip4(6, c, a), tcp(443, 40001, func(t *layers.TCP) { t.SYN, t.ACK = true, true })),
		frameOf(t, "tcp fin", e4, ip4(6, c, d), tcp(1500, 22, func(t *layers.TCP) { t.FIN, t.ACK = true, true })),
		frameOf(t, "tcp rst", e4, ip4(6, d, c), tcp(22, 1500, func(t *layers.TCP) { t.RST = true })),
		frameOf(t, "tcp psh urg", e4, ip4(6, d, a), tcp(8080, 8081, func(t *layers.TCP) { t.PSH, t.URG, t.ACK = true, true, true }), payload(1400)),
		frameOf(t, "tcp ece cwr", e4, ip4(6, a, d), tcp(999, 1000, func(t *layers.TCP) { t.ECE, t.CWR = true, true }), payload(9)),
		frameOf(t, "tcp with options", e4, ip4(6, a, b), tcp(2000, 2001, func(t *layers.TCP) {
			t.Options = []layers.TCPOption{{OptionType: 2, OptionLength: 4, OptionData: []byte{5, 180}}}
		}), payload(5)),
		frameOf(t, "tcp in ip options", e4, withOptions(ip4(6, a, c)), tcp(80, 1234, syn)),
		frameOf(t, "udp in ip options", e4, withOptions(ip4(17, a, c)), udp(53, 1234), payload(40)),
		frameOf(t, "udp 53", e4, ip4(17, a, b), udp(53, 40000), payload(60)),
		frameOf(t, "udp 80", e4, ip4(17, b, a), udp(40000, 80), payload(2000)),
		frameOf(t, "udp both 5353", e4, ip4(17, c, "224.0.0.251"), udp(5353, 5353), payload(10)),
		frameOf(t, "udp 0", e4, ip4(17, a, b), udp(0, 0)),
		frameOf(t, "udp 65535", e4, ip4(17, a, b), udp(65535, 4789), payload(1)),
		frameOf(t, "sctp", e4, ip4(132, a, b), raw(0, 80, 1, 187, 0, 0, 0, 1, 0, 0, 0, 0)),
		frameOf(t, "icmp echo", e4, ip4(1, a, b), &layers.ICMPv4{TypeCode: layers.CreateICMPv4TypeCode(8, 0), Id: 80, Seq: 443}, payload(56)),
		frameOf(t, "icmp echo reply", e4, ip4(1, b, a), &layers.ICMPv4{TypeCode: layers.CreateICMPv4TypeCode(0, 0)}, payload(56)),
		frameOf(t, "icmp unreachable", e4, ip4(1, b, a), &layers.ICMPv4{TypeCode: layers.CreateICMPv4TypeCode(3, 4)}, payload(28)),
		frameOf(t, "igmp", e4, ip4(2, a, "224.0.0.1"), raw(0x16, 0, 0, 0, 224, 0, 0, 1)),
		frameOf(t, "gre", e4, ip4(47, a, b), raw(0, 0, 8, 0), ip4(6, a, b), tcp(80, 443, nil)),
		frameOf(t, "ipip", e4, ip4(4, c, d), ip4(6, a, b), tcp(80, 443, nil)),
		frameOf(t, "esp", e4, ip4(50, a, b), payload(40)),
		frameOf(t, "ah", e4, ip4(51, a, b), payload(40)),
		frameOf(t, "pim", e4, ip4(103, a, b), payload(20)),
		frameOf(t, "vrrp", e4, ip4(112, a, "224.0.0.18"), payload(20)),
		frameOf(t, "first fragment of udp", e4, fragmentOf(ip4(17, a, b), 0, true), udp(53, 80), payload(1000)),
		frameOf(t, "middle fragment of udp", e4, fragmentOf(ip4(17, a, b), 185, true), raw(0, 53, 0, 80), payload(1000)),
		frameOf(t, "last fragment of tcp", e4, fragmentOf(ip4(6, a, b), 370, false), raw(0, 80, 1, 187), payload(50)),
		frameOf(t, "last fragment of icmp", e4, fragmentOf(ip4(1, a, b), 10, false), raw(8, 0), payload(50)),
		frameOf(t, "tcp over ipv6", e6, ip6(6, x, y), tcp(40000, 443, syn), payload(11)),
		frameOf(t, "tcp 80 over ipv6", e6, ip6(6, y, z), tcp(80, 40000, nil), payload(1200)),
		frameOf(t, "udp over ipv6", e6, ip6(17, z, x), udp(53, 53), payload(30)),
		frameOf(t, "udp multicast over ipv6", e6, ip6(17, "fe80::1", "ff02::fb"), udp(5353, 5353), payload(30)),
		frameOf(t, "sctp over ipv6", e6, ip6(132, x, y), raw(0, 80, 1, 187, 0, 0, 0, 1, 0, 0, 0, 0)),
		frameOf(t, "icmp6 echo", e6, ip6(58, x, y), raw(128, 0, 0, 0, 0, 1, 0, 2), payload(56)),
		frameOf(t, "icmp6 neighbor solicitation", e6, ip6(58, "fe80::1", "ff02::1:ff00:9"), raw(135, 0, 0, 0, 0, 0, 0, 0), payload(16)),
		frameOf(t, "icmp6 redirect", e6, ip6(58, z, y), raw(137, 1, 0, 0, 0, 0, 0, 0), payload(16)),
		frameOf(t, "hop by hop and tcp", e6, ip6(0, x, y), raw(6, 0, 1, 4, 0, 0, 0, 0), tcp(80, 443, nil)),
		frameOf(t, "fragment of udp over ipv6", e6, ip6(44, x, y), raw(17, 0, 0, 1, 0, 0, 0, 1), udp(53, 80), payload(80)),
		frameOf(t, "later fragment of tcp over ipv6", e6, ip6(44, x, z), raw(6, 0, 5, 168, 0, 0, 0, 1), payload(80)),
		frameOf(t, "esp over ipv6", e6, ip6(50, x, z), payload(80)),
		frameOf(t, "vlan 100 tcp", append(tagged(100), ip4(6, a, b), tcp(40000, 80, syn), payload(7))...),
		frameOf(t, "vlan 200 udp", append(tagged(200), ip4(17, b, c), udp(53, 40000), payload(7))...),
		frameOf(t, "vlan 0 icmp", append(tagged(0), ip4(1, b, c), raw(8, 0, 0, 0), payload(7))...),
		frameOf(t, "vlan 100 200 tcp", append(tagged(100, 200), ip4(6, a, b), tcp(443, 40000, nil), payload(7))...),
		frameOf(t, "vlan 5 6 7 udp", append(tagged(5, 6, 7), ip4(17, a, b), udp(443, 40000), payload(7))...),
		frameOf(t, "vlan 100 arp", ethernet(layers.EthernetTypeDot1Q), &layers.Dot1Q{VLANIdentifier: 100, Type: layers.EthernetTypeARP}, payload(28)),
		frameOf(t, "802.1ad", ethernet(0x88a8), &layers.Dot1Q{VLANIdentifier: 100, Type: layers.EthernetTypeIPv6}, ip6(6, x, y), tcp(80, 443, nil)),
		arp(t, layers.EthernetTypeARP, a, b),
		arp(t, layers.EthernetTypeARP, d, c),
		arp(t, 0x8035, c, a),
		frameOf(t, "broadcast", &layers.Ethernet{SrcMAC: macA, DstMAC: layers.EthernetBroadcast, EthernetType: layers.EthernetTypeIPv4}, ip4(17, a, "10.255.255.255"), udp(67, 68), payload(300)),
		frameOf(t, "multicast", &layers.Ethernet{SrcMAC: macB, DstMAC: net.HardwareAddr{1, 0, 0x5e, 0, 0, 0xfb}, EthernetType: layers.EthernetTypeIPv4}, ip4(17, d, "239.1.2.3"), udp(67, 5353), payload(300)),
		frameOf(t, "from B to A", &layers.Ethernet{SrcMAC: macB, DstMAC: macA, EthernetType: layers.EthernetTypeIPv4}, ip4(6, d, "1.2.3.4"), tcp(1, 2, nil), payload(300)),
		frameOf(t, "EtherType of a tunnel", ethernet(0x8847), payload(60)),
		frameOf(t, "LLDP", ethernet(0x88cc), payload(60)),
		frameOf(t, "802.3", ethernet(64), payload(64)),
		frameOf(t, "vxlan", e4, ip4(17, a, b), udp(50000, 4789), raw(8, 0, 0, 0, 0, 0, 1, 0), e4, ip4(6, c, d), tcp(80, 443, nil)),
		frameOf(t, "zeros", ethernet(layers.EthernetTypeIPv4), payload(0), raw(make([]byte, 60)...)),
		frameOf(t, "ipv6 zeros", ethernet(layers.EthernetTypeIPv6), raw(make([]byte, 80)...)),
	}
	return append(all, mutated(all)...)
}

// mutated are the frames with bytes of their headers changed.
func mutated(all []frame) []frame {
	random := rand.New(rand.NewPCG(1, 2))
	var more []frame
	for range 4 {
		for _, f := range all {
			data := append([]byte{}, f.data...)
			for range 1 + random.IntN(3) {
				data[random.IntN(min(len(data), 60))] = byte(random.IntN(256))
			}
			binary.BigEndian.PutUint16(data[12:], []uint16{binary.BigEndian.Uint16(f.data[12:]), 0x0800, 0x86dd}[random.IntN(3)])
			more = append(more, frame{f.name + ", changed", append(data, make([]byte, 64)...)})
		}
	}
	return more
}
