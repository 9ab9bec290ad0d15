package netns

import (
	"encoding/binary"
	"encoding/hex"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// over4 is an IPv4 packet with that word for flags and offset of a fragment.
func over4(protocol byte, fragment uint16, payload ...[]byte) []byte {
	rest := slices.Concat(payload...)
	b := binary.BigEndian.AppendUint16([]byte{0x45, 0}, uint16(20+len(rest)))
	b = binary.BigEndian.AppendUint16(append(b, 0, 7), fragment)
	b = append(b, 64, protocol, 0, 0)
	b = append(append(b, nearAddress.Addr().AsSlice()...), farAddress.Addr().AsSlice()...)
	return append(b, rest...)
}

// over6 is an IPv6 packet.
func over6(next byte, payload ...[]byte) []byte {
	rest := slices.Concat(payload...)
	b := binary.BigEndian.AppendUint16([]byte{0x60, 0, 0, 0}, uint16(len(rest)))
	b = append(b, next, 64)
	b = append(append(b, netip.MustParseAddr("fd00::1").AsSlice()...), netip.MustParseAddr("fd00::2").AsSlice()...)
	return append(b, rest...)
}

// bytesOf is a hexadecimal text, in which spaces are left out.
func bytesOf(text string) []byte {
	b, err := hex.DecodeString(strings.ReplaceAll(text, " ", ""))
	if err != nil {
		panic(err)
	}
	return b
}

// zeros is that many of them.
func zeros(n int) []byte { return make([]byte, n) }

// frameKinds are frames without their addresses, and what their records show.
func frameKinds() []struct {
	name, flow string
	frame      [][]byte
} {
	tcp := slices.Concat(bytesOf("0d05 01bb 075bcd15 00000001 5018 03e8 0000 0000"), []byte("yyyyyyyyyyyyyyyyyyyy"))
	udp := slices.Concat(bytesOf("0457 08ae 001c 0000"), []byte("xxxxxxxxxxxxxxxxxxxx"))
	sctp := slices.Concat(bytesOf("9606 9606 00000001 00000000"), zeros(16))
	ip, ip6, ethernet := bytesOf("0800"), bytesOf("86dd"), bytesOf("020000000002 020000000001 0800")
	vxlan := func(port string) []byte {
		return slices.Concat(bytesOf("d903"+port+"0052 0000 08000000 00002a00"), ethernet, over4(6, 0, tcp))
	}
	const (
		tcp4, tcp6 = "10.98.0.1:3333 > 10.98.0.2:443 tcp", "[fd00::1]:3333 > [fd00::2]:443 tcp"
		seq, inner = " 123456789", " (inner " + tcp4 + ")"
		near, far  = "10.98.0.1", "10.98.0.2"
	)
	return []struct {
		name, flow string
		frame      [][]byte
	}{
		{"UDP", near + ":1111 > " + far + ":2222 udp", [][]byte{ip, over4(17, 0, udp)}},
		{"TCP", tcp4 + seq, [][]byte{ip, over4(6, 0, tcp)}},
		{"TCP over IPv6, hop-by-hop options", tcp6 + seq, [][]byte{ip6, over6(0, bytesOf("0600 010400000000"), tcp)}},
		{"later fragment", near + " > " + far + " udp", [][]byte{ip, over4(17, 3, udp)}},
		{"later fragment of IPv6", "fd00::1 > fd00::2 udp", [][]byte{ip6, over6(44, bytesOf("1100 0009 00000009"), udp)}},
		{"VLAN", tcp4 + seq, [][]byte{bytesOf("8100 0005"), ip, over4(6, 0, tcp)}},
		{"QinQ", tcp4 + seq, [][]byte{bytesOf("88a8 0005 8100 0006"), ip, over4(6, 0, tcp)}},
		{"QinQ of old", tcp4 + seq, [][]byte{bytesOf("9100 0005"), ip, over4(6, 0, tcp)}},
		{"three tags", tcp4 + seq, [][]byte{bytesOf("88a8 0005 8100 0006 8100 0007"), ip, over4(6, 0, tcp)}},
		{"MPLS", "MPLS" + inner, [][]byte{bytesOf("8847 00064140"), over4(6, 0, tcp)}},
		{"MPLS, two labels, IPv6", "MPLS (inner " + tcp6 + ")", [][]byte{bytesOf("8847 00064040 00065140"), over6(6, tcp)}},
		{"MPLS, not IP", "MPLS", [][]byte{bytesOf("8847 00064140"), zeros(40)}},
		{"PPPoE", "PPPoE" + inner, [][]byte{bytesOf("8864 1100 0001 003e 0021"), over4(6, 0, tcp)}},
		{"PPPoE, IPv6", "PPPoE (inner " + tcp6 + ")", [][]byte{bytesOf("8864 1100 0001 0052 0057"), over6(6, tcp)}},
		{"PPPoE, LCP", "PPPoE", [][]byte{bytesOf("8864 1100 0001 000a c021 0901 0008"), zeros(40)}},
		{"VXLAN", near + ":55555 > " + far + ":4789 udp" + inner, [][]byte{ip, over4(17, 0, vxlan("12b5"))}},
		{"VXLAN of flannel", near + ":55555 > " + far + ":8472 udp" + inner, [][]byte{ip, over4(17, 0, vxlan("2118"))}},
		{"IPIP", near + " > " + far + " ipip" + inner, [][]byte{ip, over4(4, 0, over4(6, 0, tcp))}},
		{"GRE", near + " > " + far + " gre" + inner, [][]byte{ip, over4(47, 0, bytesOf("0000 0800"), over4(6, 0, tcp))}},
		{"ESP", near + " > " + far + " esp", [][]byte{ip, over4(50, 0, zeros(48))}},
		{"ESP in UDP", near + ":4500 > " + far + ":4500 udp", [][]byte{ip, over4(17, 0, bytesOf("1194 1194 0038 0000"), zeros(48))}},
		{"AH", near + " > " + far + " ah", [][]byte{ip, over4(51, 0, bytesOf("0604 0000 00000001 00000001"), zeros(12), tcp)}},
		{"ICMP", near + " > " + far + " icmp", [][]byte{ip, over4(1, 0, bytesOf("0800 0000 0001 0001"), zeros(30))}},
		{"SCTP", near + ":38406 > " + far + ":38406 sctp", [][]byte{ip, over4(132, 0, sctp)}},
		{"VRRP", near + " > " + far + " vrrp", [][]byte{ip, over4(112, 0, zeros(12))}},
		{"ARP", "ARP", [][]byte{bytesOf("0806"), zeros(46)}},
		{"LLDP", "LLDP", [][]byte{bytesOf("88cc"), zeros(46)}},
		{"LACP", "LACP", [][]byte{bytesOf("8809"), zeros(110)}},
		{"PTP", "PTP", [][]byte{bytesOf("88f7"), zeros(44)}},
		{"spanning tree", "LLC", [][]byte{bytesOf("0026 424203"), zeros(43)}},
		{"MACsec", "MACsec", [][]byte{bytesOf("88e5"), zeros(60)}},
		{"a type without a name", "EtherType 0x1234", [][]byte{bytesOf("1234"), zeros(46)}},
		{"IPv4 that ends early", "IP, header incomplete", [][]byte{ip, bytesOf("4500 0000 0000")}},
	}
}

// Frames of every kind show their flow, that of the packet they carry, or the name or number of
// their EtherType.
func TestKindsOfFrames(t *testing.T) {
	newLab(t)
	near := linkIndex(t, "near")
	must(t, netlink.QdiscReplace(&netlink.Tbf{
		QdiscAttrs: netlink.QdiscAttrs{LinkIndex: near, Handle: netlink.MakeHandle(1, 0), Parent: netlink.HANDLE_ROOT},
		Rate:       100_000, Buffer: 2000, Limit: 1, // of bytes: each frame is dropped
	}))
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW, 0)
	must(t, err)
	defer unix.Close(fd)
	kinds := frameKinds()
	records, _ := watchText(t, "QDISC_DROP", func() {
		for _, kind := range kinds {
			frame := append(bytesOf("020000000002 020000000001"), slices.Concat(kind.frame...)...)
			_ = unix.Sendto(fd, frame, 0, &unix.SockaddrLinklayer{Ifindex: near, Halen: 6}) // ENOBUFS
		}
	})
	var shown []string
	for _, record := range records {
		before, _, _ := strings.Cut(strings.TrimSpace(record), "  QDISC_DROP")
		_, after, _ := strings.Cut(before, "/18 ")
		_, flow, _ := strings.Cut(strings.TrimSpace(after), " ")
		flow, _, _ = strings.Cut(flow, " netns.test(") // the process
		shown = append(shown, flow)
	}
	for _, kind := range kinds {
		at := slices.Index(shown, kind.flow)
		if at < 0 {
			t.Errorf("%s: no %q in\n%s", kind.name, kind.flow, strings.Join(shown, "\n"))
			continue
		}
		shown = slices.Delete(shown, at, at+1)
	}
}
