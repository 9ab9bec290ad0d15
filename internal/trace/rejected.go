package trace

import (
	"fmt"

	"xentrace/bpf"
	"xentrace/internal/bpfload"
	"xentrace/internal/event"
	"xentrace/internal/kernel"
)

// collectFunction takes the backend's responses from the ring and frees what was
// sent; it does not look whether the backend took it.
const collectFunction = "xennet_tx_buf_gc"

// rejections is whether the packets that the backend refused are counted, and if
// not, why.
type rejections struct {
	ring    kernel.TransmitRing
	missing string // empty: they are counted
}

func (r *rejections) counted() bool { return r.missing == "" }

// learnRejections finds out whether a backend can tell what the Xen backend
// refused.
func (f *facts) learnRejections(asked bool, b event.Backend) rejections {
	switch {
	case !asked:
		return rejections{missing: "packets that the backend refuses are counted with --rejected only"}
	case b == event.Tracepoint:
		return rejections{missing: "the tracepoint backend does not see the backend's responses; fentry and kprobe do"}
	case !f.typed:
		return rejections{missing: "the structures of xen-netfront are not known: its module has no BTF type information, which kernels have for modules from 5.11 on"}
	}
	if there, err := f.types.HasFunction(f.module, collectFunction); err != nil || !there {
		return rejections{missing: fmt.Sprintf("this driver has no function %s of its own, which takes the backend's responses", collectFunction)}
	}
	ring, err := f.types.TransmitRing(f.module)
	if err != nil {
		return rejections{missing: fmt.Sprintf("the structures of xen-netfront are not as expected: %v", err)}
	}
	return rejections{ring: ring}
}

// configure sets where the driver keeps its ring.
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
