package congestion

import (
	"testing"

	"github.com/cilium/ebpf"

	"xentrace/bpf"
	"xentrace/internal/kernel"
	"xentrace/test/need"
)

// Both programs of the tracepoint attach: the one that knows the types of its arguments,
// and the one for kernels that refuse it.
func TestTracepointPrograms(t *testing.T) {
	need.Root(t, "to load BPF programs")
	for _, test := range []struct {
		untyped bool
		lacking []kernel.Feature
		program string
		kind    ebpf.ProgramType
	}{
		{false, nil, bpf.CongestionProgCongestionBeginTyped, ebpf.Tracing},
		{true, nil, bpf.CongestionProgCongestionBegin, ebpf.RawTracepoint},
		{true, []kernel.Feature{kernel.TypedTracepoints}, bpf.CongestionProgCongestionBegin, ebpf.RawTracepoint},
		{false, []kernel.Feature{kernel.AtomicExchange}, bpf.CongestionProgCongestionBeginTyped, ebpf.Tracing},
		{true, []kernel.Feature{kernel.TypedReads}, bpf.CongestionProgCongestionBegin, ebpf.RawTracepoint},
	} {
		types := kernel.NewTypes().Without(test.lacking...)
		h := newHooks(types)
		h.untyped = test.untyped
		h.configure(types, sizes{interfaces: 1, queuesEach: 1}, false)
		if err := h.start(); err != nil {
			t.Errorf("%s: %v", test.program, err)
			continue
		}
		if p := h.collection.Programs[test.program]; p == nil || p.Type() != test.kind || len(h.links) != 4 {
			t.Errorf("program %v, %d links, want 4 and one of %s", p, len(h.links), test.program)
		}
		if err := h.close(); err != nil {
			t.Error(err)
		}
	}
}
