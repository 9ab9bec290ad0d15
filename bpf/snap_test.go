package bpf

import (
	"bytes"
	"slices"
	"testing"
	"unsafe"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/ringbuf"
)

// headOf is a frame of that many bytes, each its own.
func headOf(size int) []byte {
	head := join(ethernet(0x0800), ipv4(17, 0x4000, 0), ports())
	for len(head) < size {
		head = append(head, byte(len(head)))
	}
	return head[:size]
}

// The record ends with the packet's first bytes, as many as were asked for and are in its
// linear part, and is longer by them only.
func TestSnap(t *testing.T) {
	a := newArena(t)
	for _, test := range []struct {
		name        string
		snap        uint16
		stacks      uint8
		head, frags int
		wantSnapped int
		wantBefore  int // length of the record without
	}{
		{"none", 0, 0, 300, 17, 0, int(unsafe.Offsetof(XentracePacketEvent{}.Frags)) + 17*8},
		{"some", 64, 0, 300, 17, 64, int(unsafe.Offsetof(XentracePacketEvent{}.Frags)) + 17*8},
		{"most", 256, 0, 300, 17, 256, int(unsafe.Offsetof(XentracePacketEvent{}.Frags)) + 17*8},
		{"more than asked for is not read", 1000, 0, 300, 17, 256, int(unsafe.Offsetof(XentracePacketEvent{}.Frags)) + 17*8},
		{"all of a short head", 256, 0, 42, 17, 42, int(unsafe.Offsetof(XentracePacketEvent{}.Frags)) + 17*8},
		{"45 fragments", 256, 0, 300, 45, 256, int(unsafe.Offsetof(XentracePacketEvent{}.Frags)) + 45*8},
		{"behind a stack", 200, 1, 300, 17, 200, int(unsafe.Sizeof(XentracePacketEvent{}) + unsafe.Sizeof(XentraceCallStack{}))},
	} {
		t.Run(test.name, func(t *testing.T) {
			pin(t)
			a.t = t
			p := loadPrograms(t, a, XentraceConfiguration{
				PageSize: 4096, DriverHooks: 1, Records: 1, Stacks: test.stacks, Snap: test.snap,
				PrivOffset: -1, BrokenOffset: -1, BounceOffset: -1})
			clear(a.memory)
			a.device()
			head := headOf(test.head)
			data := a.page() + 256
			a.packet(atSkb, data, uint32(len(head)), slices.Repeat([]fakeFrag{{4056, 80}}, test.frags))
			copy(a.memory[data-a.address:], head)
			a.flush()
			p.begin(atSkb)
			// What the driver makes of it is not what is recorded.
			clear(a.memory[data-a.address : data-a.address+300])
			a.flush()
			p.free(atSkb)
			records := p.ring()
			if len(records) != 1 || len(records[0]) != test.wantBefore+test.wantSnapped {
				t.Fatalf("%d records, the first of %d bytes, want one of %d+%d", len(records), len(records[0]), test.wantBefore, test.wantSnapped)
			}
			event := *(*XentracePacketEvent)(unsafe.Pointer(&append(records[0], make([]byte, unsafe.Sizeof(XentracePacketEvent{}))...)[0]))
			if int(event.Snapped) != test.wantSnapped || event.Stacked != test.stacks || event.Linkless != 0 || event.EtherType != 0x0800 {
				t.Errorf("%d bytes, stacked %d, linkless %d, EtherType %#x", event.Snapped, event.Stacked, event.Linkless, event.EtherType)
			}
			if got := records[0][test.wantBefore:]; !bytes.Equal(got, head[:test.wantSnapped]) {
				t.Errorf("recorded % x\nwant % x", got, head[:test.wantSnapped])
			}
			if event.NrFrags != uint32(test.frags) || event.Frags[min(test.frags, 45)-1].Size != 80 {
				t.Errorf("%d fragments, the last of %d bytes", event.NrFrags, event.Frags[test.frags-1].Size)
			}
		})
	}
}

// The bytes of a packet that was dropped elsewhere begin with its link header, also where
// the data is past it; where it has none they begin with its network header.
func TestSnapElsewhere(t *testing.T) {
	a := newArena(t)
	p := loadPrograms(t, a, XentraceConfiguration{
		PageSize: 4096, DriverHooks: 1, Records: 1, Snap: 64, PrivOffset: -1, BrokenOffset: -1, BounceOffset: -1,
	}, func(spec *ebpf.CollectionSpec) error {
		return spec.Variables[XentraceVarElsewhereConfig].Set(XentraceElsewhereConfiguration{HasReason: 1, Consumed: 1})
	})
	p.completion(completionAt)
	reader, err := ringbuf.NewReader(p.collection.Maps[XentraceMapEvents])
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = reader.Close() }()
	link := ethernet(0x0800)
	network := join(ipv4(17, 0x4000, 0), ports(), make([]byte, 38))
	for _, test := range []struct {
		name     string
		way      fakeWay
		before   []byte // what lies before the data
		data     []byte
		want     []byte
		linkless uint8
	}{
		{"at the link header", fakeWay{dev: atDev, link: true}, nil, join(link, network), join(link, network)[:64], 0},
		{"past the link header it was received with", fakeWay{dev: atOtherDev, route: atDev, behind: true, iif: otherIndex}, link, network, join(link, network)[:64], 0},
		{"no link header yet", fakeWay{route: atDev}, []byte("garbage before"), network, network[:64], 1},
	} {
		t.Run(test.name, func(t *testing.T) {
			a.t, p.t = t, t
			clear(a.memory)
			a.device()
			a.otherDevice()
			a.way(test.way)
			event, got := p.recordOfDrop(reader, test.before, test.data)
			if !bytes.Equal(got, test.want) || event.Packet.Linkless != test.linkless || event.Packet.EtherType != 0x0800 {
				t.Errorf("linkless %d, EtherType %#x, recorded % x\nwant %d, % x", event.Packet.Linkless, event.Packet.EtherType, got, test.linkless, test.want)
			}
		})
	}
}
