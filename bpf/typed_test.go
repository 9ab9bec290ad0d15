package bpf

import (
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/rlimit"

	"xentrace/test/need"
)

// The verifier accepts programs whose arguments it knows the types of: the tracepoint's own,
// and those of fentry and fexit, which have such arguments, too. The latter are loaded for
// the tracepoint, whose arguments are pointers to structures as theirs are.
func TestTypedArguments(t *testing.T) {
	need.Root(t, "to load BPF programs")
	if err := rlimit.RemoveMemlock(); err != nil {
		t.Fatal(err)
	}
	typed := waysOfReading(t, newArena(t))
	need.That(t, len(typed) == 2, "a kernel with bpf_rdonly_cast (Linux 6.2)")
	xentrace := map[string]any{
		XentraceVarConfig:     XentraceConfiguration{PageSize: 4096, TypedReads: 1, DriverHooks: 1, Records: 1, Stacks: 1, Snap: 256, Rate: 1, PrivOffset: 64, BrokenOffset: 1, BounceOffset: 2},
		XentraceVarRingLayout: fakeLayout,
	}
	congestion := map[string]any{
		CongestionVarConfig:     CongestionConfiguration{PageSize: 4096, TypedReads: 1, PrivOffset: 64},
		CongestionVarRingLayout: fakeFront,
	}
	for _, test := range []struct {
		open      func() (*ebpf.CollectionSpec, error)
		variables map[string]any
		programs  []string
	}{
		{LoadXentrace, xentrace, []string{XentraceProgTracepointBeginTyped, XentraceProgFentryBegin, XentraceProgFentryGcBegin, XentraceProgFentryGcEnd}},
		{LoadCongestion, congestion, []string{CongestionProgCongestionBeginTyped, CongestionProgCongestionCompletion, CongestionProgCongestionFree, CongestionProgCongestionNotify}},
	} {
		spec, err := test.open()
		if err != nil {
			t.Fatal(err)
		}
		for name, value := range test.variables {
			if err := spec.Variables[name].Set(value); err != nil {
				t.Fatal(err)
			}
		}
		programs := make(map[string]*ebpf.ProgramSpec)
		for _, name := range test.programs {
			program := spec.Programs[name]
			program.Type, program.AttachType, program.AttachTo = ebpf.Tracing, ebpf.AttachTraceRawTp, "net_dev_start_xmit"
			programs[name] = program
		}
		spec.Programs = programs
		collection, err := ebpf.NewCollection(spec)
		if err != nil {
			t.Errorf("%+v", err)
			continue
		}
		collection.Close()
	}
}
