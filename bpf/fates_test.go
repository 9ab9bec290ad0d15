package bpf

import "testing"

const (
	noBits    = 0
	noCarrier = 1 << 2 // 1 << __LINK_STATE_NOCARRIER
)

// A packet whose head lies well inside a page, and one of 35 slots.
var (
	fitting = []fakeFrag{{100, 50}}
	rocket  = []fakeFrag{
		{4056, 80}, {4056, 80}, {4056, 80}, {4056, 80}, {4056, 80}, {4056, 80}, {4056, 80}, {4056, 80}, {4056, 80},
		{4056, 80}, {4056, 80}, {4056, 80}, {4056, 80}, {4056, 80}, {4056, 80}, {4056, 80}, {4056, 80},
	}
)

// stage is one driver and one packet, and what the driver does with it.
type stage struct {
	p      *programs
	a      *arena
	frags  []fakeFrag
	offset uint64 // of the head in its page
}

func (s *stage) begin() {
	s.a.packet(atSkb, s.a.page()+s.offset, 66, s.frags)
	s.a.flush()
	s.p.begin(atSkb)
}

// linearize makes the packet what skb_linearize leaves of it.
func (s *stage) linearize() {
	s.a.packet(atSkb, s.a.page()+256, 1426, nil)
	s.a.flush()
}

// bounce frees the packet as the driver does once it has a copy.
func (s *stage) bounce() {
	s.p.consume(atSkb)
	s.a.packet(atCopy, s.a.page()+256, 116, nil)
	s.a.flush()
}

func (s *stage) device(structure string, member string, value uint64) {
	s.a.set(atDev, value, structure, member)
	s.a.flush()
}

func drop(skb int) func(*stage) {
	return func(s *stage) { s.p.free(skb) }
}

// A fate is what becomes of a packet, in the driver's own steps.
type fate struct {
	name   string
	frags  []fakeFrag
	offset uint64
	steps  []func(*stage)
	want   XentraceCounters // slots and bytes are left out
	cause  XentraceCause
}

var fates = []fate{
	{name: "sent", frags: fitting},
	{name: "linearized", frags: rocket, steps: []func(*stage){(*stage).linearize}, want: XentraceCounters{OverLimit: 1, Linearized: 1}},
	{name: "not linearized", frags: rocket, steps: []func(*stage){drop(atSkb)},
		want: XentraceCounters{OverLimit: 1, Dropped: 1}, cause: XentraceCauseCAUSE_TOO_MANY_SLOTS},
	{name: "linearized, then no carrier", frags: rocket,
		steps: []func(*stage){(*stage).linearize, state(noCarrier), drop(atSkb)},
		want:  XentraceCounters{OverLimit: 1, Dropped: 1}, cause: XentraceCauseCAUSE_NO_CARRIER},
	{name: "linearized to one slot, scatter-gather off all the same", frags: rocket,
		steps: []func(*stage){(*stage).linearize, features(noBits), drop(atSkb)},
		want:  XentraceCounters{OverLimit: 1, Dropped: 1}, cause: XentraceCauseCAUSE_SG_OFF},
	{name: "no carrier comes before scatter-gather", frags: fitting,
		steps: []func(*stage){state(noCarrier), features(noBits), drop(atSkb)},
		want:  XentraceCounters{Dropped: 1}, cause: XentraceCauseCAUSE_NO_CARRIER},
	{name: "scatter-gather off", frags: fitting, steps: []func(*stage){features(noBits), drop(atSkb)},
		want: XentraceCounters{Dropped: 1}, cause: XentraceCauseCAUSE_SG_OFF},
	{name: "no queues come before everything", frags: rocket,
		steps: []func(*stage){queues(0), broken, drop(atSkb)},
		want:  XentraceCounters{OverLimit: 1, Dropped: 1}, cause: XentraceCauseCAUSE_NO_QUEUES},
	{name: "device broken", frags: rocket, steps: []func(*stage){broken, drop(atSkb)},
		want: XentraceCounters{OverLimit: 1, Dropped: 1}, cause: XentraceCauseCAUSE_DEVICE_BROKEN},
	{name: "too big", frags: []fakeFrag{{0, 32768}, {0, 32768}}, steps: []func(*stage){drop(atSkb)},
		want: XentraceCounters{Dropped: 1}, cause: XentraceCauseCAUSE_TOO_BIG},
	{name: "needs GSO", frags: fitting, steps: []func(*stage){gso, drop(atSkb)},
		want: XentraceCounters{Dropped: 1}, cause: XentraceCauseCAUSE_NEEDS_GSO},
	{name: "no known cause", frags: fitting, steps: []func(*stage){drop(atSkb)},
		want: XentraceCounters{Dropped: 1}, cause: XentraceCauseCAUSE_UNKNOWN},
	{name: "bounced", offset: 4090, steps: []func(*stage){(*stage).bounce}, want: XentraceCounters{Bounced: 1}},
	{name: "bounce failed", offset: 4090, steps: []func(*stage){drop(atSkb)},
		want: XentraceCounters{Dropped: 1}, cause: XentraceCauseCAUSE_BOUNCE_FAILED},
	{name: "backend not trusted, bounce failed", frags: fitting, steps: []func(*stage){untrusted, drop(atSkb)},
		want: XentraceCounters{Dropped: 1}, cause: XentraceCauseCAUSE_BOUNCE_FAILED},
	{name: "bounced, and the copy dropped", offset: 4090, steps: []func(*stage){features(noBits), (*stage).bounce, drop(atCopy)},
		want: XentraceCounters{Bounced: 1, Dropped: 1}, cause: XentraceCauseCAUSE_SG_OFF},
	{name: "another packet freed meanwhile", frags: fitting, steps: []func(*stage){other, drop(atCopy)}},
}

func state(bits uint64) func(*stage) {
	return func(s *stage) { s.device("net_device", "state", bits) }
}

func features(bits uint64) func(*stage) {
	return func(s *stage) { s.device("net_device", "features", bits) }
}

func queues(n uint64) func(*stage) {
	return func(s *stage) { s.device("net_device", "real_num_tx_queues", n) }
}

func gso(s *stage) {
	s.a.set(atShared, 1448, "skb_shared_info", "gso_size")
	s.a.flush()
}

// The driver's private flags are at the offsets that the configuration gives.
func broken(s *stage)    { s.a.memory[atPriv+1] = 1; s.a.flush() }
func untrusted(s *stage) { s.a.memory[atPriv+2] = 1; s.a.flush() }

// other lays out a packet that is not in flight.
func other(s *stage) {
	s.a.packet(atCopy, s.a.page()+256, 66, nil)
	s.a.flush()
}

// play has a packet meet its fate on a new device.
func (p *programs) play(f *fate) {
	p.t.Helper()
	clear(p.arena.memory)
	p.arena.device()
	s := &stage{p: p, a: p.arena, frags: f.frags, offset: f.offset}
	if f.offset == 0 {
		s.offset = 256
	}
	s.begin()
	for _, step := range f.steps {
		step(s)
	}
	p.end(atSkb)
}

func TestFates(t *testing.T) {
	a := newArena(t)
	ways := waysOfReading(t, a)
	for _, way := range []struct {
		records        uint8
		broken, bounce int32
		inCode         uint32 // where the driver's code showed the flags
	}{{0, 1, 2, 0}, {1, 1, 2, 0}, {1, -1, -1, atPriv - atDev + 1}} {
		p := loadPrograms(t, a, XentraceConfiguration{
			PageSize: 4096, TypedReads: ways[len(ways)-1], DriverHooks: 1, Records: way.records,
			PrivOffset: atPriv - atDev, BrokenOffset: way.broken, BounceOffset: way.bounce,
		})
		if err := p.collection.Variables[XentraceVarNetfrontFlags].Set(way.inCode); err != nil {
			t.Fatal(err)
		}
		for _, f := range fates {
			t.Run(f.name, func(t *testing.T) {
				a.t, p.t = t, t
				p.play(&f)
				p.free(atSkb) // the transmit completion: nothing is in flight any more
				got := p.counted(fakeSlotID)
				got.Slots, got.Bytes = f.want.Slots, 0
				want := f.want
				if f.cause != 0 {
					want.Causes[f.cause] = 1
				}
				if got != want {
					t.Errorf("over limit, dropped, linearized, bounced, causes: %d %d %d %d %v, want %d %d %d %d %v",
						got.OverLimit, got.Dropped, got.Linearized, got.Bounced, got.Causes,
						want.OverLimit, want.Dropped, want.Linearized, want.Bounced, want.Causes)
				}
			})
		}
	}
}

// Before 5.10.173 and 6.1.18 a dropped packet is freed as consumed.
func TestDropsFreedAsConsumed(t *testing.T) {
	a := newArena(t)
	p := loadPrograms(t, a, XentraceConfiguration{
		PageSize: 4096, DriverHooks: 1, ConsumeIsDrop: 1, PrivOffset: -1, BrokenOffset: -1, BounceOffset: -1,
	})
	a.device()
	a.set(atDev, 0, "net_device", "features")
	s := &stage{p: p, a: a, frags: fitting, offset: 256}
	s.begin()
	p.consume(atSkb)
	p.end(atSkb)
	if c := p.counted(fakeSlotID); c.Dropped != 1 || c.Causes[XentraceCauseCAUSE_SG_OFF] != 1 || c.Bounced != 0 {
		t.Errorf("dropped %d, bounced %d, causes %v: want one drop for scatter-gather", c.Dropped, c.Bounced, c.Causes)
	}
	s = &stage{p: p, a: a, offset: 4090}
	s.begin()
	s.bounce()
	p.consume(atCopy)
	p.end(atSkb)
	if c := p.counted(fakeSlotID); c.Dropped != 1 || c.Bounced != 1 {
		t.Errorf("dropped %d, bounced %d: want a bounce, then the copy dropped", c.Dropped, c.Bounced)
	}
}

// netpoll in an interrupt sends on another queue while a packet is in flight, and the
// fate of both is right.
func TestTransmitsNest(t *testing.T) {
	a := newArena(t)
	p := loadPrograms(t, a, XentraceConfiguration{
		PageSize: 4096, DriverHooks: 1, PrivOffset: -1, BrokenOffset: -1, BounceOffset: -1,
	})
	a.device()
	s := &stage{p: p, a: a, frags: rocket, offset: 256}
	s.begin()
	a.packet(atCopy, a.page()+256, 66, nil)
	a.set(atCopy, 1, "sk_buff", "queue_mapping")
	a.flush()
	p.begin(atCopy) // netpoll on another queue, inside
	p.free(atCopy)
	p.end(atCopy)
	p.end(atSkb)
	if c := p.counted(fakeSlotID); c.Linearized != 1 || c.Dropped != 1 {
		t.Errorf("linearized %d, dropped %d: want the inner dropped and the outer linearized", c.Linearized, c.Dropped)
	}
}

// A packet that was in flight when its device vanished is not taken for one of the next
// device that gets its address.
func TestInFlightOfAVanishedDevice(t *testing.T) {
	const nextPlace = fakeSlotID + 1
	a := newArena(t)
	p := loadPrograms(t, a, XentraceConfiguration{
		PageSize: 4096, DriverHooks: 1, PrivOffset: -1, BrokenOffset: -1, BounceOffset: -1,
	})
	a.device()
	s := &stage{p: p, a: a, frags: rocket, offset: 256}
	s.begin() // its end is missed, and the device goes
	p.watchAs(nextPlace)
	s.begin()
	p.end(atSkb)
	s.frags = fitting
	s.begin()
	p.free(atSkb)
	p.end(atSkb)
	if c := p.counted(fakeSlotID); c.OverLimit != 1 || c.Linearized != 1 || c.Dropped != 0 {
		t.Errorf("the device that is gone: %d over the limit, %d linearized, %d dropped, want its one packet, not dropped", c.OverLimit, c.Linearized, c.Dropped)
	}
	if c := p.counted(nextPlace); c.OverLimit != 1 || c.Linearized != 1 || c.Dropped != 1 {
		t.Errorf("the next device: %d over the limit, %d linearized, %d dropped, want 1 of each", c.OverLimit, c.Linearized, c.Dropped)
	}
}
