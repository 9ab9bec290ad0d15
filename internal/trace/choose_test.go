package trace

import (
	"testing"

	"github.com/cilium/ebpf"

	"xentrace/bpf"
	"xentrace/internal/event"
	"xentrace/internal/kernel"
	"xentrace/internal/netdev"
	"xentrace/test/need"
)

// Both programs of the tracepoint attach: the one that knows the types of its arguments,
// and the one for kernels that refuse it.
func TestTracepointPrograms(t *testing.T) {
	need.Root(t, "to load BPF programs")
	for _, test := range []struct {
		untyped bool
		program string
		kind    ebpf.ProgramType
	}{
		{false, bpf.XentraceProgTracepointBeginTyped, ebpf.Tracing},
		{true, bpf.XentraceProgTracepointBegin, ebpf.RawTracepoint},
	} {
		c := &chooser{
			options:    Options{Interfaces: []string{"lo"}, Records: true, RingBytes: DefaultRingBytes},
			interfaces: []netdev.Interface{{}}, facts: &facts{types: kernel.NewTypes()},
			rejections: rejections{missing: "not asked for"},
		}
		a, err := c.attachWith(event.Tracepoint, test.untyped)
		if err != nil {
			t.Errorf("%s: %v", test.program, err)
			continue
		}
		p := a.collection.Programs[test.program]
		if len(a.hooks) != 2 || a.hooks[0].link == nil || a.hooks[1].link == nil || p == nil || p.Type() != test.kind {
			t.Errorf("hooks %+v, program %v, want %s and that of XDP", a.hooks, p, test.program)
		}
		if err := a.close(); err != nil {
			t.Error(err)
		}
	}
}
