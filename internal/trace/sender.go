package trace

import (
	"time"

	"github.com/cilium/ebpf/btf"

	"xentrace/bpf"
	"xentrace/internal/bpfload"
	"xentrace/internal/event"
	"xentrace/internal/kernel"
)

// preemptVariable is PREEMPT_VARIABLE in bpf/sender.h.
const preemptVariable = 0x7072656d

// selectSender sets where preempt_count is. Without it the programs name only those
// senders that are the sole holders of their socket.
func selectSender(s *bpfload.Selection, types *kernel.Types) {
	count, err := types.PreemptCount()
	if err != nil || !bpfload.HasAddress(count.Variable) {
		return
	}
	s.Addresses = map[int64]btf.TypeID{preemptVariable: count.Variable}
	s.Variables[bpf.XentraceVarSenderConfig] = bpf.XentraceSenderConfiguration{PreemptKnown: 1, PreemptOffset: count.Offset}
}

func decodeSender(s *bpf.XentraceSender) *event.Task {
	if s.Tgid == 0 {
		return nil
	}
	return &event.Task{PID: int(s.Tgid), Comm: cString(s.Comm[:]), Started: time.Duration(s.Started), Cgroup: s.Cgroup}
}
