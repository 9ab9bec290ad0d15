package kernel

import (
	"context"
	"encoding/binary"
	"fmt"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"golang.org/x/sys/unix"

	"xentrace/test/need"
)

// A liveReader reads the running kernel's code with a BPF program, which
// BPF_PROG_TEST_RUN calls with the address.
type liveReader struct {
	program *ebpf.Program
	code    *ebpf.Map
}

func newLiveReader(t *testing.T) *liveReader {
	t.Helper()
	need.Root(t, "to read the kernel's code")
	code, err := ebpf.NewMap(&ebpf.MapSpec{Type: ebpf.Array, KeySize: 4, ValueSize: chunkBytes, MaxEntries: 1})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { code.Close() })
	program, err := ebpf.NewProgram(&ebpf.ProgramSpec{
		Type: ebpf.RawTracepoint, License: "Dual BSD/GPL", // bpf_probe_read_kernel is for the GPL only
		Instructions: asm.Instructions{
			asm.LoadMem(asm.R6, asm.R1, 0, asm.DWord), // the first argument: the address
			asm.StoreImm(asm.RFP, -4, 0, asm.Word),
			asm.LoadMapPtr(asm.R1, code.FD()),
			asm.Mov.Reg(asm.R2, asm.RFP),
			asm.Add.Imm(asm.R2, -4),
			asm.FnMapLookupElem.Call(),
			asm.JEq.Imm(asm.R0, 0, "out"),
			asm.Mov.Reg(asm.R1, asm.R0),
			asm.Mov.Imm(asm.R2, chunkBytes),
			asm.Mov.Reg(asm.R3, asm.R6),
			asm.FnProbeReadKernel.Call(),
			asm.Return().WithSymbol("out"),
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { program.Close() })
	return &liveReader{program, code}
}

func (r *liveReader) ReadCode(_ context.Context, address uint64, buf []byte) error {
	argument := binary.NativeEndian.AppendUint64(nil, address)
	status, err := r.program.Run(&ebpf.RunOptions{Context: argument})
	if err != nil {
		return err
	}
	if status != 0 {
		return fmt.Errorf("address %#x: %w", address, unix.Errno(-int32(status)))
	}
	var code [chunkBytes]byte
	if err := r.code.Lookup(uint32(0), &code); err != nil {
		return err
	}
	copy(buf, code[:])
	return nil
}

// TestRunningKernelCode looks for calls in functions of the kernel this runs on, patched as
// they are by ftrace, alternatives and mitigations.
func TestRunningKernelCode(t *testing.T) {
	reader := newLiveReader(t)
	for _, test := range []struct {
		function string
		calls    bool
	}{
		{"skb_ensure_writable", true}, // pskb_may_pull is inlined into it, in every kernel
		{"netif_rx", false},
		{"eth_type_trans", false},
		{"dev_get_by_index", false},
	} {
		t.Run(test.function, func(t *testing.T) {
			symbols, err := ReadSymbols(Wanted{Names: []string{test.function, "__pskb_pull_tail"}})
			if err != nil {
				t.Fatal(err)
			}
			calls, err := RunningCode(symbols, reader).Calls(t.Context(), symbols.Functions(test.function)[0], symbols.Functions("__pskb_pull_tail"))
			if err != nil || (len(calls) > 0) != test.calls {
				t.Errorf("calls %v, error %v; want any: %t", calls, err, test.calls)
			}
		})
	}
}
