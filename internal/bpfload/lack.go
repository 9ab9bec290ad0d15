package bpfload

import (
	"fmt"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"

	"xentrace/internal/kernel"
)

// poison is no helper of any kernel. The verifier accepts a call of it that is never reached.
const poison asm.BuiltinFunc = 0x78656e

// onlyRun is the tracepoint in the section of programs that are run and never attached.
const onlyRun = "sys_enter"

// needs returns what a program cannot be loaded without; empty if there is nothing.
func needs(p *ebpf.ProgramSpec) kernel.Feature {
	switch p.AttachType {
	case ebpf.AttachTraceRawTp:
		return kernel.TypedTracepoints
	case ebpf.AttachTraceFEntry, ebpf.AttachTraceFExit:
		return kernel.Trampolines
	case ebpf.AttachTraceIter:
		return kernel.Iterators
	}
	if p.Type == ebpf.Kprobe {
		return kernel.Kprobes
	}
	return ""
}

// needsOf returns what an instruction needs of the kernel, even one that is never reached.
func needsOf(ins *asm.Instruction) kernel.Feature {
	switch op := ins.OpCode; {
	case op.Class() == asm.StXClass && op.Mode() == asm.AtomicMode && op.AtomicOp() == asm.Xchg:
		return kernel.AtomicExchange
	case op == asm.LoadImmOp(asm.DWord) && ins.Src == pseudoBTFID:
		return kernel.VariableAddress
	}
	return ""
}

// withoutFeatures makes of a program what can be loaded into a kernel that lacks features: calls of
// what it lacks become calls that the verifier refuses unless they are never reached. It refuses
// the program as that kernel does.
func withoutFeatures(types *kernel.Types, name string, p *ebpf.ProgramSpec) error {
	if feature := needs(p); types.Lacks(feature) {
		return lacking(name, feature)
	}
	if types.Lacks(kernel.ProgramRuns) && p.AttachTo == onlyRun {
		p.Type, p.AttachTo = ebpf.Kprobe, "" // no kernel runs those
	}
	for i := range p.Instructions {
		ins := &p.Instructions[i]
		if feature := needsOf(ins); types.Lacks(feature) {
			return lacking(name, feature)
		}
		if types.Lacks(kernel.TypedReads) && ins.IsKfuncCall() || types.Lacks(kernel.Loops) && ins.IsBuiltinCall() && ins.Constant == int64(asm.FnLoop) {
			*ins = poison.Call()
		}
	}
	return nil
}

func lacking(program string, feature kernel.Feature) error {
	return fmt.Errorf("program %s: this kernel has no %s: %w", program, feature, ebpf.ErrNotSupported)
}
