package trace

import (
	"errors"
	"strings"
	"testing"

	"github.com/cilium/ebpf"

	"xentrace/bpf"
	"xentrace/internal/event"
)

// Only kprobes on the driver's own functions go with its module.
func TestHooksInDriver(t *testing.T) {
	spec, err := bpf.LoadXentrace()
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]bool{bpf.XentraceProgKprobeBegin: true, bpf.XentraceProgKprobeFree: false,
		bpf.XentraceProgFentryGcBegin: false, bpf.XentraceProgFentryGcEnd: false}
	for _, backend := range []event.Backend{event.Fentry, event.Kprobe, event.Tracepoint} {
		for _, h := range hooksOf(backend, wantedHooks{driver: true, responses: true}) {
			got, program := h.inDriver(), spec.Programs[h.program]
			if got != (program.Type == ebpf.Kprobe && strings.HasPrefix(program.AttachTo, "xennet_")) {
				t.Errorf("%s is attached to %s, and goes with the driver's module: %v", h.program, program.AttachTo, got)
			}
			if expected, known := want[h.program]; known && got != expected || !known && got && backend != event.Kprobe {
				t.Errorf("%s goes with the driver's module: %v", h.program, got)
			}
		}
	}
}

// Why frames of XDP are not counted is that hook's own matter.
func TestMissingXDP(t *testing.T) {
	refused := errors.New("refused")
	a := &attachment{hooks: []attachedHook{
		{hook: hook{program: bpf.XentraceProgKprobeOpen}, refused: errors.New("another hook's")},
		{hook: hook{program: bpf.XentraceProgKprobeXdp}, refused: refused},
	}}
	if got := a.missingXDP(); !strings.HasSuffix(got, ": "+refused.Error()) {
		t.Errorf("%q, want why the hook on frames of XDP is not there", got)
	}
}
