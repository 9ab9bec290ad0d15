package trace

import (
	"github.com/cilium/ebpf"

	"xentrace/bpf"
	"xentrace/internal/bpfload"
	"xentrace/internal/kernel"
)

// selection is what every part of the BPF object is loaded with.
func (f *facts) selection() bpfload.Selection {
	return bpfload.Selection{Types: f.types.Cache(), Variables: make(map[string]any)}
}

// load loads a selection, with plain loads through untyped pointers where this kernel
// allows them to this type of program.
func load(s bpfload.Selection, cfg bpf.XentraceConfiguration) (*ebpf.Collection, error) {
	s.Variables[bpf.XentraceVarConfig] = cfg
	if cfg.TypedReads != 0 {
		s.NoLog = true
		if collection, err := bpfload.Load(bpf.LoadXentrace, s); err == nil {
			return collection, nil
		}
		cfg.TypedReads, s.NoLog = 0, false
		s.Variables[bpf.XentraceVarConfig] = cfg
	}
	return bpfload.Load(bpf.LoadXentrace, s)
}

// loadPrograms loads programs with maps of their own, apart from the backend's.
func loadPrograms(types *kernel.Types, programs ...string) (*ebpf.Collection, error) {
	return bpfload.Load(bpf.LoadXentrace, bpfload.Selection{Programs: programs, Types: types.Cache()})
}
