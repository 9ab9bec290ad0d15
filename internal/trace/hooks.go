package trace

import (
	"errors"
	"fmt"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"

	"xentrace/bpf"
	"xentrace/internal/bpfload"
	"xentrace/internal/event"
)

// transmitFunction is ndo_start_xmit of xen-netfront.
const transmitFunction = "xennet_start_xmit"

type hook struct {
	program string
	attach  func(p *ebpf.Program, names driverNames) (link.Link, error)
}

// driverNames are the kernel functions whose names differ between kernels.
type driverNames struct {
	free string // the any-context free: dev_kfree_skb_any_reason or __dev_kfree_skb_any
}

func attachTracing(p *ebpf.Program, _ driverNames) (link.Link, error) {
	return link.AttachTracing(link.TracingOptions{Program: p})
}

func attachRaw(tracepoint string) func(*ebpf.Program, driverNames) (link.Link, error) {
	return func(p *ebpf.Program, _ driverNames) (link.Link, error) {
		return link.AttachRawTracepoint(link.RawTracepointOptions{Name: tracepoint, Program: p})
	}
}

func attachEntry(p *ebpf.Program, _ driverNames) (link.Link, error) {
	return link.Kprobe(transmitFunction, p, nil)
}

func attachOpen(p *ebpf.Program, _ driverNames) (link.Link, error) {
	return link.Kprobe("xennet_open", p, nil)
}

func attachFree(p *ebpf.Program, names driverNames) (link.Link, error) {
	return link.Kprobe(names.free, p, nil)
}

// wantedHooks reports which hooks of a backend are wanted.
type wantedHooks struct {
	driver    bool // packets of xen-netfront get a verdict and are not only counted
	responses bool // packets that the backend rejected are counted, too
	xdp       bool // frames that XDP programs send are counted, too
	untyped   bool // the tracepoint's program does not know the types of its arguments
}

// hooksOf returns the hooks of a backend, those first that must be there before
// a packet enters.
func hooksOf(b event.Backend, wanted wantedHooks) []hook {
	hooks := wanted.transmit(b)
	if wanted.responses {
		hooks = append(hooks, responseHooks()...)
	}
	if wanted.xdp {
		hooks = append(hooks, xdpHook(b))
	}
	return hooks
}

func (w wantedHooks) transmit(b event.Backend) []hook {
	begin := hook{bpf.XentraceProgTracepointBeginTyped, attachTracing}
	if w.untyped {
		begin = hook{bpf.XentraceProgTracepointBegin, attachRaw("net_dev_start_xmit")}
	}
	switch {
	case b == event.Fentry:
		return []hook{
			{bpf.XentraceProgFentryOpen, attachTracing},
			{bpf.XentraceProgFentryFree, attachTracing},
			{bpf.XentraceProgFentryBegin, attachTracing},
		}
	case b == event.Kprobe:
		return []hook{
			{bpf.XentraceProgKprobeOpen, attachOpen},
			{bpf.XentraceProgKprobeFree, attachFree},
			{bpf.XentraceProgKprobeBegin, attachEntry},
		}
	case w.driver:
		return []hook{
			{bpf.XentraceProgTracepointConsume, attachRaw("consume_skb")},
			{bpf.XentraceProgTracepointFree, attachRaw("kfree_skb")},
			begin,
		}
	}
	return []hook{begin}
}

// responseHooks see the TX responses. They are fentry with the kprobe backend, too: the
// driver handles responses in an interrupt, and a kprobe does not fire while another's
// handler runs, which missed 1-8 % of the packets in a guest. The driver's BTF is needed in
// any case.
func responseHooks() []hook {
	return []hook{
		{bpf.XentraceProgFentryGcEnd, attachTracing},
		{bpf.XentraceProgFentryGcBegin, attachTracing},
	}
}

// attachment is a backend in place: its programs, maps and links.
type attachment struct {
	collection *ebpf.Collection
	hooks      []attachedHook
	names      driverNames
	devices    *deviceCaches
}

type attachedHook struct {
	hook
	link    link.Link // nil while it is not attached
	refused error     // why an optional one did not attach at the last attempt
	missed  uint64    // by links that are closed
}

// attach loads the programs of the hooks and attaches them. Nothing is counted
// before enable.
func attach(s bpfload.Selection, hooks []hook, names driverNames, cfg bpf.XentraceConfiguration) (*attachment, error) {
	a := &attachment{names: names}
	for _, h := range hooks {
		s.Programs = append(s.Programs, h.program)
		a.hooks = append(a.hooks, attachedHook{hook: h})
	}
	if cfg.Records != 0 && cfg.DriverHooks != 0 {
		s.Programs = append(s.Programs, bpf.XentraceProgSettlePackets)
	}
	var err error
	if a.collection, err = load(s, cfg); err != nil {
		return nil, err
	}
	a.devices = &deviceCaches{generation: a.collection.Variables[bpf.XentraceVarGeneration]}
	if err := a.attachAll(); err != nil {
		return nil, errors.Join(err, a.close())
	}
	return a, nil
}

// optional reports whether the rest is attached without the hook.
func (h *hook) optional() bool {
	return h.countsXDP() || h.seesOpens()
}

func (h *hook) countsXDP() bool {
	return h.program == bpf.XentraceProgFexitXdp || h.program == bpf.XentraceProgKprobeXdp || h.program == bpf.XentraceProgTracepointXdp
}

// seesOpens reports whether the hook is where the driver opens a device. Without it the BPF
// programs look up the interface of every packet.
func (h *hook) seesOpens() bool {
	return h.program == bpf.XentraceProgFentryOpen || h.program == bpf.XentraceProgKprobeOpen
}

// inDriver reports whether the hook is a kprobe on a function of the driver: it goes
// with the driver's module.
func (h *hook) inDriver() bool {
	switch h.program {
	case bpf.XentraceProgKprobeOpen, bpf.XentraceProgKprobeBegin, bpf.XentraceProgKprobeXdp:
		return true
	}
	return false
}

// attachAll attaches the hooks that are not attached.
func (a *attachment) attachAll() error {
	for i := range a.hooks {
		h := &a.hooks[i]
		if h.link != nil {
			continue
		}
		l, err := h.attach(a.collection.Programs[h.program], a.names)
		if h.refused = nil; err != nil && h.optional() {
			h.refused = err
			continue
		}
		if err != nil {
			return fmt.Errorf("%s: %w", h.program, err)
		}
		h.link = l
		if !h.seesOpens() {
			continue
		}
		// Before the hook that uses the caches is attached.
		if err := a.devices.use(true); err != nil {
			return err
		}
	}
	return nil
}

// detachDriver closes what is left of the hooks in the driver's functions, after
// its module took them along.
func (a *attachment) detachDriver() error {
	var err error
	for i := range a.hooks {
		h := &a.hooks[i]
		if !h.inDriver() || h.link == nil {
			continue
		}
		h.missed += missedBy(h.link)
		err = errors.Join(err, h.link.Close())
		h.link = nil
	}
	return errors.Join(err, a.devices.use(false))
}

func (a *attachment) enable(on bool) error {
	var value uint32
	if on {
		value = 1
	}
	if err := a.collection.Variables[bpf.XentraceVarEnabled].Set(value); err != nil {
		return fmt.Errorf("switch of the BPF programs: %w", err)
	}
	return a.devices.clear() // they look at the switch only where they look up an interface
}

// clearTransmits settles the packets of a driver that was unloaded, and clears them: the
// next driver may have its addresses.
func (a *attachment) clearTransmits() error {
	if _, err := a.settle(); err != nil {
		return err
	}
	cpus, err := ebpf.PossibleCPU()
	if err != nil {
		return fmt.Errorf("number of CPUs: %w", err)
	}
	if err := a.collection.Maps[bpf.XentraceMapCpuStates].Put(uint32(0), make([]bpf.XentraceCpuState, cpus)); err != nil {
		return fmt.Errorf("in-flight transmits of the BPF programs: %w", err)
	}
	return nil
}

// setTransmit sets the address of the driver's transmit function; 0: unknown.
func (a *attachment) setTransmit(address uint64) error {
	if err := a.collection.Variables[bpf.XentraceVarNetfrontXmit].Set(address); err != nil {
		return fmt.Errorf("address of the driver for the BPF programs: %w", err)
	}
	return nil
}

// setFlags sets where netfront_info.broken and bounce are, from struct net_device; 0: unknown.
func (a *attachment) setFlags(offset uint32) error {
	if err := a.collection.Variables[bpf.XentraceVarNetfrontFlags].Set(offset); err != nil {
		return fmt.Errorf("offset of the driver's flags for the BPF programs: %w", err)
	}
	return nil
}

func (a *attachment) close() error {
	var err error
	for i := range a.hooks {
		if l := a.hooks[i].link; l != nil {
			err = errors.Join(err, l.Close())
		}
	}
	a.collection.Close()
	return err
}
