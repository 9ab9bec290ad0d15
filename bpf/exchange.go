package bpf

import (
	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
)

// HasExchange reports whether programs may exchange a word of memory atomically
// (BPF_XCHG, since 5.12).
func HasExchange() bool {
	exchange := asm.Xchg.Mem(asm.RFP, asm.R0, asm.DWord, -8)
	exchange.Constant = int64(asm.Xchg >> 8) // cilium/ebpf 0.22 leaves it 0, which is an addition
	program, err := ebpf.NewProgramWithOptions(&ebpf.ProgramSpec{
		Type: ebpf.RawTracepoint, License: "GPL",
		Instructions: asm.Instructions{
			asm.Mov.Imm(asm.R0, 0),
			asm.StoreMem(asm.RFP, -8, asm.R0, asm.DWord),
			exchange,
			asm.Mov.Imm(asm.R0, 0),
			asm.Return(),
		},
	}, ebpf.ProgramOptions{LogDisabled: true})
	return err == nil && program.Close() == nil
}

// RemoveExchanges takes the atomic exchanges out of programs that never come to one, and
// returns how many each had: kernels without the exchange refuse even those.
func RemoveExchanges(programs map[string]*ebpf.ProgramSpec) map[string]int {
	removed := make(map[string]int)
	for name, p := range programs {
		for i := range p.Instructions {
			ins := &p.Instructions[i]
			if op := ins.OpCode; op.Class() == asm.StXClass && op.Mode() == asm.AtomicMode && op.AtomicOp() == asm.Xchg {
				nothing := asm.Mov.Reg(ins.Dst, ins.Dst)
				nothing.Metadata = ins.Metadata
				*ins = nothing
				removed[name]++
			}
		}
	}
	return removed
}
