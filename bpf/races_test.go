package bpf

import (
	"testing"
	"time"
	"unsafe"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/btf"
)

// Another CPU ends the stop between this one's look at it and its use.
func TestWakeThatRacesWithAnother(t *testing.T) {
	f := newFront(t, 0, func(spec *ebpf.CollectionSpec, _ *arena) {
		interleave(t, spec.Programs[CongestionProgCongestionWake], asm.FnKtimeGetNs, anyCall, storeIn(CongestionMapTransmitStateOf, 2*frontSlotID, 0))
	})
	f.indices(230, 0)
	f.begin()
	f.stop(true)
	f.end(0)
	f.stop(false)
	f.run(CongestionProgCongestionWake, f.at(atTxQueue))
	if c := f.counted(); c.Wakes != 1 || c.FullNs == 0 || c.FullNs > uint64(time.Second) {
		t.Errorf("%d wakes, full for %s: want 1, and the time since the stop", c.Wakes, time.Duration(c.FullNs))
	}
}

// A wake whose hook comes only after the next stop leaves that stop alone.
func TestWakeAfterTheNextStop(t *testing.T) {
	f := newFront(t, 0)
	f.indices(230, 0)
	f.begin()
	f.stop(true)
	f.end(0)
	f.run(CongestionProgCongestionWake, f.at(atTxQueue))
	if c := f.counted(); c.Wakes != 0 || f.state().StoppedNs == 0 {
		t.Errorf("%d wakes, stopped at %d: want the stop to be noted still", c.Wakes, f.state().StoppedNs)
	}
}

// A wake between the look at the queue and the note of its stop does not leave a stop
// behind that userspace would add up for as long as nothing is sent.
func TestWakeBeforeTheStopIsNoted(t *testing.T) {
	for _, typed := range waysOfReading(t, newArena(t)) {
		f := newFront(t, typed, func(spec *ebpf.CollectionSpec, a *arena) {
			state, _ := a.offset("netdev_queue", "state")
			interleave(t, spec.Programs[CongestionProgCongestionEnd], asm.FnKtimeGetNs, anyCall, a.store(atTxQueue+state, 0, asm.DWord))
		})
		f.indices(230, 0)
		f.begin()
		f.stop(true)
		f.end(0)
		if c := f.counted(); c.Stops != 1 || c.Wakes != 1 || c.FullNs != 0 || f.state().StoppedNs != 0 {
			t.Errorf("typed %d: %d stops, %d wakes, full for %d ns, stopped at %d: want one of each that took no time", typed, c.Stops, c.Wakes, c.FullNs, f.state().StoppedNs)
		}
	}
}

// Counters that transmits and the response hooks, which interrupt them, both update.
func TestCountersOfTwoContextsAreAtomic(t *testing.T) {
	var queue CongestionQueueCounters
	var interfaceCounters XentraceCounters
	congestion, err := LoadCongestion()
	if err != nil {
		t.Fatal(err)
	}
	xentrace, err := LoadXentrace()
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		program  *ebpf.ProgramSpec
		function string // "" for all of them
		name     string
		offset   uintptr
	}{
		{congestion.Programs[CongestionProgCongestionEnd], "sent_record", "completions", unsafe.Offsetof(queue.Completions)},
		{congestion.Programs[CongestionProgCongestionEnd], "sent_record", "completion_ns", unsafe.Offsetof(queue.CompletionNs)},
		{congestion.Programs[CongestionProgCongestionCompletion], "timed_end", "completions", unsafe.Offsetof(queue.Completions)},
		{congestion.Programs[CongestionProgCongestionEnd], "congestion_end", "wakes", unsafe.Offsetof(queue.Wakes)},
		{congestion.Programs[CongestionProgCongestionWake], "congestion_wake", "full_ns", unsafe.Offsetof(queue.FullNs)},
		{congestion.Programs[CongestionProgCongestionNotify], "congestion_notify", "notifications", unsafe.Offsetof(queue.Notifications)},
		{xentrace.Programs[XentraceProgFentryFree], "emit", "ring_lost", unsafe.Offsetof(interfaceCounters.RingLost)},
	} {
		atomic, plain := stores(functionOf(t, test.program, test.function), int16(test.offset))
		if atomic == 0 || plain != 0 {
			t.Errorf("%s of %s: %d atomic updates of %s, %d plain stores, want some and none", test.function, test.program.Name, atomic, test.name, plain)
		}
	}
}

// functionOf returns the instructions of one function of a program.
func functionOf(t *testing.T, program *ebpf.ProgramSpec, name string) asm.Instructions {
	t.Helper()
	var function asm.Instructions
	for _, ins := range program.Instructions {
		if f := btf.FuncMetadata(&ins); f != nil && f.Name != name {
			if function != nil {
				break
			}
		} else if f != nil || function != nil {
			function = append(function, ins)
		}
	}
	if function == nil {
		t.Fatalf("%s has no function %s", program.Name, name)
	}
	return function
}

// stores counts the 64-bit ones at an offset from any register but the stack's.
func stores(function asm.Instructions, offset int16) (atomic, plain int) {
	for _, ins := range function {
		if !ins.OpCode.Class().IsStore() || ins.OpCode.Size() != asm.DWord || ins.Offset != offset || ins.Dst == asm.RFP {
			continue
		}
		if ins.OpCode.Mode() == asm.AtomicMode {
			atomic++
		} else {
			plain++
		}
	}
	return atomic, plain
}
