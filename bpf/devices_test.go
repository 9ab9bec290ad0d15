package bpf

import (
	"fmt"
	"strings"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/btf"
)

// withKprobes loads the programs at the driver's functions too, as raw tracepoint programs:
// their arguments are in an array instead of in registers.
func withKprobes(spec *ebpf.CollectionSpec) error {
	for _, name := range []string{XentraceProgKprobeOpen, XentraceProgKprobeBegin} {
		p := spec.Programs[name]
		p.Type, p.AttachTo = ebpf.RawTracepoint, ""
		argument := map[string]int16{"di": 0, "si": 8, "regs[0]": 0, "regs[1]": 8}
		for i, ins := range p.Instructions {
			relocation := btf.CORERelocationMetadata(&ins)
			if relocation == nil || !strings.Contains(relocation.String(), "pt_regs") {
				continue
			}
			offset, known := argument[memberOf(ins.Offset)]
			if !known {
				return fmt.Errorf("%s reads %v", name, relocation)
			}
			load := asm.LoadMem(ins.Dst, ins.Src, offset, asm.DWord).WithSymbol(ins.Symbol()).WithSource(ins.Source())
			p.Instructions[i] = btf.WithFuncMetadata(load, btf.FuncMetadata(&ins))
		}
	}
	return nil
}

// memberOf names the register at an offset of the reduced struct pt_regs of kernel.h; of
// user_pt_regs on arm64, where the first argument is at 0.
func memberOf(offset int16) string {
	return map[int16]string{16: "di", 8: "si", 0: "regs[0]"}[offset]
}

// beginAt is the entry of the transmit function, with a device.
func (p *programs) beginAt(skb, dev int) {
	p.t.Helper()
	p.lock(skb, 0)
	p.run(XentraceProgKprobeBegin, p.arena.address+uint64(skb), p.arena.address+uint64(dev))
}

func (p *programs) setGeneration(generation uint64) {
	p.t.Helper()
	if err := p.collection.Variables[XentraceVarGeneration].Set(generation); err != nil {
		p.t.Fatal(err)
	}
}

func (p *programs) generation() (generation uint64) {
	p.t.Helper()
	if err := p.collection.Variables[XentraceVarGeneration].Get(&generation); err != nil {
		p.t.Fatal(err)
	}
	return generation
}

// packetSpan is how the running kernel's sk_buff is copied, see configuration.skb_span.
func (a *arena) packetSpan() uint16 {
	a.t.Helper()
	first, _ := a.offset("sk_buff", "len")
	last, size := a.offset("sk_buff", "data")
	return uint16(last + size - first)
}

// The program at the driver's entry counts every vector, with each way of reading a packet,
// and with a cache that is filled and one that is not.
func TestSlotsAtTheDriver(t *testing.T) {
	a := newArena(t)
	a.device()
	for _, typed := range waysOfReading(t, a) {
		for _, span := range []uint16{0, a.packetSpan()} {
			p := loadPrograms(t, a, XentraceConfiguration{
				PageSize: 4096, TypedReads: typed, DriverHooks: 1, SkbSpan: span,
				PrivOffset: -1, BrokenOffset: -1, BounceOffset: -1,
			}, withKprobes)
			p.setGeneration(1 << 32)
			for _, v := range slotVectors(t) {
				if v.PageSize != 4096 {
					continue
				}
				a.packet(atSkb, v.dataAt(a), v.HeadLen, v.Frags)
				a.flush()
				p.beginAt(atSkb, atDev)
				p.beginAt(atSkb, atDev)
				p.end(atSkb)
				slots := v.Slots
				if v.Len == v.HeadLen {
					slots = (v.HeadOffset%4096 + v.HeadLen + 4095) / 4096
				}
				if c := p.counted(fakeSlotID); c.Slots[slots] != 2 || c.Bytes != 2*uint64(v.Len) || (c.OverLimit == 2) != v.Rocket {
					t.Errorf("%s, typed %d, span %d: slots %v, bytes %d, over limit %d: want 2 packets of %d slots and %d bytes",
						v.Name, typed, span, nonZero(c.Slots[:]), c.Bytes, c.OverLimit, slots, v.Len)
				}
			}
		}
	}
}

// Every number of fragments, each of 2 slots but the first: eights, fours, twos and ones.
func TestEveryNumberOfFragments(t *testing.T) {
	a := newArena(t)
	a.device()
	for _, typed := range waysOfReading(t, a) {
		p := loadPrograms(t, a, XentraceConfiguration{
			PageSize: 4096, TypedReads: typed, DriverHooks: 1, SkbSpan: a.packetSpan(),
			PrivOffset: -1, BrokenOffset: -1, BounceOffset: -1,
		}, withKprobes)
		var frags []fakeFrag
		for n := uint32(1); n <= 45; n++ {
			frags = append(frags, fakeFrag{4095, 1 + min(n-1, 1)})
			a.packet(atSkb, a.page(), 64, frags)
			a.flush()
			p.beginAt(atSkb, atDev)
			p.end(atSkb)
			want := 1 + 2*n - 1
			if c := p.counted(fakeSlotID); c.Slots[want] != 1 {
				t.Errorf("typed %d, %d fragments: slots %v, want 1 packet of %d", typed, n, nonZero(c.Slots[:]), want)
			}
		}
	}
}

// A device is looked up again once one was opened or the interfaces changed, and not before.
func TestCachedDevice(t *testing.T) {
	const other = fakeSlotID + 1
	a := newArena(t)
	a.device()
	for _, typed := range waysOfReading(t, a) {
		p := loadPrograms(t, a, XentraceConfiguration{
			PageSize: 4096, TypedReads: typed, DriverHooks: 1, SkbSpan: a.packetSpan(),
			PrivOffset: -1, BrokenOffset: -1, BounceOffset: -1,
		}, withKprobes)
		a.packet(atSkb, a.page(), 64, nil)
		a.flush()
		for _, step := range []struct {
			name    string
			change  func()
			counted uint32 // index
		}{
			{"the first packet", func() { p.setGeneration(1 << 32) }, fakeSlotID},
			{"another interface in its entry", func() { p.watchAs(other) }, fakeSlotID},
			{"a device was opened", func() { p.run(XentraceProgKprobeOpen) }, other},
			{"the entry as it was", func() { p.watchAs(fakeSlotID) }, other},
			{"the interfaces have changed", func() { p.setGeneration(2 << 32) }, fakeSlotID},
			{"no hook sees devices being opened", func() { p.setGeneration(0); p.watchAs(other) }, other},
			{"one is opened then", func() { p.run(XentraceProgKprobeOpen); p.watchAs(fakeSlotID) }, fakeSlotID},
		} {
			step.change()
			p.beginAt(atSkb, atDev)
			if c := p.counted(step.counted); c.Slots[1] != 1 {
				t.Errorf("typed %d, %s: slots %v at index %d, want 1 packet", typed, step.name, nonZero(c.Slots[:]), step.counted)
			}
		}
		if got := p.generation(); got != 0 {
			t.Errorf("typed %d: generation %d, want 0: there is no hook", typed, got)
		}
	}
}

// Nothing is counted before userspace enables it, nor of a device that is not registered,
// whatever the cache has.
func TestDeviceThatIsNotCounted(t *testing.T) {
	const stranger = 0x10000 // another device in the arena
	a := newArena(t)
	a.device()
	p := loadPrograms(t, a, XentraceConfiguration{
		PageSize: 4096, DriverHooks: 1, PrivOffset: -1, BrokenOffset: -1, BounceOffset: -1,
	}, withKprobes)
	a.packet(atSkb, a.page(), 64, nil)
	copy(a.memory[stranger:], a.memory[atDev:atNet])
	a.set(stranger, fakeIndex+1, "net_device", "ifindex")
	a.flush()
	p.setGeneration(1 << 32)
	p.beginAt(atSkb, atDev)
	p.beginAt(atSkb, stranger)
	p.beginAt(atSkb, atDev)
	if err := p.collection.Variables[XentraceVarEnabled].Set(uint32(0)); err != nil {
		t.Fatal(err)
	}
	p.setGeneration(2 << 32)
	p.beginAt(atSkb, atDev)
	if c := p.counted(fakeSlotID); c.Slots[1] != 2 || c.Bytes != 128 {
		t.Errorf("slots %v, %d bytes: want the 2 packets of the interface while it was enabled", nonZero(c.Slots[:]), c.Bytes)
	}
	if c := p.counted(0); c.Slots[1] != 0 {
		t.Errorf("%d packets of no interface, want 0", c.Slots[1])
	}
}
