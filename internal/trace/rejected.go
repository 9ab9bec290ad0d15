package trace

import (
	"fmt"

	"xentrace/bpf"
	"xentrace/internal/bpfload"
	"xentrace/internal/event"
	"xentrace/internal/netfront"
)

// collectFunction takes TX responses from the ring and frees what was sent, whatever the
// status.
const collectFunction = "xennet_tx_buf_gc"

// rejections says whether packets that the backend rejected are counted, and why not.
type rejections struct {
	ring    netfront.TransmitRing
	missing string // empty: they are counted
}

func (r *rejections) counted() bool { return r.missing == "" }

// learnRejections finds out whether this kernel and backend can count them.
func (f *facts) learnRejections(asked bool, b event.Backend) rejections {
	switch {
	case !asked:
		return rejections{missing: "rejected packets are counted with --rejected only"}
	case b == event.Tracepoint:
		return rejections{missing: "the tracepoint backend does not see TX responses; fentry and kprobe do"}
	case !f.typed:
		return rejections{missing: "the structures of xen-netfront are not known: its module has no BTF type information, which kernels have for modules from 5.11 on"}
	}
	if there, err := f.types.HasFunction(f.module, collectFunction); err != nil || !there {
		return rejections{missing: fmt.Sprintf("this driver has no function %s of its own, which handles TX responses", collectFunction)}
	}
	ring, err := netfront.RingOf(f.types, f.module)
	if err != nil {
		return rejections{missing: fmt.Sprintf("the structures of xen-netfront are not as expected: %v", err)}
	}
	return rejections{ring: ring}
}

func (r *rejections) configure(s *bpfload.Selection) {
	if !r.counted() {
		return
	}
	s.Variables[bpf.XentraceVarRingLayout] = bpf.XentraceRingLayout{
		Id:      r.ring.ID,
		Info:    r.ring.Info,
		Netdev:  r.ring.Netdev,
		RspCons: r.ring.RspCons,
		Sring:   r.ring.Sring,
		Ring:    r.ring.Ring,
		TxSkbs:  r.ring.TxSkbs,
	}
}

// MissingAnswers says why TX responses cannot be seen; it is empty if they can.
func (t *Tracer) MissingAnswers() string { return t.rejections.missing }
