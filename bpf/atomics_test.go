package bpf

import (
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
)

// Before 5.12 the kernel has no atomic operation but an addition whose result is not used.
func TestAtomicsAreAdditions(t *testing.T) {
	for name, load := range map[string]func() (*ebpf.CollectionSpec, error){"xentrace": LoadXentrace, "congestion": LoadCongestion} {
		spec, err := load()
		if err != nil {
			t.Fatal(err)
		}
		atomics := 0
		for program, p := range spec.Programs {
			for _, instruction := range p.Instructions {
				if op := instruction.OpCode; op.Class() != asm.StXClass || op.Mode() != asm.AtomicMode {
					continue
				}
				atomics++
				if op := instruction.OpCode.AtomicOp(); op != asm.AddAtomic {
					t.Errorf("%s, program %s: %v", name, program, instruction)
				}
			}
		}
		if atomics == 0 {
			t.Errorf("%s: no atomic operation found", name)
		}
	}
}
