package bpf

import (
	"testing"
	"time"
	"unsafe"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/ringbuf"
)

// More of the arena: another interface, which nobody watches, and routes.
const (
	atOtherDev   = 0xb000
	atRoute      = 0xf000 // struct dst_entry
	otherIndex   = 8
	routeNoRef   = 1 // the lowest bit of skb->_skb_refdst
	dropLocation = 0xffffffff81234567
	completionAt = 0xffffffff81e5d4a0
	someReason   = 64
)

// A fakeWay is what an sk_buff shows of where it came from and goes.
type fakeWay struct {
	dev    int // index in the arena, 0 for none
	route  int // device of the route, 0 for none
	iif    int
	link   bool // the link header is there and the data at it
	behind bool // the link header is there and the data behind it
	none   bool // no header was ever set
	copied bool // for a packet socket
}

func (a *arena) way(w fakeWay) {
	pointer := func(at int) uint64 {
		if at == 0 {
			return 0
		}
		return a.address + uint64(at)
	}
	data := a.page() + 256
	a.packet(atSkb, data, 66, nil)
	a.set(atSkb, pointer(w.dev), "sk_buff", "dev")
	a.set(atSkb, uint64(w.iif), "sk_buff", "skb_iif")
	a.set(atSkb, 0, "sk_buff", "_skb_refdst")
	if w.route != 0 {
		a.set(atRoute, pointer(w.route), "dst_entry", "dev")
		a.set(atSkb, pointer(atRoute)|routeNoRef, "sk_buff", "_skb_refdst")
	}
	// Headers are counted from skb->head, the shared info from the same by end.
	head := data - 128
	a.set(atSkb, head, "sk_buff", "head")
	a.set(atSkb, a.address+atShared-head, "sk_buff", "end")
	network, mac := uint64(128), uint64(0xffff)
	switch {
	case w.none:
		network = 0
	case w.link:
		network, mac = 128+14, 128
	case w.behind:
		mac = 128 - 14
	}
	a.set(atSkb, network, "sk_buff", "network_header")
	a.set(atSkb, mac, "sk_buff", "mac_header")
	at, _ := a.offset("sk_buff", "__pkt_type_offset")
	a.memory[atSkb+at] &^= 7
	if w.copied {
		a.memory[atSkb+at] |= 4 // PACKET_OUTGOING
	}
}

// otherDevice lays out an interface that is not watched.
func (a *arena) otherDevice() {
	a.set(atOtherDev, otherIndex, "net_device", "ifindex")
	a.set(atOtherDev, 1, "net_device", "type")
	a.set(atOtherDev, a.address+atNet, "net_device", "nd_net", "net")
	a.set(atOtherDev, a.address+atOps, "net_device", "netdev_ops")
}

// elsewherePrograms loads them for a kernel that tells reasons.
func elsewherePrograms(t *testing.T, a *arena, e XentraceElsewhereConfiguration) *programs {
	t.Helper()
	p := loadPrograms(t, a, XentraceConfiguration{
		PageSize: 4096, DriverHooks: 1, Records: 1, PrivOffset: -1, BrokenOffset: -1, BounceOffset: -1,
	}, func(spec *ebpf.CollectionSpec) error {
		return spec.Variables[XentraceVarElsewhereConfig].Set(e)
	})
	if e.NetTxActionUnknown == 0 {
		p.completion(completionAt)
	}
	return p
}

func (p *programs) completion(address uint64) {
	p.t.Helper()
	if err := p.collection.Variables[XentraceVarNetTxAction].Set(address); err != nil {
		p.t.Fatal(err)
	}
}

func (p *programs) dropAt(location uint64, reason uint64) {
	p.run(XentraceProgElsewhereFree, p.arena.address+atSkb, location, reason)
}

// elsewhere returns what was counted in that index, and clears it.
func (p *programs) elsewhere(index uint32) (sum XentraceElsewhereCounters) {
	p.t.Helper()
	var perCPU []XentraceElsewhereCounters
	counters := p.collection.Maps[XentraceMapElsewhereCountersOf]
	if err := counters.Lookup(index, &perCPU); err != nil {
		p.t.Fatal(err)
	}
	for _, c := range perCPU {
		sum.Dropped += c.Dropped
		for i := range c.Reasons {
			sum.Reasons[i] += c.Reasons[i]
		}
	}
	if err := counters.Put(index, make([]XentraceElsewhereCounters, len(perCPU))); err != nil {
		p.t.Fatal(err)
	}
	return sum
}

// ways are those of packets that are freed as dropped, and whether one was leaving
// by the watched interface.
var ways = []struct {
	name    string
	way     fakeWay
	leaving bool
}{
	{"locally generated, before the device is known", fakeWay{route: atDev}, true},
	{"locally generated, in the IP stack", fakeWay{dev: atDev, route: atDev}, true},
	{"in the queue", fakeWay{dev: atDev, route: atDev, link: true}, true},
	{"in the queue, the route released", fakeWay{dev: atDev, link: true}, true},
	{"ARP, before its link header", fakeWay{dev: atDev}, true},
	{"forwarded, in the queue", fakeWay{dev: atDev, link: true, iif: otherIndex}, true},
	{"forwarded, still on the interface it came in by", fakeWay{dev: atOtherDev, route: atDev, behind: true, iif: otherIndex}, true},
	{"on a device that lies upon the watched one", fakeWay{dev: atOtherDev, route: atDev, link: true}, true},
	{"through a device that lies below", fakeWay{dev: atDev, route: atOtherDev, link: true}, true},
	{"received", fakeWay{dev: atDev, behind: true, iif: fakeIndex}, false},
	{"received, with a route that names the interface", fakeWay{dev: atDev, route: atDev, behind: true, iif: fakeIndex}, false},
	{"received, at a filter that sees the link header", fakeWay{dev: atDev, link: true, iif: fakeIndex}, false},
	{"received, not noted yet", fakeWay{dev: atDev, behind: true}, false},
	{"received, to be forwarded elsewhere", fakeWay{dev: atDev, route: atOtherDev, behind: true, iif: fakeIndex}, false},
	{"a buffer to receive into", fakeWay{dev: atDev, none: true}, false},
	{"a copy for a packet socket", fakeWay{dev: atDev, route: atDev, link: true, copied: true}, false},
	{"leaving by another interface", fakeWay{dev: atOtherDev, route: atOtherDev, link: true}, false},
	{"neither device nor route", fakeWay{}, false},
}

func TestWhichDropsElsewhere(t *testing.T) {
	a := newArena(t)
	p := elsewherePrograms(t, a, XentraceElsewhereConfiguration{HasReason: 1, Consumed: 1})
	for _, w := range ways {
		t.Run(w.name, func(t *testing.T) {
			a.t, p.t = t, t
			clear(a.memory)
			a.device()
			a.otherDevice()
			a.way(w.way)
			a.flush()
			p.dropAt(dropLocation, someReason)
			var want uint64
			if w.leaving {
				want = 1
			}
			if got := p.elsewhere(fakeSlotID); got.Dropped != want || got.Reasons[someReason] != want {
				t.Errorf("counted %d, %d of reason %d, want %d", got.Dropped, got.Reasons[someReason], someReason, want)
			}
			// The transmit completion reports the same packet, which was sent.
			p.dropAt(completionAt, 2)
			if got := p.elsewhere(fakeSlotID); got.Dropped != 0 {
				t.Errorf("a sent packet was counted as dropped")
			}
		})
	}
}

// A route to the loopback device is what received packets have too.
func TestLoopbackRoute(t *testing.T) {
	a := newArena(t)
	p := elsewherePrograms(t, a, XentraceElsewhereConfiguration{HasReason: 1, Consumed: 1})
	for _, c := range []struct {
		name string
		way  fakeWay
		want uint64
	}{
		{"sent", fakeWay{route: atDev}, 1},
		{"received from another interface", fakeWay{dev: atOtherDev, route: atDev, behind: true, iif: otherIndex}, 0},
		{"received from itself", fakeWay{dev: atDev, route: atDev, behind: true, iif: fakeIndex}, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			a.t, p.t = t, t
			clear(a.memory)
			a.device()
			a.otherDevice()
			a.set(atDev, 772, "net_device", "type") // ARPHRD_LOOPBACK
			a.way(c.way)
			a.flush()
			p.dropAt(dropLocation, someReason)
			if got := p.elsewhere(fakeSlotID); got.Dropped != c.want {
				t.Errorf("counted %d, want %d", got.Dropped, c.want)
			}
		})
	}
}

// What the driver drops is the driver's, whatever hooks see it.
func TestDriversDropIsNotElsewhere(t *testing.T) {
	a := newArena(t)
	p := elsewherePrograms(t, a, XentraceElsewhereConfiguration{HasReason: 1, Consumed: 1})
	a.device()
	a.way(fakeWay{dev: atDev, link: true})
	a.flush()
	p.begin(atSkb)
	p.free(atSkb)
	p.dropAt(dropLocation, 2)
	p.end(atSkb)
	if driver, elsewhere := p.counted(fakeSlotID).Dropped, p.elsewhere(fakeSlotID).Dropped; driver != 1 || elsewhere != 0 {
		t.Errorf("%d dropped by the driver, %d elsewhere, want 1 and 0", driver, elsewhere)
	}
	p.dropAt(dropLocation, 2)
	if elsewhere := p.elsewhere(fakeSlotID).Dropped; elsewhere != 1 {
		t.Errorf("%d dropped elsewhere after the driver was done, want 1", elsewhere)
	}
}

// Reasons are counted by number, those of subsystems and those that are too many
// among them.
func TestReasonsAreCounted(t *testing.T) {
	a := newArena(t)
	p := elsewherePrograms(t, a, XentraceElsewhereConfiguration{HasReason: 1, Consumed: 1})
	a.device()
	a.way(fakeWay{dev: atDev, link: true})
	a.flush()
	for reason, index := range map[uint64]int{
		0: 0, 2: 2, 255: 255, 256: 511, 65535: 511,
		1 << 16: 256, 3<<16 | 2: 256 + 2*32 + 2, 3<<16 | 31: 256 + 2*32 + 31, 3<<16 | 32: 511,
		8<<16 | 30: 510, 9 << 16: 511, 0xffff0000: 511,
	} {
		p.dropAt(dropLocation, reason)
		if got := p.elsewhere(fakeSlotID); got.Dropped != 1 || got.Reasons[index] != 1 {
			t.Errorf("reason %#x: %d counted, %d at index %d", reason, got.Dropped, got.Reasons[index], index)
		}
	}
}

// Where addresses are hidden, the completion is found by its location, which no
// frame returns to.
func TestCompletionIsFound(t *testing.T) {
	a := newArena(t)
	p := elsewherePrograms(t, a, XentraceElsewhereConfiguration{HasReason: 1, Consumed: 1, NetTxActionUnknown: 1})
	a.device()
	a.way(fakeWay{dev: atDev, link: true})
	a.flush()
	for range 3 {
		p.dropAt(completionAt, 2)
	}
	if got := p.elsewhere(fakeSlotID).Dropped; got != 0 {
		t.Errorf("%d sent packets were counted as dropped", got)
	}
	var found uint64
	if err := p.collection.Variables[XentraceVarNetTxAction].Get(&found); err != nil || found != completionAt {
		t.Errorf("completion at %#x, %v, want %#x", found, err, uint64(completionAt))
	}
}

// A kernel without reasons has no third argument.
func TestDropWithoutReason(t *testing.T) {
	a := newArena(t)
	p := elsewherePrograms(t, a, XentraceElsewhereConfiguration{})
	a.device()
	a.way(fakeWay{dev: atDev, link: true})
	a.flush()
	p.run(XentraceProgElsewhereFree, a.address+atSkb, dropLocation)
	if got := p.elsewhere(fakeSlotID); got.Dropped != 1 || got.Reasons[0] != 1 {
		t.Errorf("%d counted, %d of no reason, want 1", got.Dropped, got.Reasons[0])
	}
}

// recordOfDrop drops a packet of these bytes, which lie behind others in memory, and returns
// its record and the bytes recorded after it.
func (p *programs) recordOfDrop(reader *ringbuf.Reader, before, data []byte) (event XentraceElsewhereEvent, snapped []byte) {
	p.t.Helper()
	a := p.arena
	a.set(atSkb, 0x0008, "sk_buff", "protocol") // ETH_P_IP in network order
	at := int(a.page() + 256 - a.address)
	copy(a.memory[at-len(before):], before)
	copy(a.memory[at:], data)
	a.flush()
	p.dropAt(dropLocation, someReason)
	reader.SetDeadline(time.Now().Add(5 * time.Second))
	record, err := reader.Read()
	if err != nil {
		p.t.Fatal(err)
	}
	end := unsafe.Offsetof(event.Packet) + unsafe.Offsetof(event.Packet.Frags)
	if len(record.RawSample) < int(end) {
		p.t.Fatalf("record of %d bytes, want at least %d", len(record.RawSample), end)
	}
	copy(unsafe.Slice((*byte)(unsafe.Pointer(&event)), unsafe.Sizeof(event)), record.RawSample)
	return event, record.RawSample[end:]
}

// The record has where the packet was to leave, why and where it was dropped, and
// its flow, whether its link header is there or not.
func TestRecordOfDropElsewhere(t *testing.T) {
	a := newArena(t)
	p := elsewherePrograms(t, a, XentraceElsewhereConfiguration{HasReason: 1, Consumed: 1})
	reader, err := ringbuf.NewReader(p.collection.Maps[XentraceMapEvents])
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = reader.Close() }()
	network := join(ipv4(17, 0x4000, 0), ports())
	for _, c := range []struct {
		name  string
		way   fakeWay
		bytes []byte
	}{
		{"link header there", fakeWay{dev: atDev, link: true}, join(ethernet(0x0800), network)},
		{"no link header yet", fakeWay{dev: atDev, route: atDev}, network},
		{"no device yet", fakeWay{route: atDev}, network},
	} {
		t.Run(c.name, func(t *testing.T) {
			a.t, p.t = t, t
			clear(a.memory)
			a.device()
			a.way(c.way)
			event, _ := p.recordOfDrop(reader, nil, c.bytes)
			head, flow := &event.Head, &event.Packet.Flow
			if head.Header.Kind != XentraceEventKindEVENT_ELSEWHERE || head.Header.Ifindex != fakeIndex || head.Header.Netns != fakeNetNS {
				t.Errorf("header %+v, want that of interface %d", head.Header, fakeIndex)
			}
			if head.Reason != someReason || head.Location != dropLocation || head.NrFrames == 0 || head.Frames[0] == 0 {
				t.Errorf("reason %d at %#x, %d frames", head.Reason, head.Location, head.NrFrames)
			}
			if flow.Family != 4 || flow.Proto != 17 || flow.Sport != sourcePort || flow.Dport != destinationPort {
				t.Errorf("flow %+v", flow)
			}
			if event.Packet.Verdict != XentraceVerdictVERDICT_DROPPED || event.Packet.Slots != 1 || event.Packet.Len != 66 {
				t.Errorf("verdict %d, %d slots, %d bytes: want dropped, 1 and 66", event.Packet.Verdict, event.Packet.Slots, event.Packet.Len)
			}
		})
	}
}
