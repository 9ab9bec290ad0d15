package header

import (
	"net/netip"
	"testing"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"

	"xentrace/internal/event"
)

func flow(proto uint8, source, destination string) *event.Flow {
	return &event.Flow{Proto: proto, Source: netip.MustParseAddrPort(source), Destination: netip.MustParseAddrPort(destination)}
}

func segment(f *event.Flow, seq, length uint32) *event.Flow {
	f.Seq, f.SeqKnown, f.SeqLength = seq, true, length
	return f
}

// What is made of a record reads back as that record, with the payload's true length.
func TestReconstructed(t *testing.T) {
	v4, v6 := func(proto uint8) *event.Flow { return flow(proto, "10.0.0.1:40000", "10.0.0.9:443") },
		func(proto uint8) *event.Flow { return flow(proto, "[fd00::1]:40000", "[fd00::9]:443") }
	for _, test := range []struct {
		name    string
		packet  event.Packet
		bytes   int // of the header
		length  int // of the frame
		options int // bytes of TCP options
		payload int // by the lengths in the headers; -1: not known
		syn     bool
		fin     bool
	}{
		{"TCP over IPv4", event.Packet{Len: 14 + 20 + 20 + 1448, Flow: segment(v4(6), 7, 1448)}, 54, 1502, 0, 1448, false, false},
		{"TCP with timestamps", event.Packet{Len: 14 + 20 + 32 + 1448, Flow: segment(v4(6), 7, 1448)}, 66, 1514, 12, 1448, false, false},
		{"TCP over IPv6", event.Packet{Len: 14 + 40 + 32 + 1428, Flow: segment(v6(6), 7, 1428)}, 86, 1514, 12, 1428, false, false},
		{"bare acknowledgement", event.Packet{Len: 14 + 20 + 32, Flow: segment(v4(6), 7, 0)}, 66, 66, 12, 0, false, false},
		{"SYN", event.Packet{Len: 14 + 20 + 40, Flow: segment(v4(6), 7, 1), TCP: &event.TCP{State: 2}}, 74, 74, 20, 0, true, false},
		{"FIN with data", event.Packet{Len: 14 + 20 + 32 + 10, Flow: segment(v4(6), 7, 11), TCP: &event.TCP{State: 4}}, 66, 76, 12, 10, false, true},
		{"GSO packet", event.Packet{Len: 14 + 20 + 32 + 65160, GSOSize: 1448, Flow: segment(v4(6), 7, 65160)}, 66, 65226, 12, 65160, false, false},
		{"TCP, sequence number unknown", event.Packet{Len: 1514, Flow: v4(6)}, 38, 1514, 0, -1, false, false},
		{"TCP, lengths that cannot be", event.Packet{Len: 200, Flow: segment(v4(6), 7, 1448)}, 38, 200, 0, -1, false, false},
		{"dropped before it had a link header", event.Packet{Layer: event.LayerElsewhere, Len: 20 + 32 + 100, Flow: segment(v4(6), 7, 100)}, 66, 166, 12, 100, false, false},
		{"out of a tunnel's device", event.Packet{Len: 20 + 32 + 100, Flow: segment(v4(6), 7, 100)}, 66, 166, 12, 100, false, false},
		{"dropped in the qdisc", event.Packet{Layer: event.LayerElsewhere, Len: 14 + 20 + 32 + 100, Flow: segment(v4(6), 7, 100)}, 66, 166, 12, 100, false, false},
		{"UDP over IPv4", event.Packet{Len: 14 + 20 + 8 + 100, Flow: v4(17)}, 42, 142, 0, 100, false, false},
		{"UDP over IPv6", event.Packet{Len: 14 + 40 + 8 + 100, Flow: v6(17)}, 62, 162, 0, 100, false, false},
		{"ICMP", event.Packet{Len: 98, Flow: flow(1, "10.0.0.1:0", "10.0.0.9:0")}, 34, 98, 0, -1, false, false},
		{"later fragment of UDP over IPv4", event.Packet{Len: 500, Flow: flow(17, "10.0.0.1:0", "10.0.0.9:0")}, 34, 500, 0, -1, false, false},
		{"later fragment of UDP over IPv6", event.Packet{Len: 500, Flow: flow(17, "[fd00::1]:0", "[fd00::9]:0")}, 62, 500, 0, -1, false, false},
		{"shorter than its headers", event.Packet{Len: 20, Flow: v4(17)}, 42, 42, 0, 0, false, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			frame := Of(&test.packet)
			if len(frame.Bytes) != test.bytes || frame.Len != test.length || !frame.Reconstructed {
				t.Fatalf("%d bytes of %d, reconstructed %t; want %d of %d", len(frame.Bytes), frame.Len, frame.Reconstructed, test.bytes, test.length)
			}
			want := test.packet.Flow
			packet := gopacket.NewPacket(frame.Bytes, layers.LayerTypeEthernet, gopacket.Default)
			network := packet.NetworkLayer().NetworkFlow()
			if network.Src().String() != want.Source.Addr().String() || network.Dst().String() != want.Destination.Addr().String() {
				t.Errorf("addresses %v, want %v > %v", network, want.Source, want.Destination)
			}
			payload := -1
			switch transport := packet.TransportLayer().(type) {
			case *layers.TCP:
				if len(transport.Contents) == 0 { // cut off behind the ports
					break
				}
				payload = ipPayload(packet) - int(transport.DataOffset)*4
				if transport.Seq != want.Seq || transport.SYN != test.syn || transport.FIN != test.fin || int(transport.DataOffset)*4-20 != test.options {
					t.Errorf("TCP %+v", transport)
				}
			case *layers.UDP:
				payload = int(transport.Length) - 8
				if uint16(transport.DstPort) != want.Destination.Port() {
					t.Errorf("UDP %+v", transport)
				}
			}
			if payload != test.payload {
				t.Errorf("payload %d, want %d", payload, test.payload)
			}
		})
	}
}

// ipPayload is the length of what follows IP, as its header says.
func ipPayload(packet gopacket.Packet) int {
	switch ip := packet.NetworkLayer().(type) {
	case *layers.IPv4:
		return int(ip.Length) - 20
	case *layers.IPv6:
		return int(ip.Length)
	}
	return -1
}

func TestLaterFragmentIsOne(t *testing.T) {
	v4 := Of(&event.Packet{Len: 500, Flow: flow(17, "10.0.0.1:0", "10.0.0.9:0")})
	if offset := v4.Bytes[Ethernet+7]; offset == 0 || v4.Bytes[Ethernet+9] != 17 {
		t.Errorf("IPv4 fragment offset %d, protocol %d", offset, v4.Bytes[Ethernet+9])
	}
	v6 := Of(&event.Packet{Len: 500, Flow: flow(17, "[fd00::1]:0", "[fd00::9]:0")})
	if next, after := v6.Bytes[Ethernet+6], v6.Bytes[Ethernet+ipv6]; next != 44 || after != 17 {
		t.Errorf("IPv6 next headers %d, %d; want 44, 17", next, after)
	}
}

func TestHeaderThatWasReadIsKept(t *testing.T) {
	read := []byte{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 8, 0, 0x45}
	frame := Of(&event.Packet{Header: read, Len: 1514, Flow: flow(6, "10.0.0.1:1", "10.0.0.9:2")})
	if &frame.Bytes[0] != &read[0] || frame.Len != 1514 || frame.Reconstructed {
		t.Errorf("%+v, want the packet's own bytes", frame)
	}
	if frame := Of(&event.Packet{Header: read, Len: 3}); frame.Len != len(read) {
		t.Errorf("length %d, want no less than what was read", frame.Len)
	}
}

// An Ethernet header that only stands for one is not in the packet's length.
func TestHeaderWithoutALink(t *testing.T) {
	v4 := Of(&event.Packet{Len: 14 + 20 + 8 + 100, Flow: flow(17, "10.0.0.1:53", "10.0.0.9:53")}).Bytes
	v6 := Of(&event.Packet{Len: 14 + 40 + 8 + 100, Flow: flow(17, "[fd00::1]:53", "[fd00::9]:53")}).Bytes
	addressed := append([]byte{0, 0x16, 0x3e}, v4[3:]...)
	for _, test := range []struct {
		name      string
		header    []byte
		len, want int
	}{
		{"IPv4, no link header", v4, 128, 142},
		{"IPv6, no link header", v6, 148, 162},
		{"on the loopback device", v4, 142, 142},
		{"with addresses", addressed, 128, 128},
		{"not IP", make([]byte, 60), 100, 100},
		{"too short to tell", v4[:20], 128, 128},
	} {
		if got := Of(&event.Packet{Header: test.header, Len: test.len}).Len; got != test.want {
			t.Errorf("%s: %d bytes, want %d", test.name, got, test.want)
		}
	}
}

func TestNotIP(t *testing.T) {
	if frame := Of(&event.Packet{Len: 42, EtherType: 0x0806}); len(frame.Bytes) != 14 || frame.Bytes[12] != 8 || frame.Bytes[13] != 6 || frame.Len != 42 {
		t.Errorf("ARP: %+v", frame)
	}
	if frame := Of(&event.Packet{Len: 42}); len(frame.Bytes) != 0 || frame.Len != 42 || !frame.Reconstructed {
		t.Errorf("nothing known: %+v", frame)
	}
}
