package bpf

import (
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/btf"
)

// stackLimit is MAX_BPF_STACK of the kernel. Since 6.13 some programs have more, so that a
// test that loads them may not find it exceeded.
const stackLimit = 512

// The functions of a program that call each other fit the stack of every kernel:
// "combined stack size of 6 calls is 544. Too large".
func TestStackOfCalls(t *testing.T) {
	for object, open := range objects() {
		spec, err := open()
		if err != nil {
			t.Fatal(err)
		}
		for name, program := range spec.Programs {
			frames, calls := framesOf(program)
			if frames[name] == 0 {
				t.Errorf("%s of %s has no function of its name", name, object)
			}
			if deepest := depth(name, frames, calls); deepest > stackLimit {
				t.Errorf("%s of %s: %d bytes of stack", name, object, deepest)
			}
		}
	}
}

// framesOf returns the stack that each function of a program uses, and what it calls.
func framesOf(program *ebpf.ProgramSpec) (frames map[string]int, calls map[string][]string) {
	frames, calls = make(map[string]int), make(map[string][]string)
	function := ""
	var pointers [11]bool // registers that hold the frame pointer
	for i := range program.Instructions {
		ins := &program.Instructions[i]
		if f := btf.FuncMetadata(ins); f != nil {
			function = f.Name
			frames[function] = 1
			pointers = [11]bool{asm.RFP: true}
		}
		if ins.IsFunctionCall() {
			calls[function] = append(calls[function], ins.Reference())
			continue
		}
		frames[function] = max(frames[function], stackUsed(ins, &pointers))
	}
	return frames, calls
}

// stackUsed returns how far below the frame pointer an instruction reaches.
func stackUsed(ins *asm.Instruction, pointers *[11]bool) int {
	switch class := ins.OpCode.Class(); {
	case class.IsLoad() && ins.Src == asm.RFP, class.IsStore() && ins.Dst == asm.RFP:
		return -int(ins.Offset)
	case class.IsALU():
		used := 0
		if ins.OpCode.ALUOp() == asm.Add && ins.OpCode.Source() == asm.ImmSource && pointers[ins.Dst] {
			used = -int(ins.Constant)
		}
		pointers[ins.Dst] = ins.OpCode.ALUOp() == asm.Mov && ins.OpCode.Source() == asm.RegSource && ins.Src == asm.RFP
		return used
	}
	return 0
}

// depth is the stack of a function and of those below it, each rounded up as up to 6.8.
func depth(function string, frames map[string]int, calls map[string][]string) int {
	deepest := 0
	for _, called := range calls[function] {
		deepest = max(deepest, depth(called, frames, calls))
	}
	return (frames[function]+31)/32*32 + deepest
}
