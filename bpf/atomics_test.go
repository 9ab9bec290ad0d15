package bpf

import (
	"maps"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
)

// Before 5.12 the kernel has no atomic operation but an addition whose result is not used.
func TestAtomicsAreAdditions(t *testing.T) {
	atomics := 0
	for name, load := range objects() {
		spec, err := load()
		if err != nil {
			t.Fatal(err)
		}
		for program, p := range spec.Programs {
			for _, instruction := range p.Instructions {
				switch {
				case !isAtomic(instruction):
				case instruction.OpCode.AtomicOp() == asm.AddAtomic:
					atomics++
				case name != "congestion" || instruction.OpCode.AtomicOp() != asm.Xchg:
					t.Errorf("%s, program %s: %v", name, program, instruction)
				}
			}
		}
	}
	if atomics == 0 {
		t.Error("no atomic operation found")
	}
}

func objects() map[string]func() (*ebpf.CollectionSpec, error) {
	return map[string]func() (*ebpf.CollectionSpec, error){"xentrace": LoadXentrace, "congestion": LoadCongestion}
}

func isAtomic(instruction asm.Instruction) bool {
	return instruction.OpCode.Class() == asm.StXClass && instruction.OpCode.Mode() == asm.AtomicMode
}

// Kernels without the exchange load the programs without theirs.
func TestExchangesAreRemoved(t *testing.T) {
	f := newFront(t, 0, func(spec *ebpf.CollectionSpec, _ *arena) {
		without := CongestionTxQueueConfiguration{QueuesEach: 2}
		if err := spec.Variables[CongestionVarTxQueueConfig].Set(without); err != nil {
			t.Fatal(err)
		}
		removed := RemoveExchanges(spec.Programs)
		// Both sides of each race, of the response to a packet and of the wake after a stop,
		// and what a new connection forgets.
		want := map[string]int{CongestionProgCongestionCompletion: 2, CongestionProgCongestionWake: 1, CongestionProgCongestionEnd: 4}
		if !maps.Equal(removed, want) && (HasExchange() || len(removed) > 0) {
			t.Errorf("exchanges %v, want %v", removed, want)
		}
	})
	f.indices(230, 0)
	f.begin()
	f.stop(true)
	f.end(0)
	f.stop(false)
	f.run(CongestionProgCongestionWake, f.at(atTxQueue))
	if c := f.counted(); c.Packets != 1 || c.Stops != 1 || c.Wakes != 1 {
		t.Errorf("%d packets, %d stops, %d wakes, want one of each", c.Packets, c.Stops, c.Wakes)
	}
}
