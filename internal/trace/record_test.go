package trace

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
	"unsafe"

	"xentrace/bpf"
	"xentrace/internal/event"
	"xentrace/internal/output"
	"xentrace/test/memory"
)

func newDecoder() *recordDecoder {
	return &recordDecoder{
		jiffy:    4 * time.Millisecond,
		wallTime: func(monotonic uint64) time.Time { return time.Unix(1000, 0).Add(time.Duration(monotonic)) },
	}
}

// raw is the record as the BPF programs cuts it off: behind the last fragment.
func raw(event *bpf.XentracePacketEvent, frags int) []byte {
	length := recordHeader + frags*int(unsafe.Sizeof(event.Frags[0]))
	return slices.Clone(unsafe.Slice((*byte)(unsafe.Pointer(event)), length))
}

// tcpEvent is the record of a dropped TCP segment; each field has its own value.
func tcpEvent(frags int) *bpf.XentracePacketEvent {
	e := &bpf.XentracePacketEvent{
		TimeNs: 5_000_000_007, Len: 1426, HeadOffset: 2306, HeadLen: 66, Slots: 35, Queue: 3,
		GsoSize: 1448, GsoSegs: 2, Verdict: bpf.XentraceVerdictVERDICT_DROPPED, Cause: bpf.XentraceCauseCAUSE_TOO_MANY_SLOTS,
		NrFrags: uint32(frags),
	}
	e.Header.Kind, e.Header.Ifindex, e.Header.Netns, e.Header.Cpu = bpf.XentraceEventKindEVENT_PACKET, 4, 4026531840, 63
	e.Tcp.SndUna, e.Tcp.SndNxt, e.Tcp.WriteSeq = 0xffffff00, 0xffffff80, 0x100
	e.Tcp.RtoJiffies, e.Tcp.SrttUs, e.Tcp.State, e.Tcp.Retransmits, e.Tcp.Present = 51, 12345, 1, 5, 1
	source, destination := netip.MustParseAddr("2001:db8::1").As16(), netip.MustParseAddr("2001:db8::2").As16()
	e.Flow.Saddr, e.Flow.Daddr, e.Flow.Sport, e.Flow.Dport = source, destination, 40001, 443
	e.Flow.Seq, e.Flow.HasSeq, e.Flow.Family, e.Flow.Proto = 0xffffff00, 1, 6, 6
	for i := range min(frags, len(e.Frags)) {
		e.Frags[i].Offset, e.Frags[i].Size = uint32(4056+i), uint32(80+i)
	}
	return e
}

// tcpPacket is the packet of tcpEvent.
func tcpPacket(frags int) event.Packet {
	p := event.Packet{
		Time: time.Unix(1005, 7), CPU: 63, Interface: event.Device{Index: 4, NetNS: 4026531840}, Queue: 3,
		Verdict: event.Dropped, Cause: event.TooManySlots, Slots: 35, Limit: 18, Len: 1426, HeadOffset: 2306, HeadLen: 66,
		Frags: make([]event.Frag, frags), GSOSize: 1448, GSOSegs: 2,
		Flow: &event.Flow{Proto: 6, Source: netip.MustParseAddrPort("[2001:db8::1]:40001"), Destination: netip.MustParseAddrPort("[2001:db8::2]:443"), Seq: 0xffffff00, SeqKnown: true},
		TCP: &event.TCP{State: 1, Seq: 0xffffff00, SndUna: 0xffffff00, SndNxt: 0xffffff80, WriteSeq: 0x100, Retransmits: 5,
			RTO: 204 * time.Millisecond, SRTT: 12345 * time.Microsecond, SndQBytes: 0x200}, // sequence numbers wrap
	}
	for i := range p.Frags {
		p.Frags[i] = event.Frag{Offset: uint32(4056 + i), Size: uint32(80 + i)}
	}
	return p
}

func TestDecodePacket(t *testing.T) {
	for _, test := range []struct {
		name   string
		frags  int
		change func(*bpf.XentracePacketEvent, *event.Packet)
	}{
		{"TCP over IPv6", 17, nil},
		{"no fragments", 0, nil},
		{"as many fragments as a kernel can be built for", 45, nil},
		{"IPv4", 17, func(e *bpf.XentracePacketEvent, p *event.Packet) {
			e.Flow.Family = 4
			copy(e.Flow.Saddr[:], []byte{192, 0, 2, 1})
			copy(e.Flow.Daddr[:], []byte{198, 51, 100, 2})
			p.Flow.Source, p.Flow.Destination = netip.MustParseAddrPort("192.0.2.1:40001"), netip.MustParseAddrPort("198.51.100.2:443")
		}},
		{"not IP", 17, func(e *bpf.XentracePacketEvent, p *event.Packet) {
			e.Flow.Family, e.Flow.HasSeq = 0, 0
			p.Flow, p.TCP = nil, nil
		}},
		{"socket that is no full TCP socket", 2, func(e *bpf.XentracePacketEvent, p *event.Packet) {
			e.Tcp.Present = 0
			p.TCP = nil
		}},
		{"fragment of a TCP segment", 2, func(e *bpf.XentracePacketEvent, p *event.Packet) {
			e.Flow.HasSeq, e.Flow.Seq = 0, 0
			p.Flow.Seq, p.Flow.SeqKnown, p.TCP = 0, false, nil
		}},
		{"in a tunnel", 2, func(e *bpf.XentracePacketEvent, p *event.Packet) {
			e.Inner = e.Flow
			e.Inner.Seq, e.Flow.Proto, e.Flow.HasSeq, e.Flow.Seq = 0xffffff10, 17, 0, 0
			inner := *p.Flow
			inner.Seq = 0xffffff10
			p.Inner, p.TCP.Seq = &inner, 0xffffff10
			p.Flow.Proto, p.Flow.SeqKnown, p.Flow.Seq = 17, false, 0
		}},
		{"encrypted, by an IPv6 socket with IPv4 addresses", 2, func(e *bpf.XentracePacketEvent, p *event.Packet) {
			e.Inner.Family, e.Inner.Proto, e.Inner.Sport, e.Inner.Dport = 6, 6, 40001, 443
			e.Inner.Saddr, e.Inner.Daddr = netip.MustParseAddr("::ffff:10.0.0.1").As16(), netip.MustParseAddr("::ffff:10.0.0.2").As16()
			e.Flow.Proto, e.Flow.HasSeq, e.Flow.Seq, e.Tcp.SndUna = 50, 0, 0, 0xfffffe00
			p.Inner = &event.Flow{Proto: 6, Source: netip.MustParseAddrPort("10.0.0.1:40001"), Destination: netip.MustParseAddrPort("10.0.0.2:443")}
			p.Flow.Proto, p.Flow.SeqKnown, p.Flow.Seq = 50, false, 0
			p.TCP.Seq, p.TCP.SndUna, p.TCP.SndQBytes = 0xfffffe00, 0xfffffe00, 0x300
		}},
		{"UDP in a tunnel that a TCP socket sent", 2, func(e *bpf.XentracePacketEvent, p *event.Packet) {
			e.Inner = e.Flow
			e.Inner.Proto, e.Inner.HasSeq, e.Inner.Seq = 17, 0, 0
			e.Flow.Proto, e.Flow.HasSeq, e.Flow.Seq = 4, 0, 0
			inner := *p.Flow
			inner.Proto, inner.Seq, inner.SeqKnown = 17, 0, false
			p.Inner, p.TCP = &inner, nil
			p.Flow.Proto, p.Flow.SeqKnown, p.Flow.Seq = 4, false, 0
		}},
		{"linearized", 17, func(e *bpf.XentracePacketEvent, p *event.Packet) {
			e.Verdict, e.Cause = bpf.XentraceVerdictVERDICT_LINEARIZED, bpf.XentraceCauseCAUSE_NONE
			p.Verdict, p.Cause = event.Linearized, event.CauseNone
		}},
		{"EtherType without bytes of the packet", 0, func(e *bpf.XentracePacketEvent, p *event.Packet) {
			e.EtherType, e.Linkless = 0x88cc, 1
			p.EtherType = 0x88cc
		}},
		{"largest numbers", 1, func(e *bpf.XentracePacketEvent, p *event.Packet) {
			e.Slots, e.Queue, e.GsoSize, e.GsoSegs, e.Len = 0xffff, 0xffff, 0xffff, 0xffff, 0xffffffff
			p.Slots, p.Queue, p.GSOSize, p.GSOSegs, p.Len = 0xffff, 0xffff, 0xffff, 0xffff, 0xffffffff
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			event, want := tcpEvent(test.frags), tcpPacket(test.frags)
			if test.change != nil {
				test.change(event, &want)
			}
			d := newDecoder()
			d.packet = *tcpEvent(45) // what an earlier record left
			got, err := d.decodePacket(raw(event, test.frags))
			if err != nil || !reflect.DeepEqual(got, want) {
				t.Errorf("packet\n%+v\n%+v\n%+v, error %v, want\n%+v\n%+v\n%+v", got, got.Flow, got.TCP, err, want, want.Flow, want.TCP)
			}
		})
	}
}

// The packet's first bytes are the end of the record, behind its fragments or its stack.
func TestDecodeHeader(t *testing.T) {
	packet := []byte{0x45, 0, 0, 1, 2, 3}
	synthetic := append(make([]byte, 12), 0x08, 0x00, 0x45, 0, 0, 1, 2, 3)
	for _, test := range []struct {
		name     string
		linkless uint8
		stacked  uint8
		frags    int
		want     []byte
	}{
		{"link header there", 0, 0, 17, packet},
		{"no fragments", 0, 0, 0, packet},
		{"no link header", 1, 0, 17, synthetic},
		{"behind a stack", 0, 1, 2, packet},
		{"behind a stack, no link header", 1, 1, 45, synthetic},
	} {
		t.Run(test.name, func(t *testing.T) {
			e := tcpEvent(test.frags)
			e.EtherType, e.Linkless, e.Stacked, e.Snapped = 0x0800, test.linkless, test.stacked, uint16(len(packet))
			record := raw(e, test.frags)
			if test.stacked != 0 {
				record = slices.Concat(raw(e, len(e.Frags)), make([]byte, unsafe.Sizeof(bpf.XentraceCallStack{})))
			}
			record = append(record, packet...)
			p, err := newDecoder().decodePacket(record)
			if err != nil || !bytes.Equal(p.Header, test.want) || len(p.Frags) != test.frags || p.EtherType != 0x0800 {
				t.Fatalf("header % x, %d fragments, error %v, want % x, %d", p.Header, len(p.Frags), err, test.want, test.frags)
			}
			record[len(record)-1] = 99
			if p.Header[len(p.Header)-1] != 3 {
				t.Error("the header shares the ring's memory")
			}
			if _, err := newDecoder().decodePacket(record[:len(record)-1]); err == nil {
				t.Error("no error for a header that is cut off")
			}
		})
	}
}

// Verdicts and causes are numbered as in the BPF programs.
func TestNumbersAreTheKernelSides(t *testing.T) {
	for name, pair := range map[string][2]int{
		"sent":             {int(event.Sent), int(bpf.XentraceVerdictVERDICT_SENT)},
		"dropped":          {int(event.Dropped), int(bpf.XentraceVerdictVERDICT_DROPPED)},
		"linearized":       {int(event.Linearized), int(bpf.XentraceVerdictVERDICT_LINEARIZED)},
		"bounced":          {int(event.Bounced), int(bpf.XentraceVerdictVERDICT_BOUNCED)},
		"over_limit":       {int(event.OverLimit), int(bpf.XentraceVerdictVERDICT_OVER_LIMIT)},
		"rejected":         {int(event.Rejected), int(bpf.XentraceVerdictVERDICT_REJECTED)},
		"no_queues":        {int(event.NoQueues), int(bpf.XentraceCauseCAUSE_NO_QUEUES)},
		"device_broken":    {int(event.DeviceBroken), int(bpf.XentraceCauseCAUSE_DEVICE_BROKEN)},
		"too_big":          {int(event.TooBig), int(bpf.XentraceCauseCAUSE_TOO_BIG)},
		"too_many_slots":   {int(event.TooManySlots), int(bpf.XentraceCauseCAUSE_TOO_MANY_SLOTS)},
		"linearize_failed": {int(event.LinearizeFailed), int(bpf.XentraceCauseCAUSE_LINEARIZE_FAILED)},
		"bounce_failed":    {int(event.BounceFailed), int(bpf.XentraceCauseCAUSE_BOUNCE_FAILED)},
		"no_carrier":       {int(event.NoCarrier), int(bpf.XentraceCauseCAUSE_NO_CARRIER)},
		"sg_off":           {int(event.SGOff), int(bpf.XentraceCauseCAUSE_SG_OFF)},
		"needs_gso":        {int(event.NeedsGSO), int(bpf.XentraceCauseCAUSE_NEEDS_GSO)},
		"unknown":          {int(event.UnknownCause), int(bpf.XentraceCauseCAUSE_UNKNOWN)},
	} {
		if pair[0] != pair[1] {
			t.Errorf("%s is %d, and %d in the BPF programs", name, pair[0], pair[1])
		}
		if text := event.Verdict(pair[0]).String(); name != text && name != event.Cause(pair[0]).String() {
			t.Errorf("%s is called neither %s nor %s", name, text, event.Cause(pair[0]))
		}
	}
}

func TestDecodeInterface(t *testing.T) {
	for name, want := range map[string]string{"eth0": "eth0", "": "", "fifteen-letters": "fifteen-letters", "sixteen-letters!": "sixteen-letters!"} {
		announced := bpf.XentraceInterfaceEvent{}
		announced.Header.Kind, announced.Header.Ifindex, announced.Header.Netns = bpf.XentraceEventKindEVENT_INTERFACE, 9, 4026532999
		copy(announced.Name[:], name)
		record := slices.Clone(unsafe.Slice((*byte)(unsafe.Pointer(&announced)), unsafe.Sizeof(announced)))
		d := newDecoder()
		kind, err := d.kind(record)
		if err != nil || kind != bpf.XentraceEventKindEVENT_INTERFACE {
			t.Errorf("kind %d, error %v", kind, err)
		}
		if got, want := d.decodeInterface(record), (event.Device{Name: want, Index: 9, NetNS: 4026532999}); got != want {
			t.Errorf("%+v, want %+v", got, want)
		}
	}
}

func TestRecordsThatAreTooShort(t *testing.T) {
	whole := raw(tcpEvent(17), 17)
	for length := range len(whole) {
		d := newDecoder()
		if _, err := d.kind(whole[:length]); (err != nil) != (length < interfaceRecord) {
			t.Fatalf("kind of %d bytes: error %v", length, err)
		}
		if _, err := d.decodePacket(whole[:length]); err == nil || !strings.Contains(err.Error(), "too short") && !strings.Contains(err.Error(), "shorter") {
			t.Fatalf("%d of %d bytes: error %v", length, len(whole), err)
		}
	}
	more := tcpEvent(45)
	more.NrFrags = 46
	if p, err := newDecoder().decodePacket(append(raw(more, 45), make([]byte, 8)...)); err == nil {
		t.Errorf("46 fragments are taken: %d", len(p.Frags))
	}
}

// Whatever comes out of the ring, decoding does not panic, and what is taken
// shows just what the bytes say.
func FuzzRecord(f *testing.F) {
	f.Add(raw(tcpEvent(17), 17))
	f.Add(raw(tcpEvent(45), 45))
	f.Add(raw(tcpEvent(0), 0))
	f.Add(make([]byte, 1024))
	f.Add([]byte{})
	stacked := tcpEvent(2)
	f.Add(append(raw(stacked, 45), make([]byte, unsafe.Sizeof(bpf.XentraceCallStack{}))...))
	f.Fuzz(func(t *testing.T, record []byte) {
		memory.Within(t, 1<<20, func() { decodeAny(t, record) })
	})
}

func decodeAny(t *testing.T, record []byte) {
	t.Helper()
	d := newDecoder()
	if _, err := d.kind(record); err != nil {
		if len(record) >= interfaceRecord {
			t.Errorf("%d bytes: %v", len(record), err)
		}
		return
	}
	if name := d.decodeInterface(record).Name; len(name) > 16 || strings.Contains(name, "\x00") {
		t.Errorf("interface called %q", name)
	}
	p, err := d.decodePacket(record)
	if err != nil {
		return
	}
	word := func(at uintptr) int { return int(binary.NativeEndian.Uint32(record[at:])) }
	var e bpf.XentracePacketEvent
	if p.Len != word(unsafe.Offsetof(e.Len)) || len(p.Frags) != word(unsafe.Offsetof(e.NrFrags)) || len(p.Frags) > 45 {
		t.Errorf("%d bytes, %d fragments of a record of %d bytes", p.Len, len(p.Frags), len(record))
	}
	for i, frag := range p.Frags {
		if at := uintptr(recordHeader + 8*i); int(frag.Offset) != word(at) || int(frag.Size) != word(at+4) {
			t.Errorf("fragment %d: %+v", i, frag)
		}
	}
	if p.Verdict.String() == "" || p.TCP != nil && record[unsafe.Offsetof(e.Tcp)+unsafe.Offsetof(e.Tcp.Present)] == 0 {
		t.Errorf("verdict %q, TCP state %+v", p.Verdict, p.TCP)
	}
	line := output.JSON{}.AppendPacket(nil, &p)
	if !json.Valid(line) {
		t.Errorf("not JSON: %s", line)
	}
	(&output.Text{}).AppendPacket(nil, &p)
}

// The same of a drop elsewhere.
func FuzzElsewhere(f *testing.F) {
	f.Add(append(make([]byte, elsewhereHeader), raw(tcpEvent(2), 2)...))
	f.Add(make([]byte, elsewhereHeader))
	f.Add(bytes.Repeat([]byte{0xff}, elsewhereHeader+2000))
	f.Fuzz(func(t *testing.T, record []byte) {
		memory.Within(t, 1<<20, func() {
			d := newDecoder()
			p, err := d.decodeElsewhere(record)
			if err != nil {
				return
			}
			if line := (output.JSON{}).AppendPacket(nil, &p); !json.Valid(line) {
				t.Errorf("not JSON: %s", line)
			}
			d.userCall()
		})
	})
}

// Whatever the iterator over files writes, a holder is as long as the record says.
func FuzzHolders(f *testing.F) {
	f.Add(make([]byte, 3*holderSize))
	f.Add(bytes.Repeat([]byte{0xff}, 65*holderSize+1))
	f.Add([]byte{1})
	f.Fuzz(func(t *testing.T, records []byte) {
		memory.Within(t, 1<<20+4*uint64(len(records)), func() {
			holders, err := readHolders(bytes.NewReader(records))
			if (err != nil) != (len(records)%holderSize != 0) || len(holders) > len(records)/holderSize {
				t.Errorf("%d holders in %d bytes, error %v", len(holders), len(records), err)
			}
		})
	})
}
