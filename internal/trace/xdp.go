package trace

import (
	"fmt"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"

	"xentrace/bpf"
	"xentrace/internal/event"
)

// xdpFunction is ndo_xdp_xmit of xen-netfront. Drivers before XDP have none (5.10).
const xdpFunction = "xennet_xdp_xmit"

// xdpHook sees the frames that XDP programs send, if the backend can. A kernel without it does
// not attach it, and the rest works.
func xdpHook(b event.Backend) hook {
	switch b {
	case event.Fentry:
		return hook{bpf.XentraceProgFexitXdp, attachTracing}
	case event.Kprobe:
		return hook{bpf.XentraceProgKprobeXdp, func(p *ebpf.Program, _ driverNames) (link.Link, error) { return link.Kprobe(xdpFunction, p, nil) }}
	}
	return hook{bpf.XentraceProgTracepointXdp, attachRaw("xdp_devmap_xmit")}
}

// hasXDP reports whether the program for the frames of XDP loads: that of fentry needs
// the function among the driver's types.
func (f *facts) hasXDP(b event.Backend) bool {
	if b != event.Fentry {
		return true
	}
	there, err := f.types.HasFunction(f.module, xdpFunction)
	return err == nil && there
}

// missingXDP returns why frames of XDP are not counted; empty if they are.
func (a *attachment) missingXDP() string {
	for i := range a.hooks {
		h := &a.hooks[i]
		switch {
		case !h.countsXDP():
		case h.link != nil:
			return ""
		case h.refused != nil:
			return fmt.Sprintf("the hook on frames of XDP did not attach: %v", h.refused)
		default:
			return "the driver is not loaded"
		}
	}
	return "this driver has no function " + xdpFunction + ", which sends frames of XDP"
}

// readXDP adds the frames of XDP.
func (r *registry) readXDP(slot uint32, sum *counts) error {
	if r.xdp == nil {
		return nil
	}
	var perCPU []bpf.XentraceXdpCounters
	if err := r.xdp.Lookup(slot, &perCPU); err != nil {
		return fmt.Errorf("counters of the BPF programs: %w", err)
	}
	for i := range perCPU {
		sum.XDPPackets += perCPU[i].Packets
		sum.XDPDropped += perCPU[i].Dropped
	}
	return nil
}

// missingXDP returns why there are no counts of XDP.
func (t *Tracer) missingXDP() string {
	t.driver.mu.Lock() // hooks come and go with it
	defer t.driver.mu.Unlock()
	return t.attachment.missingXDP()
}
