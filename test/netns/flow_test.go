package netns

import (
	"testing"

	"xentrace/test/rocket"
	"xentrace/test/tool"
)

// Offsets in a packet without VLAN tags.
const (
	atEtherType    = 12
	atIPv4         = 14
	atFragment     = atIPv4 + 6
	atIPv4Protocol = atIPv4 + 9
	atNextHeader   = 14 + 6
	behindIPv4     = atIPv4 + 20
	behindIPv6     = 14 + 40
)

// wire is what is made of a rocket on its way to the interface.
var wire = []struct {
	name    string
	ipv6    bool
	rewrite rewrite
	proto   string // "" where the packet is not IP
	ports   bool
}{
	{name: "IPv4", proto: "udp", ports: true},
	{name: "IPv6", ipv6: true, proto: "udp", ports: true},
	{name: "802.1Q tag", proto: "udp", ports: true, rewrite: rewrite{at: 12, insert: []byte{0x81, 0x00, 0x20, 0x2a}}},
	{name: "802.1Q tag, IPv6", ipv6: true, proto: "udp", ports: true, rewrite: rewrite{at: 12, insert: []byte{0x81, 0x00, 0x20, 0x2a}}},
	{name: "802.1ad and 802.1Q tags", proto: "udp", ports: true,
		rewrite: rewrite{at: 12, insert: []byte{0x88, 0xa8, 0x00, 0x64, 0x81, 0x00, 0x00, 0x2a}}},
	{name: "tag beside the packet", proto: "udp", ports: true, rewrite: rewrite{tag: true}},
	{name: "three tags", proto: "udp", ports: true, rewrite: rewrite{at: 12, insert: []byte{0x88, 0xa8, 0, 1, 0x81, 0, 0, 2, 0x81, 0, 0, 3}}},
	{name: "four tags", rewrite: rewrite{at: 12, insert: []byte{0x88, 0xa8, 0, 1, 0x81, 0, 0, 2, 0x81, 0, 0, 3, 0x81, 0, 0, 4}}},
	{name: "IPv4 options", proto: "udp", ports: true,
		rewrite: rewrite{at: behindIPv4, insert: []byte{1, 1, 1, 0}, patches: map[int16][]byte{atIPv4: {0x46}}}},
	{name: "IPv4, first fragment", proto: "udp", ports: true, rewrite: rewrite{patches: map[int16][]byte{atFragment: {0x20, 0x00}}}},
	{name: "IPv4, later fragment", proto: "udp", rewrite: rewrite{patches: map[int16][]byte{atFragment: {0x20, 0xb9}}}},
	{name: "IPv4, last fragment", proto: "udp", rewrite: rewrite{patches: map[int16][]byte{atFragment: {0x00, 0xb9}}}},
	{name: "IPv4, SCTP", proto: "sctp", ports: true, rewrite: rewrite{patches: map[int16][]byte{atIPv4Protocol: {132}}}},
	{name: "IPv4, GRE", proto: "gre", rewrite: rewrite{patches: map[int16][]byte{atIPv4Protocol: {47}}}},
	{name: "hop-by-hop options", ipv6: true, proto: "udp", ports: true,
		rewrite: rewrite{at: behindIPv6, insert: []byte{17, 0, 1, 4, 0, 0, 0, 0}, patches: map[int16][]byte{atNextHeader: {0}}}},
	{name: "destination options", ipv6: true, proto: "udp", ports: true,
		rewrite: rewrite{at: behindIPv6, insert: []byte{17, 1, 1, 12, 15: 0}, patches: map[int16][]byte{atNextHeader: {60}}}},
	{name: "routing", ipv6: true, proto: "udp", ports: true,
		rewrite: rewrite{at: behindIPv6, insert: []byte{17, 2, 4, 0, 23: 0}, patches: map[int16][]byte{atNextHeader: {43}}}},
	{name: "hop-by-hop, destination options, routing", ipv6: true, proto: "udp", ports: true,
		rewrite: rewrite{at: behindIPv6, insert: []byte{60, 0, 1, 4, 0, 0, 0, 0, 43, 0, 1, 4, 0, 0, 0, 0, 17, 0, 4, 0, 0, 0, 0, 0},
			patches: map[int16][]byte{atNextHeader: {0}}}},
	{name: "authentication header", ipv6: true, proto: "udp", ports: true,
		rewrite: rewrite{at: behindIPv6, insert: []byte{17, 4, 23: 0}, patches: map[int16][]byte{atNextHeader: {51}}}},
	{name: "IPv6, first fragment", ipv6: true, proto: "udp", ports: true,
		rewrite: rewrite{at: behindIPv6, insert: []byte{17, 0, 0x00, 0x01, 0, 0, 0, 7}, patches: map[int16][]byte{atNextHeader: {44}}}},
	{name: "IPv6, later fragment", ipv6: true, proto: "udp",
		rewrite: rewrite{at: behindIPv6, insert: []byte{17, 0, 0x05, 0xa9, 0, 0, 0, 7}, patches: map[int16][]byte{atNextHeader: {44}}}},
	{name: "ICMPv6", ipv6: true, proto: "ipv6-icmp", rewrite: rewrite{patches: map[int16][]byte{atNextHeader: {58}}}},
	{name: "no next header", ipv6: true, proto: "59", rewrite: rewrite{patches: map[int16][]byte{atNextHeader: {59}}}},
	{name: "not IP", rewrite: rewrite{patches: map[int16][]byte{atEtherType: {0x88, 0xb5}}}},
	{name: "MPLS", rewrite: rewrite{at: 14, insert: []byte{0, 1, 1, 64}, patches: map[int16][]byte{atEtherType: {0x88, 0x47}}}},
	{name: "IPv4 that says it is not", rewrite: rewrite{patches: map[int16][]byte{atIPv4: {0x65}}}},
}

// Real packets on the wire, whose headers were changed on their way: the record
// reports what the headers say.
func TestFlowIsTakenFromTheHeaders(t *testing.T) {
	l := newLab(t)
	v4 := l.udp(l.udpSink(farAddress.Addr()).Local(), rocket.Options{})
	v6 := l.udp(l.udpSink(farAddress6.Addr()).Local(), rocket.Options{})
	watch := tool.Start(t, xentrace, "watch", "-i", "near", "-o", "json")
	var sent []rocket.Sent
	for _, w := range wire {
		sender := v4
		if w.ipv6 {
			sender = v6
		}
		classify(t, "near", w.rewrite.program())
		s, err := sender.Send(t.Context())
		must(t, err)
		sent = append(sent, s)
	}
	records := watch.Stop().Packets
	if len(records) != len(wire) {
		t.Fatalf("%d records, want %d", len(records), len(wire))
	}
	for n, w := range wire {
		t.Run(w.name, func(t *testing.T) {
			checkWire(t, &records[n], &sent[n], w.proto, w.ports, w.ipv6, len(w.rewrite.insert))
		})
	}
}

func checkWire(t *testing.T, p *tool.Packet, sent *rocket.Sent, proto string, ports, ipv6 bool, inserted int) {
	t.Helper()
	flow := tool.Flow{Family: "ipv4", Proto: proto, Saddr: sent.Local.Addr().String(), Daddr: sent.Remote.Addr().String()}
	headers := 14 + 20 + 8
	if ipv6 {
		flow.Family, headers = "ipv6", headers+20
	}
	if ports {
		flow.Sport, flow.Dport = int(sent.Local.Port()), int(sent.Remote.Port())
	}
	switch {
	case proto == "" && p.Flow != nil:
		t.Errorf("flow %+v, want none", *p.Flow)
	case proto != "" && p.Flow == nil:
		t.Errorf("no flow, want %+v", flow)
	case proto != "" && *p.Flow != flow:
		t.Errorf("flow %+v, want %+v", *p.Flow, flow)
	}
	if p.TCP != nil {
		t.Errorf("TCP state %+v of a UDP socket", *p.TCP)
	}
	if want := headers + inserted + sent.Length; p.Len != want {
		t.Errorf("%d bytes, want %d", p.Len, want)
	}
	if p.Slots != p.SlotsOfParts() || p.Slots < sent.Slots || p.Slots > sent.Slots+1 {
		t.Errorf("%d slots, its parts need %d, sent %d", p.Slots, p.SlotsOfParts(), sent.Slots)
	}
}
