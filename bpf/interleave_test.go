package bpf

import (
	"fmt"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/btf"
)

// interleave makes another CPU's work happen at one point of a program: the first call
// of a helper that matches goes through a function that does the work after the call.
// The work may use R1 to R5 and must not jump out.
func interleave(t *testing.T, program *ebpf.ProgramSpec, helper asm.BuiltinFunc, match func(asm.Instructions, int) bool, work asm.Instructions) {
	t.Helper()
	for i, ins := range program.Instructions {
		if !ins.IsBuiltinCall() || asm.BuiltinFunc(ins.Constant) != helper || !match(program.Instructions, i) {
			continue
		}
		call := asm.Call.Label("interleaved")
		call.Metadata = ins.Metadata
		program.Instructions[i] = call.WithReference("interleaved")
		function := append(asm.Instructions{
			btf.WithFuncMetadata(helper.Call(), &btf.Func{
				Name: "interleaved", Type: &btf.FuncProto{Return: &btf.Int{Name: "int", Size: 4, Encoding: btf.Signed}},
			}).WithSymbol("interleaved").WithSource(sourceOf(program.Instructions[:i+1])),
			asm.Mov.Reg(asm.R6, asm.R0),
		}, work...)
		function = append(function, asm.Mov.Reg(asm.R0, asm.R6), asm.Return())
		program.Instructions = append(program.Instructions, function...)
		return
	}
	t.Fatalf("%s calls no such helper", program.Name)
}

// sourceOf returns the source line of the last instruction that has one: the verifier
// wants one for every function.
func sourceOf(all asm.Instructions) fmt.Stringer {
	for i := len(all) - 1; i >= 0; i-- {
		if source := all[i].Source(); source != nil {
			return source
		}
	}
	return nil
}

// anyCall matches the first call of the helper.
func anyCall(asm.Instructions, int) bool { return true }

// store writes to the arena.
func (a *arena) store(at int, value int32, size asm.Size) asm.Instructions {
	return asm.Instructions{
		asm.LoadMapValue(asm.R1, a.fake.FD(), uint32(at)),
		asm.Mov.Imm(asm.R2, value),
		asm.StoreMem(asm.R1, 0, asm.R2, size),
	}
}

// storeIn writes to the beginning of an entry of an array.
func storeIn(array string, key int32, value int32) asm.Instructions {
	return asm.Instructions{
		asm.StoreImm(asm.RFP, -4, int64(key), asm.Word),
		asm.Mov.Reg(asm.R2, asm.RFP),
		asm.Add.Imm(asm.R2, -4),
		asm.LoadMapPtr(asm.R1, 0).WithReference(array),
		asm.FnMapLookupElem.Call(),
		asm.JEq.Imm(asm.R0, 0, "stored"),
		asm.Mov.Imm(asm.R1, value),
		asm.StoreMem(asm.R0, 0, asm.R1, asm.DWord),
		asm.Mov.Imm(asm.R1, 0).WithSymbol("stored"),
	}
}
