package trace

import (
	"fmt"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/btf"

	"xentrace/bpf"
	"xentrace/internal/event"
	"xentrace/internal/kernel"
)

const (
	preemptVariable = 0x7072656d // PREEMPT_VARIABLE in bpf/sender.h
	pseudoBTFID     = 3          // BPF_PSEUDO_BTF_ID: the constant is a type's number
)

// configureSender tells the kernel side where preempt_count is. Where that is not
// known it names only those senders that hold their socket alone.
func configureSender(spec *ebpf.CollectionSpec, types *kernel.Types) error {
	count, err := types.PreemptCount()
	if err != nil || !isReadable(count.Variable) {
		return nil
	}
	for _, program := range spec.Programs {
		for i := range program.Instructions {
			ins := &program.Instructions[i]
			if ins.OpCode == asm.LoadImmOp(asm.DWord) && ins.Constant == preemptVariable {
				ins.Src, ins.Constant = pseudoBTFID, int64(count.Variable)
			}
		}
	}
	known := bpf.XentraceSenderConfiguration{PreemptKnown: 1, PreemptOffset: count.Offset}
	if err := spec.Variables[bpf.XentraceVarSenderConfig].Set(known); err != nil {
		return fmt.Errorf("place of preempt_count for the kernel side: %w", err)
	}
	return nil
}

// isReadable reports whether programs may refer to a variable of the kernel, which takes
// its address among the kernel's symbols (CONFIG_KALLSYMS_ALL).
func isReadable(variable btf.TypeID) bool {
	load := asm.LoadImm(asm.R1, int64(variable), asm.DWord)
	load.Src = pseudoBTFID
	program, err := ebpf.NewProgramWithOptions(&ebpf.ProgramSpec{
		Type: ebpf.RawTracepoint, License: "GPL",
		Instructions: asm.Instructions{load, asm.Mov.Imm(asm.R0, 0), asm.Return()},
	}, ebpf.ProgramOptions{LogDisabled: true})
	if err != nil {
		return false
	}
	return program.Close() == nil
}

func decodeSender(s *bpf.XentraceSender) *event.Task {
	if s.Tgid == 0 {
		return nil
	}
	return &event.Task{PID: int(s.Tgid), Comm: cString(s.Comm[:]), Started: time.Duration(s.Started), Cgroup: s.Cgroup}
}
