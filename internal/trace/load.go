package trace

import (
	"context"
	"fmt"

	"github.com/cilium/ebpf"

	"xentrace/bpf"
	"xentrace/internal/bpfload"
	"xentrace/internal/kernel"
)

func (f *facts) selection() bpfload.Selection {
	return bpfload.Selection{Types: f.types, Variables: make(map[string]any)}
}

// load loads a selection, with plain loads through untyped pointers where this kernel
// allows them to this type of program.
func load(s bpfload.Selection, cfg bpf.XentraceConfiguration) (*ebpf.Collection, error) {
	s.Variables[bpf.XentraceVarConfig] = cfg
	if cfg.TypedReads != 0 {
		s.NoLog = true
		if collection, err := bpfload.Load(bpf.XentraceObject(), s); err == nil {
			return collection, nil
		}
		cfg.TypedReads, s.NoLog = 0, false
		s.Variables[bpf.XentraceVarConfig] = cfg
	}
	return bpfload.Load(bpf.XentraceObject(), s)
}

func loadPrograms(types *kernel.Types, programs ...string) (*ebpf.Collection, error) {
	return bpfload.Load(bpf.XentraceObject(), bpfload.Selection{Programs: programs, Types: types})
}

// codeChunk is how much code the BPF program reads at once, in bytes.
const codeChunk = len(bpf.XentraceCodeChunk{}.Bytes)

// CodeReader reads the running kernel's code, patched as it is: a BPF program
// copies it out. It works on every kernel that the tracer works on, unless
// lockdown forbids reading kernel memory.
type CodeReader struct {
	collection *ebpf.Collection
}

// NewCodeReader loads the program. It needs CAP_BPF and CAP_PERFMON.
func NewCodeReader(types *kernel.Types) (*CodeReader, error) { return newCodeReader(types) }

func newCodeReader(types *kernel.Types) (*CodeReader, error) {
	collection, err := loadPrograms(types, bpf.XentraceProgReadCode)
	if err != nil {
		return nil, fmt.Errorf("reader of kernel code: %w", err)
	}
	return &CodeReader{collection}, nil
}

// ReadCode fills code with what is at that address of the kernel.
func (r *CodeReader) ReadCode(ctx context.Context, address uint64, code []byte) error {
	for len(code) > 0 {
		if err := ctx.Err(); err != nil {
			return err
		}
		n := min(len(code), codeChunk)
		if err := r.readChunk(address, code[:n]); err != nil {
			return err
		}
		address += uint64(n)
		code = code[n:]
	}
	return nil
}

func (r *CodeReader) readChunk(address uint64, code []byte) error {
	arguments := [2]uint64{address, uint64(len(code))}
	result, err := r.collection.Programs[bpf.XentraceProgReadCode].Run(&ebpf.RunOptions{Context: arguments})
	if err != nil {
		return fmt.Errorf("kernel code at %#x: %w", address, err)
	}
	if status := int32(result); status != 0 {
		return fmt.Errorf("kernel code at %#x: read by the BPF program: status %d", address, status)
	}
	var chunk bpf.XentraceCodeChunk
	if err := r.collection.Maps[bpf.XentraceMapCode].Lookup(uint32(0), &chunk); err != nil {
		return fmt.Errorf("kernel code at %#x: %w", address, err)
	}
	copy(code, chunk.Bytes[:])
	return nil
}

// Close unloads the program.
func (r *CodeReader) Close() { r.collection.Close() }
