package pcapng

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/gopacket/gopacket/layers"
	"github.com/gopacket/gopacket/pcapgo"

	"xentrace/internal/event"
)

var (
	when = time.Date(2026, 3, 1, 12, 0, 0, 123456789, time.UTC)
	eth0 = event.Device{Name: "eth0", Index: 2, NetNS: 4026531840}
	eth1 = event.Device{Name: "eth1", Index: 7, NetNS: 4026532201}
)

func start() *event.Start {
	return &event.Start{
		Time: when, Version: "1.2.3", Command: []string{"xentrace", "watch"}, BootID: "boot-1", Hostname: "web1",
		Kernel: "6.1.0-18-amd64", Machine: "x86_64", Xen: &event.Xen{Version: "4.17.5", Type: "HVM"},
		Interfaces: []event.StartInterface{{Device: eth0, Driver: "xen-netfront", MTU: 1500}},
		Check: []event.Finding{
			{ID: "linearize", Status: event.Fail, Interface: "eth0", Message: "Driver drops packets over 18 slots."},
			{ID: "mtu", Status: event.OK, Interface: "eth0", Message: "MTU is 1500."},
		},
	}
}

// dropped is a segment of 1448 bytes with timestamps, the n-th of its connection.
func dropped(n int) *event.Packet {
	return &event.Packet{
		Time: when.Add(time.Duration(n) * time.Millisecond), Interface: eth0, Queue: 1, Verdict: event.Dropped, Cause: event.TooManySlots,
		Slots: 35, Limit: 18, Len: 14 + 20 + 32 + 1448,
		Flow: &event.Flow{
			Proto: 6, Source: netip.MustParseAddrPort("10.0.0.1:40000"), Destination: netip.MustParseAddrPort("10.0.0.9:5001"),
			Seq: uint32(1000 + 1448*n), SeqKnown: true, SeqLength: 1448,
		},
		Process: &event.Process{PID: 812, Comm: "nginx"},
	}
}

func emit(t *testing.T, s *Sink, events ...event.Event) {
	t.Helper()
	for _, e := range events {
		if err := s.Emit(e); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

// A capture is what pcapgo reads of a file.
type capture struct {
	interfaces []pcapgo.NgInterface
	sections   []pcapgo.NgSectionInfo
	statistics []pcapgo.NgInterfaceStatistics
	packets    []packet
}

type packet struct {
	when          time.Time
	interfaceName string
	length        int
	data          []byte
}

// wellFormed walks the blocks of a file, and their options.
func wellFormed(t *testing.T, file []byte) {
	t.Helper()
	fixed := map[uint32]int{blockSection: 24, blockInterface: 16, blockNames: 12, blockStatistics: 20, blockPacket: 28}
	for at := 0; at < len(file); {
		kind, length := binary.LittleEndian.Uint32(file[at:]), int(binary.LittleEndian.Uint32(file[at+4:]))
		options, known := fixed[kind]
		if !known || length%4 != 0 || at+length > len(file) || int(binary.LittleEndian.Uint32(file[at+length-4:])) != length {
			t.Fatalf("block of type %#x and %d bytes at %d of %d", kind, length, at, len(file))
		}
		if kind == blockPacket {
			options += (int(binary.LittleEndian.Uint32(file[at+20:])) + 3) &^ 3
		}
		for o := at + options; ; {
			code, size := binary.LittleEndian.Uint16(file[o:]), int(binary.LittleEndian.Uint16(file[o+2:]))
			o += 4 + (size+3)&^3
			if code == optEnd {
				if o != at+length-4 {
					t.Fatalf("options of block %#x end at %d, the block at %d", kind, o-at, length)
				}
				break
			}
		}
		at += length
	}
}

func read(t *testing.T, file []byte) capture {
	t.Helper()
	wellFormed(t, file)
	var c capture
	r, err := pcapgo.NewNgReader(bytes.NewReader(file), pcapgo.NgReaderOptions{
		WantMixedLinkType:  true,
		StatisticsCallback: func(_ int, s pcapgo.NgInterfaceStatistics) { c.statistics = append(c.statistics, s) },
		SectionEndCallback: func(_ []pcapgo.NgInterface, s pcapgo.NgSectionInfo) { c.sections = append(c.sections, s) },
	})
	if err != nil {
		t.Fatal(err)
	}
	for {
		data, info, err := r.ReadPacketData()
		if errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		on, err := r.Interface(info.InterfaceIndex)
		if err != nil {
			t.Fatal(err)
		}
		c.packets = append(c.packets, packet{info.Timestamp, on.Name, info.Length, data})
	}
	c.sections = append(c.sections, r.SectionInfo())
	for i := range r.NInterfaces() {
		on, err := r.Interface(i)
		if err != nil {
			t.Fatal(err)
		}
		c.interfaces = append(c.interfaces, on)
	}
	return c
}

func TestPcapgoReadsAll(t *testing.T) {
	var file bytes.Buffer
	other := dropped(1)
	other.Interface, other.Header = eth1, bytes.Repeat([]byte{0xab}, 97)
	delta := uint64(2)
	totals := event.InterfaceTotals{Device: eth0, Counts: event.Counts{Packets: 1000, Dropped: 2, RingLost: 3}, TxDroppedDelta: &delta}
	interval := &event.Interval{Totals: event.Totals{Time: when.Add(10 * time.Second), Duration: 10 * time.Second, Interfaces: []event.InterfaceTotals{totals}}}
	summary := &event.Summary{Totals: event.Totals{Time: when.Add(30 * time.Second), Duration: 30 * time.Second, Interfaces: []event.InterfaceTotals{totals}}}
	summary.Interfaces[0].Packets = 2001
	sink := New(&file, start())
	emit(t, sink, dropped(0), other, interval, interval, summary)

	c := read(t, file.Bytes())
	if s := c.sections[0]; s.Hardware != "x86_64 Xen 4.17.5 HVM" || s.OS != "Linux 6.1.0-18-amd64" || s.Application != "xentrace 1.2.3" ||
		s.Comment != "check: FAIL linearize eth0: Driver drops packets over 18 slots." {
		t.Errorf("section %+v", s)
	}
	if len(c.interfaces) != 2 || c.interfaces[0].Name != "eth0" || c.interfaces[0].Description != "netns 4026531840, driver xen-netfront, MTU 1500" ||
		c.interfaces[1].Name != "eth1" || c.interfaces[1].Description != "netns 4026532201" || c.interfaces[0].LinkType != layers.LinkTypeEthernet {
		t.Errorf("interfaces %+v", c.interfaces)
	}
	if len(c.packets) != 2 {
		t.Fatalf("%d packets, want 2", len(c.packets))
	}
	if p := c.packets[0]; !p.when.Equal(when) || p.interfaceName != "eth0" || p.length != 1514 || len(p.data) != 66 {
		t.Errorf("%+v", p)
	}
	if p := c.packets[1]; !p.when.Equal(when.Add(time.Millisecond)) || p.interfaceName != "eth1" || !bytes.Equal(p.data, other.Header) {
		t.Errorf("%+v", p)
	}
	want := []struct{ received, dropped uint64 }{{1000, 2}, {2000, 4}, {2001, 2}}
	if len(c.statistics) != len(want) {
		t.Fatalf("%d statistics, want %d", len(c.statistics), len(want))
	}
	for i, s := range c.statistics {
		if s.PacketsReceived != want[i].received || s.PacketsDropped != want[i].dropped || !s.StartTime.Equal(when) {
			t.Errorf("statistics %d: %+v, want %+v", i, s, want[i])
		}
	}
	if comment := c.statistics[2].Comment; !strings.Contains(comment, "packets 2,001") || !strings.Contains(comment, "tx_dropped delta 2") {
		t.Errorf("comment of the totals: %q", comment)
	}
}

// A change of a flow that was read from a recording names its interface, and has no index.
func TestOneDescriptionPerInterface(t *testing.T) {
	var file bytes.Buffer
	change := flowEvent(dropped(1))
	change.Flow.Interface.Index = 0
	emit(t, New(&file, nil), change, dropped(0), change, dropped(2))
	if c := read(t, file.Bytes()); len(c.interfaces) != 1 || len(c.packets) != 2 || len(c.statistics) != 2 {
		t.Errorf("interfaces %+v, %d packets, %d statistics", c.interfaces, len(c.packets), len(c.statistics))
	}
}

// A Start of the same boot, as each segment of a recording has, changes nothing; behind one
// of another, interfaces are described anew.
func TestBoots(t *testing.T) {
	var file bytes.Buffer
	other := start()
	other.BootID, other.Hostname, other.Interfaces = "boot-2", "web2", nil
	emit(t, New(&file, nil), start(), dropped(0), start(), dropped(1), other, dropped(2))
	c := read(t, file.Bytes())
	if len(c.sections) != 1 || len(c.packets) != 3 || len(c.interfaces) != 2 || c.interfaces[1].Description != "netns 4026531840, host web2" {
		t.Errorf("%d sections, %d packets, interfaces %+v", len(c.sections), len(c.packets), c.interfaces)
	}
}

func TestEmptyFileHasItsHead(t *testing.T) {
	var file bytes.Buffer
	sink := New(&file, start())
	emit(t, sink)
	if c := read(t, file.Bytes()); len(c.packets) != 0 || len(c.interfaces) != 1 || c.sections[0].Application == "" {
		t.Errorf("%+v", c)
	}
}

// Each event is one write of whole blocks.
func TestOneWritePerEvent(t *testing.T) {
	w := &writes{}
	sink := New(w, start())
	emit(t, sink, dropped(0), dropped(1), dropped(2))
	if w.n != 3 {
		t.Errorf("%d writes, want 3", w.n)
	}
	w.err = errors.New("no space left on device")
	if err := sink.Emit(dropped(3)); !errors.Is(err, w.err) {
		t.Errorf("error %v, want that of the write", err)
	}
}

type writes struct {
	n   int
	err error
}

func (w *writes) Write(b []byte) (int, error) {
	w.n++
	return len(b), w.err
}

func TestComments(t *testing.T) {
	change := func(f func(*event.Packet)) *event.Packet {
		p := dropped(0)
		f(p)
		return p
	}
	for _, test := range []struct {
		name   string
		packet *event.Packet
		want   string
	}{
		{"a drop", dropped(0), "dropped: too_many_slots, 35/18 slots, nginx[812]"},
		{"owner unknown", change(func(p *event.Packet) { p.Process = nil }), "dropped: too_many_slots, 35/18 slots"},
		{"linearized", change(func(p *event.Packet) { p.Verdict, p.Cause = event.Linearized, event.CauseNone }), "linearized, 35/18 slots, nginx[812]"},
		{"hostile name", change(func(p *event.Packet) { p.Process.Comm = "a\x00\xff, b[1]\n" }), `dropped: too_many_slots, 35/18 slots, a\x00\xff, b[1]\x0a[812]`},
		{"elsewhere", change(func(p *event.Packet) {
			p.Layer, p.Cause, p.Reason, p.Stack = event.LayerElsewhere, event.CauseNone, "QDISC_DROP", []string{"tbf_enqueue+0x10 [sch_tbf]"}
		}), "dropped elsewhere, 35/18 slots, nginx[812]|drop reason: QDISC_DROP in tbf_enqueue [sch_tbf]"},
		{"tunnel", change(func(p *event.Packet) { p.Inner = p.Flow }), "dropped: too_many_slots, 35/18 slots, nginx[812]|inner flow: 10.0.0.1:40000 > 10.0.0.9:5001 tcp"},
		{"NAT", change(func(p *event.Packet) { p.BeforeNAT = p.Flow }), "dropped: too_many_slots, 35/18 slots, nginx[812]|before NAT: 10.0.0.1:40000 > 10.0.0.9:5001 tcp"},
	} {
		t.Run(test.name, func(t *testing.T) {
			if got := strings.Join(packetComments(test.packet, false), "|"); got != test.want {
				t.Errorf("%q, want %q", got, test.want)
			}
		})
	}
	if last := packetComments(dropped(0), true)[1]; !strings.HasPrefix(last, "header reconstructed: ") {
		t.Errorf("%q does not say that the header is reconstructed", last)
	}
}

// Names are hostile: what does not fit or is not UTF-8 leaves a file that is well formed.
func TestTextIsBounded(t *testing.T) {
	for _, test := range []struct {
		name, text string
		length     int
	}{
		{"longest", strings.Repeat("x", 65535), 65535},
		{"too long", strings.Repeat("x", 65536), 65535},
		{"a character across the end", strings.Repeat("x", 65534) + "é", 65534},
		{"not UTF-8", "a\xff\xfeb", len(`a\xff\xfeb`)},
		{"what moves text", "a\x1b[31m\u202e\r\n", len(`a\x1b[31m\u202e\x0d\x0a`)},
	} {
		if got := bounded(test.text); len(got) != test.length || !utf8.ValidString(got) {
			t.Errorf("%s: %d bytes, want %d of UTF-8", test.name, len(got), test.length)
		}
	}
	var file bytes.Buffer
	p := dropped(0)
	p.Interface.Name = strings.Repeat("é", 100000)
	p.Layer, p.Reason = event.LayerElsewhere, strings.Repeat("\xff", 100000)
	emit(t, New(&file, nil), p)
	if c := read(t, file.Bytes()); len(c.packets) != 1 || len(c.interfaces[0].Name) > 65535 {
		t.Errorf("%d packets, name of %d bytes", len(c.packets), len(c.interfaces[0].Name))
	}
}

// A recording may name any number of interfaces: those that came late have one description.
func TestManyInterfaces(t *testing.T) {
	var file bytes.Buffer
	s := New(&file, nil)
	for n := range mostInterfaces + 100 {
		p := dropped(0)
		p.Interface.Name = fmt.Sprint("e", n)
		emit(t, s, p)
	}
	c := read(t, file.Bytes())
	if last := len(c.interfaces) - 1; last != mostInterfaces || c.interfaces[last].Name != event.RestName || len(c.packets) != mostInterfaces+100 {
		t.Errorf("%d interfaces, the last %q, %d packets; want %d and %q", len(c.interfaces), c.interfaces[last].Name, len(c.packets), mostInterfaces+1, event.RestName)
	}
}

func BenchmarkPacket(b *testing.B) {
	read := dropped(0)
	read.Header = make([]byte, 128)
	for name, p := range map[string]*event.Packet{"read": read, "reconstructed": dropped(0)} {
		b.Run(name, func(b *testing.B) {
			sink := New(io.Discard, start())
			b.ReportAllocs()
			for b.Loop() {
				if err := sink.Emit(p); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
