package netns

import (
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"

	"xentrace/internal/demo/network"
	"xentrace/internal/kernel"
)

// countTraced counts the packets of an interface that the tracepoint net_dev_start_xmit shows,
// from now on. The test is in the interface's namespace.
func countTraced(t *testing.T, end network.End) (count func() uint64) {
	t.Helper()
	counter, err := ebpf.NewMap(&ebpf.MapSpec{Type: ebpf.Array, KeySize: 4, ValueSize: 8, MaxEntries: 1})
	must(t, err)
	types := kernel.NewTypes()
	read := func(structure, member string, size int32) asm.Instructions { // of what R6 points to, to the stack
		field, err := types.Field("", structure, member)
		must(t, err)
		return asm.Instructions{
			asm.Mov.Reg(asm.R1, asm.RFP), asm.Add.Imm(asm.R1, -8), asm.Mov.Imm(asm.R2, size),
			asm.Mov.Reg(asm.R3, asm.R6), asm.Add.Imm(asm.R3, int32(field.Offset)),
			asm.FnProbeReadKernel.Call(),
		}
	}
	equals := func(value uint32) asm.Instructions {
		return asm.Instructions{asm.LoadMem(asm.R1, asm.RFP, -8, asm.Word), asm.LoadImm(asm.R2, int64(value), asm.DWord), asm.JNE.Reg(asm.R1, asm.R2, "out")}
	}
	inum, err := types.Field("", "ns_common", "inum")
	must(t, err)
	code := asm.Instructions{asm.LoadMem(asm.R6, asm.R1, 8, asm.DWord)} // the device
	code = append(code, read("net_device", "ifindex", 4)...)
	code = append(code, equals(uint32(indexOf(t, end.Name)))...)
	code = append(code, read("net_device", "nd_net", 8)...)
	code = append(code, asm.LoadMem(asm.R6, asm.RFP, -8, asm.DWord), asm.Add.Imm(asm.R6, int32(inum.Offset)))
	code = append(code, read("net", "ns", 4)...)
	var namespace unix.Stat_t
	must(t, unix.Fstat(end.Namespace.Fd(), &namespace))
	code = append(code, equals(uint32(namespace.Ino))...)
	code = append(code,
		asm.StoreImm(asm.RFP, -8, 0, asm.Word),
		asm.Mov.Reg(asm.R2, asm.RFP), asm.Add.Imm(asm.R2, -8), asm.LoadMapPtr(asm.R1, counter.FD()),
		asm.FnMapLookupElem.Call(),
		asm.JEq.Imm(asm.R0, 0, "out"),
		asm.Mov.Imm(asm.R1, 1),
		asm.StoreXAdd(asm.R0, asm.R1, asm.DWord),
		asm.Mov.Imm(asm.R0, 0).WithSymbol("out"),
		asm.Return(),
	)
	program, err := ebpf.NewProgram(&ebpf.ProgramSpec{Type: ebpf.RawTracepoint, License: "GPL", Instructions: code})
	must(t, err)
	attached, err := link.AttachRawTracepoint(link.RawTracepointOptions{Name: "net_dev_start_xmit", Program: program})
	must(t, err)
	t.Cleanup(func() { _, _, _ = attached.Close(), program.Close(), counter.Close() })
	return func() (n uint64) {
		must(t, counter.Lookup(uint32(0), &n))
		return n
	}
}
