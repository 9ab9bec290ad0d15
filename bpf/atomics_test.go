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

// Where the kernel lacks the exchange, its verifier does not reach one: the programs load
// although each is replaced by an operation that no kernel has.
func TestExchangeIsNotVerifiedWhereItIsMissing(t *testing.T) {
	const noOperation asm.AtomicOp = 0xe000 // the exchange's code without its fetch flag
	exchanges := make(map[string]int)
	replace := func(spec *ebpf.CollectionSpec, _ *arena) {
		without := CongestionTxQueueConfiguration{QueuesEach: 2}
		if err := spec.Variables[CongestionVarTxQueueConfig].Set(without); err != nil {
			t.Fatal(err)
		}
		for name, p := range spec.Programs {
			for i, instruction := range p.Instructions {
				if isAtomic(instruction) && instruction.OpCode.AtomicOp() == asm.Xchg {
					p.Instructions[i].OpCode = noOperation.OpCode(asm.DWord)
					exchanges[name]++
				}
			}
		}
	}
	newFront(t, 0, replace)
	// Both sides of each race: of the response to a packet, of the wake after a stop.
	want := map[string]int{CongestionProgCongestionCompletion: 1, CongestionProgCongestionWake: 1, CongestionProgCongestionEnd: 3}
	if !maps.Equal(exchanges, want) {
		t.Errorf("exchanges %v, want %v", exchanges, want)
	}
}
