package bpf

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"testing"
	"time"
	"unsafe"

	"github.com/cilium/ebpf/ringbuf"
)

// Addresses, ports and sequence number of every packet below.
var (
	source4      = netip.MustParseAddr("192.0.2.1")
	destination4 = netip.MustParseAddr("198.51.100.2")
	source6      = netip.MustParseAddr("2001:db8::1")
	destination6 = netip.MustParseAddr("2001:db8:1:2:3:4:5:6")
)

const (
	sourcePort      = 0x9c41
	destinationPort = 443
	sequence        = 0xfedcba98
)

func ethernet(protocol uint16, tags ...uint16) []byte {
	header := []byte{2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2}
	for _, tag := range tags {
		header = append(binary.BigEndian.AppendUint16(header, tag), 0x20, 0x2a)
	}
	return binary.BigEndian.AppendUint16(header, protocol)
}

// ipv4 is a header with the given word for flags and offset of a fragment, and
// words of options.
func ipv4(protocol uint8, fragment uint16, options int) []byte {
	header := make([]byte, 20+4*options)
	header[0], header[9] = byte(0x45+options), protocol
	binary.BigEndian.PutUint16(header[6:], fragment)
	copy(header[12:], source4.AsSlice())
	copy(header[16:], destination4.AsSlice())
	return header
}

// shortened says that the header has no words.
func shortened(header []byte) []byte {
	header[0] = 0x40
	return header
}

func ipv6(next uint8) []byte {
	header := make([]byte, 8, 40)
	header[0], header[6] = 0x6a, next // a traffic class too
	header = append(header, source6.AsSlice()...)
	return append(header, destination6.AsSlice()...)
}

// extension is a header of 8 bytes times one more than length, as most are.
func extension(next, length uint8) []byte {
	header := make([]byte, 8*(int(length)+1))
	header[0], header[1] = next, length
	return header
}

func fragment6(next uint8, offset uint16) []byte {
	return binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint16([]byte{next, 0}, offset), 7)
}

// authentication is a header whose length counts words, less two.
func authentication(next uint8) []byte {
	header := make([]byte, 24)
	header[0], header[1] = next, 4
	return header
}

func ports() []byte { return []byte{0x9c, 0x41, 0x01, 0xbb, 0, 8, 0, 0} }

// tcp is a header without options, of a bare acknowledgement.
func tcp() []byte { return tcpHeader(5, 0x10) }

func tcpHeader(words, flags byte) []byte {
	header := make([]byte, 4*int(words))
	copy(header, ports()[:4])
	binary.BigEndian.PutUint32(header[4:], sequence)
	header[12], header[13] = words<<4, flags
	return header
}

func join(parts ...[]byte) (whole []byte) {
	for _, p := range parts {
		whole = append(whole, p...)
	}
	return whole
}

func repeat(n int, header []byte) (many []byte) {
	for range n {
		many = append(many, header...)
	}
	return many
}

// headers are those of packets, and what is to be made of them.
var headers = []struct {
	name   string
	bytes  []byte
	family uint8
	proto  uint8
	ports  bool
	seq    bool
}{
	{"UDP over IPv4", join(ethernet(0x0800), ipv4(17, 0x4000, 0), ports()), 4, 17, true, false},
	{"TCP over IPv4", join(ethernet(0x0800), ipv4(6, 0x4000, 0), tcp()), 4, 6, true, true},
	{"UDP over an IPv4 header of no words", join(ethernet(0x0800), shortened(ipv4(17, 0, 0)), ports()), 4, 17, false, false},
	{"TCP over an IPv4 header of no words", join(ethernet(0x0800), shortened(ipv4(6, 0, 0)), tcp()), 4, 6, false, false},
	{"TCP behind IPv4 options", join(ethernet(0x0800), ipv4(6, 0, 10), tcp()), 4, 6, true, true},
	{"SCTP", join(ethernet(0x0800), ipv4(132, 0, 0), ports()), 4, 132, true, false},
	{"DCCP", join(ethernet(0x0800), ipv4(33, 0, 0), ports()), 4, 33, true, false},
	{"UDP-Lite", join(ethernet(0x0800), ipv4(136, 0, 0), ports()), 4, 136, true, false},
	{"ICMP", join(ethernet(0x0800), ipv4(1, 0, 0), ports()), 4, 1, false, false},
	{"ESP", join(ethernet(0x0800), ipv4(50, 0, 0), ports()), 4, 50, false, false},
	{"IPv4, first fragment of TCP", join(ethernet(0x0800), ipv4(6, 0x2000, 0), tcp()), 4, 6, true, true},
	{"IPv4, later fragment of TCP", join(ethernet(0x0800), ipv4(6, 0x2001, 0), tcp()), 4, 6, false, false},
	{"IPv4, last fragment of UDP", join(ethernet(0x0800), ipv4(17, 0x1fff, 0), ports()), 4, 17, false, false},
	{"UDP over IPv6", join(ethernet(0x86dd), ipv6(17), ports()), 6, 17, true, false},
	{"TCP over IPv6", join(ethernet(0x86dd), ipv6(6), tcp()), 6, 6, true, true},
	{"hop-by-hop options", join(ethernet(0x86dd), ipv6(0), extension(6, 0), tcp()), 6, 6, true, true},
	{"destination options, long", join(ethernet(0x86dd), ipv6(60), extension(17, 5), ports()), 6, 17, true, false},
	{"routing", join(ethernet(0x86dd), ipv6(43), extension(6, 2), tcp()), 6, 6, true, true},
	{"mobility", join(ethernet(0x86dd), ipv6(135), extension(17, 1), ports()), 6, 17, true, false},
	{"authentication header", join(ethernet(0x86dd), ipv6(51), authentication(6), tcp()), 6, 6, true, true},
	{"IPv6, fragment header of a whole packet", join(ethernet(0x86dd), ipv6(44), fragment6(6, 0), tcp()), 6, 6, true, true},
	{"IPv6, first fragment", join(ethernet(0x86dd), ipv6(44), fragment6(6, 1), tcp()), 6, 6, true, true},
	{"IPv6, later fragment", join(ethernet(0x86dd), ipv6(44), fragment6(6, 8), tcp()), 6, 6, false, false},
	{"IPv6, later fragment behind hop-by-hop options", join(ethernet(0x86dd), ipv6(0), extension(44, 0), fragment6(17, 9), ports()), 6, 17, false, false},
	{"four kinds of extension header", join(ethernet(0x86dd), ipv6(0), extension(60, 0), extension(43, 1), extension(44, 2), fragment6(6, 0), tcp()), 6, 6, true, true},
	{"eight extension headers", join(ethernet(0x86dd), ipv6(60), repeat(7, extension(60, 0)), extension(6, 0), tcp()), 6, 6, true, true},
	{"nine extension headers", join(ethernet(0x86dd), ipv6(60), repeat(8, extension(60, 0)), extension(6, 0), tcp()), 6, 60, false, false},
	{"no next header", join(ethernet(0x86dd), ipv6(59)), 6, 59, false, false},
	{"ICMPv6", join(ethernet(0x86dd), ipv6(58), ports()), 6, 58, false, false},
	{"802.1Q tag", join(ethernet(0x0800, 0x8100), ipv4(6, 0, 0), tcp()), 4, 6, true, true},
	{"802.1ad and 802.1Q tags, IPv6", join(ethernet(0x86dd, 0x88a8, 0x8100), ipv6(0), extension(6, 0), tcp()), 6, 6, true, true},
	{"three tags", join(ethernet(0x0800, 0x88a8, 0x8100, 0x8100), ipv4(6, 0, 0), tcp()), 4, 6, true, true},
	{"0x9100 and 802.1Q tags", join(ethernet(0x0800, 0x9100, 0x8100), ipv4(6, 0, 0), tcp()), 4, 6, true, true},
	{"four tags", join(ethernet(0x0800, 0x88a8, 0x8100, 0x8100, 0x8100), ipv4(6, 0, 0), tcp()), 0, 0, false, false},
	{"ARP", join(ethernet(0x0806), make([]byte, 28)), 0, 0, false, false},
	{"length in place of a type", join(ethernet(64), make([]byte, 64)), 0, 0, false, false},
	{"IPv4 that says it is 6", join(ethernet(0x0800), ipv6(6), tcp()), 0, 0, false, false},
	{"IPv6 that says it is 4", join(ethernet(0x86dd), ipv4(6, 0, 0), tcp(), tcp()), 0, 0, false, false},
	{"head ends in the link header", ethernet(0x0800)[:13], 0, 0, false, false},
	{"head ends in a tag", ethernet(0x0800, 0x8100)[:16], 0, 0, false, false},
	{"head ends in the IPv4 header", join(ethernet(0x0800), ipv4(6, 0, 0)[:19]), 0, 0, false, false},
	{"head ends in the IPv6 header", join(ethernet(0x86dd), ipv6(6)[:39]), 0, 0, false, false},
	{"head ends behind the IPv4 header", join(ethernet(0x0800), ipv4(6, 0, 0)), 4, 6, false, false},
	{"head ends in the ports", join(ethernet(0x0800), ipv4(17, 0, 0), ports()[:3]), 4, 17, false, false},
	{"head ends behind the ports of UDP", join(ethernet(0x0800), ipv4(17, 0, 0), ports()[:4]), 4, 17, true, false},
	{"head ends in the sequence number", join(ethernet(0x0800), ipv4(6, 0, 0), tcp()[:7]), 4, 6, false, false},
	{"head ends in an extension header", join(ethernet(0x86dd), ipv6(0), extension(6, 0)[:7]), 6, 0, false, false},
}

// tracer runs the program that reports packets over the limit.
type tracer struct {
	*programs
	reader *ringbuf.Reader
	data   uint64 // where heads begin
}

func newTracer(t *testing.T, a *arena, typed uint8) *tracer {
	t.Helper()
	p := loadPrograms(t, a, XentraceConfiguration{PageSize: 4096, TypedReads: typed, Records: 1, PrivOffset: -1, BrokenOffset: -1, BounceOffset: -1})
	reader, err := ringbuf.NewReader(p.collection.Maps[XentraceMapEvents])
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = reader.Close() })
	// Near enough to skb->head, which is at atShared, for skb->network_header.
	return &tracer{programs: p, reader: reader, data: (a.address+0x11000)&^4095 + 4096 + 256}
}

// lay lays out a packet over the limit with that head.
func (r *tracer) lay(head []byte) {
	clear(r.arena.memory)
	r.arena.device()
	r.arena.packet(atSkb, r.data, uint32(len(head)), rocket)
	copy(r.arena.memory[r.data-r.arena.address:], head)
}

// record has the program see the packet, and returns the one record.
func (r *tracer) record() *XentracePacketEvent {
	r.t.Helper()
	r.arena.flush()
	r.begin(atSkb)
	event := readRecord(r.t, r.reader)
	if left := r.reader.AvailableBytes(); left != 0 || event.NrFrags != 17 || event.Verdict != XentraceVerdictVERDICT_OVER_LIMIT || event.Slots != 35 {
		r.t.Fatalf("%d bytes left, %d frags, verdict %d, %d slots", left, event.NrFrags, event.Verdict, event.Slots)
	}
	return event
}

// readRecord returns the next record.
func readRecord(t testing.TB, reader *ringbuf.Reader) *XentracePacketEvent {
	t.Helper()
	reader.SetDeadline(time.Now().Add(time.Second))
	raw, err := reader.Read()
	if err != nil {
		t.Fatal(err)
	}
	event := new(XentracePacketEvent)
	if copied := copy(unsafe.Slice((*byte)(unsafe.Pointer(event)), unsafe.Sizeof(*event)), raw.RawSample); copied != len(raw.RawSample) {
		t.Fatalf("record of %d bytes", len(raw.RawSample))
	}
	return event
}

// flowFields is the flow of a record.
type flowFields struct {
	Saddr, Daddr          [16]uint8
	Sport, Dport          uint16
	Seq                   uint32
	Family, Proto, HasSeq uint8
}

func flowOf(event *XentracePacketEvent) flowFields {
	f := &event.Flow
	return flowFields{f.Saddr, f.Daddr, f.Sport, f.Dport, f.Seq, f.Family, f.Proto, f.HasSeq}
}

// addresses returns those of a packet of that family, as a record holds them.
func addresses(family uint8) (source, destination [16]uint8) {
	switch family {
	case 4:
		copy(source[:], source4.AsSlice())
		copy(destination[:], destination4.AsSlice())
	case 6:
		source, destination = source6.As16(), destination6.As16()
	}
	return source, destination
}

func TestFlowsOfFakePackets(t *testing.T) {
	a := newArena(t)
	for _, typed := range waysOfReading(t, a) {
		r := newTracer(t, a, typed)
		for _, h := range headers {
			t.Run(fmt.Sprintf("%s typed %d", h.name, typed), func(t *testing.T) {
				a.t, r.t = t, t
				r.lay(h.bytes)
				want := flowFields{Family: h.family, Proto: h.proto}
				want.Saddr, want.Daddr = addresses(h.family)
				if h.ports {
					want.Sport, want.Dport = sourcePort, destinationPort
				}
				if h.seq {
					want.Seq, want.HasSeq = sequence, 1
				}
				if got := flowOf(r.record()); got != want {
					t.Errorf("flow %+v, want %+v", got, want)
				}
			})
		}
	}
}

// The EtherType is that behind all VLAN tags that are looked behind.
func TestEtherType(t *testing.T) {
	a := newArena(t)
	r := newTracer(t, a, 0)
	for _, test := range []struct {
		name string
		head []byte
		want uint16
	}{
		{"IPv4", join(ethernet(0x0800), ipv4(6, 0, 0), tcp()), 0x0800},
		{"LLDP", join(ethernet(0x88cc), make([]byte, 40)), 0x88cc},
		{"ARP behind three tags", join(ethernet(0x0806, 0x9100, 0x88a8, 0x8100), make([]byte, 28)), 0x0806},
		{"four tags", join(ethernet(0x0800, 0x88a8, 0x8100, 0x8100, 0x8100), make([]byte, 40)), 0x8100},
		{"length in place of a type", join(ethernet(64), make([]byte, 64)), 64},
		{"head ends in the link header", ethernet(0x0800)[:13], 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			a.t, r.t = t, t
			r.lay(test.head)
			if got := r.record().EtherType; got != test.want {
				t.Errorf("%#04x, want %#04x", got, test.want)
			}
		})
	}
}

// A device without link header, as a tunnel's, is believed about the protocol.
func TestFlowWithoutLinkHeader(t *testing.T) {
	a := newArena(t)
	r := newTracer(t, a, 0)
	const none, loopback = 0xfffe, 772 // ARPHRD_
	for _, test := range []struct {
		name     string
		kind     uint64
		protocol uint16
		before   int // bytes in front of the network header
		head     []byte
		want     flowFields
	}{
		{"IPv4 on a tunnel", none, 0x0800, 0, join(ipv4(6, 0, 0), tcp()), flowFields{Family: 4, Proto: 6, Sport: sourcePort, Dport: destinationPort, Seq: sequence, HasSeq: 1}},
		{"IPv6 on a tunnel", none, 0x86dd, 0, join(ipv6(17), ports()), flowFields{Family: 6, Proto: 17, Sport: sourcePort, Dport: destinationPort}},
		{"another header in front", none, 0x0800, 4, join(make([]byte, 4), ipv4(17, 0, 0), ports()), flowFields{Family: 4, Proto: 17, Sport: sourcePort, Dport: destinationPort}},
		{"neither", none, 0x0806, 0, join(ipv4(17, 0, 0), ports()), flowFields{}},
		{"loopback has one", loopback, 0, 14, join(ethernet(0x0800), ipv4(17, 0, 0), ports()), flowFields{Family: 4, Proto: 17, Sport: sourcePort, Dport: destinationPort}},
	} {
		t.Run(test.name, func(t *testing.T) {
			a.t, r.t = t, t
			r.lay(test.head)
			a.set(atDev, test.kind, "net_device", "type")
			a.set(atSkb, uint64(test.protocol>>8|test.protocol<<8), "sk_buff", "protocol")
			a.set(atSkb, r.data-a.address-atShared+uint64(test.before), "sk_buff", "network_header")
			got := flowOf(r.record())
			test.want.Saddr, test.want.Daddr = addresses(test.want.Family)
			if got != test.want {
				t.Errorf("flow %+v, want %+v", got, test.want)
			}
		})
	}
}

// How many sequence numbers a packet takes: its payload, wherever it lies, and one
// each for SYN and FIN.
func TestSequenceNumbersTaken(t *testing.T) {
	const ack, syn, fin, rst = 0x10, 0x02, 0x01, 0x04
	inFrags := uint32(0)
	for _, f := range rocket {
		inFrags += f[1]
	}
	a := newArena(t)
	for _, typed := range waysOfReading(t, a) {
		r := newTracer(t, a, typed)
		for _, test := range []struct {
			name string
			head []byte
			want uint32
		}{
			{"data", join(ethernet(0x0800), ipv4(6, 0, 0), tcpHeader(5, ack)), inFrags},
			{"data behind options", join(ethernet(0x0800), ipv4(6, 0, 10), tcpHeader(15, ack)), inFrags},
			{"data in the head too", join(ethernet(0x86dd), ipv6(6), tcpHeader(8, ack), make([]byte, 100)), inFrags + 100},
			{"FIN behind data", join(ethernet(0x86dd), ipv6(6), tcpHeader(8, ack|fin)), inFrags + 1},
			{"SYN with data", join(ethernet(0x0800), ipv4(6, 0, 0), tcpHeader(10, syn)), inFrags + 1},
			{"SYN and FIN", join(ethernet(0x0800), ipv4(6, 0, 0), tcpHeader(10, syn|fin)), inFrags + 2},
			{"reset", join(ethernet(0x0800), ipv4(6, 0, 0), tcpHeader(5, rst)), inFrags},
			{"head ends in the flags", join(ethernet(0x0800), ipv4(6, 0, 0), tcpHeader(5, ack)[:13]), 0},
			{"UDP", join(ethernet(0x0800), ipv4(17, 0, 0), ports()), 0},
		} {
			t.Run(fmt.Sprintf("%s typed %d", test.name, typed), func(t *testing.T) {
				a.t, r.t = t, t
				r.lay(test.head)
				if got := r.record().Flow.SeqLength; got != test.want {
					t.Errorf("%d sequence numbers, want %d", got, test.want)
				}
			})
		}
	}
}

// A packet without data takes none, if it is no SYN and no FIN; one whose header
// says that it is longer than the packet takes none either.
func TestBareAcknowledgementTakesNoSequenceNumbers(t *testing.T) {
	a := newArena(t)
	r := newTracer(t, a, 0)
	for _, test := range []struct {
		name  string
		words byte
		flags byte
		want  uint32
	}{
		{"acknowledgement", 12, 0x10, 0}, {"SYN", 12, 0x02, 1}, {"FIN", 12, 0x11, 1}, {"header too long", 15, 0x10, 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			a.t, r.t = t, t
			header := tcpHeader(8, test.flags)
			header[12] = test.words << 4
			r.lay(join(ethernet(0x0800), ipv4(6, 0, 0), header))
			// As if there were nothing in its fragments but the last 4 words of the header.
			a.set(atSkb, 14+20+48, "sk_buff", "len")
			a.set(atSkb, 16, "sk_buff", "data_len")
			if got := r.record().Flow.SeqLength; got != test.want {
				t.Errorf("%d sequence numbers, want %d", got, test.want)
			}
		})
	}
}
