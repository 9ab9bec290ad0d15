package bpf

import (
	"testing"

	"github.com/cilium/ebpf"
)

// withDriverXDP loads the program on the return of the driver's function: as a raw tracepoint program
// it finds its arguments at the same place.
func withDriverXDP(spec *ebpf.CollectionSpec) error {
	p := spec.Programs[XentraceProgFexitXdp]
	p.Type, p.AttachType, p.AttachTo = ebpf.RawTracepoint, ebpf.AttachNone, ""
	return nil
}

func (p *programs) countedXDP() (sum XentraceXdpCounters) {
	p.t.Helper()
	var perCPU []XentraceXdpCounters
	if err := p.collection.Maps[XentraceMapXdpCountersOf].Lookup(uint32(fakeSlotID), &perCPU); err != nil {
		p.t.Fatal(err)
	}
	for _, c := range perCPU {
		sum.Packets += c.Packets
		sum.Dropped += c.Dropped
	}
	return sum
}

// Frames of XDP are counted by what the driver returns, or what the tracepoint shows, and
// packets are not.
func TestXDPCounts(t *testing.T) {
	a := newArena(t)
	p := loadPrograms(t, a, XentraceConfiguration{PageSize: 4096, PrivOffset: -1, BrokenOffset: -1, BounceOffset: -1}, withDriverXDP)
	a.device()
	a.flush()
	device, foreign := a.address+atDev, a.address+atPriv
	minus := func(n int64) uint64 { return uint64(n) }
	for _, call := range []struct {
		name      string
		program   string
		arguments []uint64
		want      XentraceXdpCounters // in all
	}{
		{"all of 16 sent", XentraceProgFexitXdp, []uint64{device, 16, 0, 0, 16}, XentraceXdpCounters{Packets: 16}},
		{"5 of 16", XentraceProgFexitXdp, []uint64{device, 16, 0, 0, 5}, XentraceXdpCounters{Packets: 21, Dropped: 11}},
		{"-ENODEV", XentraceProgFexitXdp, []uint64{device, 3, 0, 0, minus(-19)}, XentraceXdpCounters{Packets: 21, Dropped: 14}},
		{"redirected", XentraceProgTracepointXdp, []uint64{0, device, 7, 2}, XentraceXdpCounters{Packets: 28, Dropped: 16}},
		{"redirected, an error", XentraceProgTracepointXdp, []uint64{0, device, 0, 9}, XentraceXdpCounters{Packets: 28, Dropped: 25}},
		{"to another interface", XentraceProgTracepointXdp, []uint64{device, foreign, 7, 2}, XentraceXdpCounters{Packets: 28, Dropped: 25}},
	} {
		p.run(call.program, call.arguments...)
		if got := p.countedXDP(); got != call.want {
			t.Errorf("%s: %+v, want %+v", call.name, got, call.want)
		}
	}
	if c := p.counted(fakeSlotID); c.Bytes != 0 || c.Slots != [256]uint64{} {
		t.Errorf("packets were counted: %+v", c.Slots[:20])
	}
	if err := p.collection.Variables[XentraceVarEnabled].Set(uint32(0)); err != nil {
		t.Fatal(err)
	}
	p.run(XentraceProgFexitXdp, device, 16, 0, 0, 16)
	if got := p.countedXDP(); got.Packets != 28 {
		t.Errorf("%+v: counted before every hook was attached", got)
	}
}
