package bpf

import (
	"encoding/binary"
	"testing"

	"github.com/cilium/ebpf"
)

// programs are those of the tracepoint backend, run by hand on fake packets.
// They share all code below the fetching of arguments with the other backends.
type programs struct {
	t          testing.TB
	collection *ebpf.Collection
	arena      *arena
}

// loadPrograms loads them as cfg says, and with what else there is to configure.
func loadPrograms(t *testing.T, a *arena, cfg XentraceConfiguration, others ...func(*ebpf.CollectionSpec) error) *programs {
	t.Helper()
	spec, err := LoadXentrace()
	if err != nil {
		t.Fatal(err)
	}
	if err := spec.Variables[XentraceVarConfig].Set(cfg); err != nil {
		t.Fatal(err)
	}
	for _, configure := range others {
		if err := configure(spec); err != nil {
			t.Fatal(err)
		}
	}
	for name, program := range spec.Programs {
		if program.Type != ebpf.RawTracepoint {
			delete(spec.Programs, name)
		}
	}
	return loadSpec(t, a, spec)
}

// newCollection loads the programs and maps of a spec until the test ends.
func newCollection(t testing.TB, spec *ebpf.CollectionSpec) *ebpf.Collection {
	t.Helper()
	collection, err := ebpf.NewCollection(spec)
	if err != nil {
		t.Fatalf("%+v", err) // of the verifier, all it printed
	}
	t.Cleanup(collection.Close)
	return collection
}

// loadSpec loads what is left in the spec and lets the counting begin.
func loadSpec(t testing.TB, a *arena, spec *ebpf.CollectionSpec) *programs {
	t.Helper()
	collection := newCollection(t, spec)
	if err := collection.Variables[XentraceVarEnabled].Set(uint32(1)); err != nil {
		t.Fatal(err)
	}
	p := &programs{t: t, collection: collection, arena: a}
	p.watch()
	return p
}

// watch registers the fake interface as one of xen-netfront's.
func (p *programs) watch() { p.watchAs(fakeSlotID) }

// watchAs has it counted at that index.
func (p *programs) watchAs(slot uint32) {
	p.t.Helper()
	var index, netns uint32 = fakeIndex, fakeNetNS
	place := (index ^ netns<<8) * 0x9e3779b1 >> 24
	entry := XentraceInterface{Ifindex: index, Netns: netns, Index: slot, Netfront: 1}
	if err := p.collection.Maps[XentraceMapInterfaces].Put(place, entry); err != nil {
		p.t.Fatal(err)
	}
}

func (p *programs) run(name string, arguments ...uint64) {
	p.t.Helper()
	// All on one CPU, as the kernel does it: what is in flight belongs to its CPU.
	options := &ebpf.RunOptions{Context: arguments, CPU: 0, Flags: 1 /* BPF_F_TEST_RUN_ON_CPU */}
	if _, err := p.collection.Programs[name].Run(options); err != nil {
		p.t.Fatal(err)
	}
}

// begin is the entry of the driver's transmit function, under the lock of the queue.
func (p *programs) begin(skb int) {
	p.lock(skb, 0)
	p.run(XentraceProgTracepointBegin, p.arena.address+uint64(skb), p.arena.address+atDev)
}

// end is its return, and userspace's settling of the packet.
func (p *programs) end(skb int) {
	p.lock(skb, -1)
	p.settle()
}

func (p *programs) settle() { p.run(XentraceProgSettlePackets) }

// lock locks the queue of a packet for a CPU, or unlocks it.
func (p *programs) lock(skb, cpu int) {
	offset, _ := p.arena.offset("sk_buff", "queue_mapping")
	p.arena.lock(int(binary.NativeEndian.Uint16(p.arena.memory[skb+offset:])), cpu)
	p.arena.flush()
}

func (p *programs) free(skb int) {
	p.run(XentraceProgTracepointFree, p.arena.address+uint64(skb))
}

// withAnyContextFree loads its program too: as a raw tracepoint program it finds its
// arguments at the same place.
func withAnyContextFree(spec *ebpf.CollectionSpec) error {
	free := spec.Programs[XentraceProgFentryFree]
	free.Type, free.AttachType, free.AttachTo = ebpf.RawTracepoint, ebpf.AttachNone, ""
	return nil
}

// freeAnyContext is the any-context free with a reason that is not config.consumed.
func (p *programs) freeAnyContext(skb int) {
	p.run(XentraceProgFentryFree, p.arena.address+uint64(skb), 99)
}

func (p *programs) consume(skb int) {
	p.run(XentraceProgTracepointConsume, p.arena.address+uint64(skb))
}

// counted returns what was counted at that index by all CPUs, and clears it.
func (p *programs) counted(place uint32) XentraceCounters {
	p.t.Helper()
	var perCPU []XentraceCounters
	counters := p.collection.Maps[XentraceMapCountersOf]
	if err := counters.Lookup(place, &perCPU); err != nil {
		p.t.Fatal(err)
	}
	var sum XentraceCounters
	for _, c := range perCPU {
		sum.Bytes += c.Bytes
		sum.OverLimit += c.OverLimit
		sum.Dropped += c.Dropped
		sum.Linearized += c.Linearized
		sum.Bounced += c.Bounced
		sum.Rejected += c.Rejected
		sum.RingLost += c.RingLost
		for i := range c.Causes {
			sum.Causes[i] += c.Causes[i]
		}
		for i := range c.Suppressed {
			sum.Suppressed[i] += c.Suppressed[i]
		}
		for i := range c.Slots {
			sum.Slots[i] += c.Slots[i]
		}
	}
	if err := counters.Put(place, make([]XentraceCounters, len(perCPU))); err != nil {
		p.t.Fatal(err)
	}
	return sum
}
