package trace

import (
	"errors"
	"fmt"
	"maps"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/btf"
	"github.com/cilium/ebpf/link"

	"xentrace/bpf"
)

// transmitFunction is ndo_start_xmit of xen-netfront.
const transmitFunction = "xennet_start_xmit"

// A hook is one program of a backend and what it is attached to.
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

func attachEntry(function string) func(*ebpf.Program, driverNames) (link.Link, error) {
	return func(p *ebpf.Program, _ driverNames) (link.Link, error) {
		return link.Kprobe(function, p, nil)
	}
}

func attachReturn(function string) func(*ebpf.Program, driverNames) (link.Link, error) {
	return func(p *ebpf.Program, _ driverNames) (link.Link, error) {
		return link.Kretprobe(function, p, nil)
	}
}

func attachFree(p *ebpf.Program, names driverNames) (link.Link, error) {
	return link.Kprobe(names.free, p, nil)
}

// hooksOf returns the hooks of a backend, those first that must be there before
// a packet enters. driver: packets of xen-netfront are to be judged, not only
// counted. responses: what the backend refused is to be counted, too.
func hooksOf(b Backend, driver, responses bool) []hook {
	switch {
	case b == Fentry:
		hooks := []hook{
			{bpf.XentraceProgFentryFree, attachTracing},
			{bpf.XentraceProgFentryEnd, attachTracing},
			{bpf.XentraceProgFentryBegin, attachTracing},
		}
		if responses {
			hooks = append(hooks,
				hook{bpf.XentraceProgFentryGcEnd, attachTracing},
				hook{bpf.XentraceProgFentryGcBegin, attachTracing})
		}
		return hooks
	case b == Kprobe:
		hooks := []hook{
			{bpf.XentraceProgKprobeFree, attachFree},
			{bpf.XentraceProgKprobeEnd, attachReturn(transmitFunction)},
			{bpf.XentraceProgKprobeBegin, attachEntry(transmitFunction)},
		}
		if responses {
			hooks = append(hooks,
				hook{bpf.XentraceProgKprobeGcEnd, attachReturn(collectFunction)},
				hook{bpf.XentraceProgKprobeGcBegin, attachEntry(collectFunction)})
		}
		return hooks
	case driver:
		return []hook{
			{bpf.XentraceProgTracepointConsume, attachRaw("consume_skb")},
			{bpf.XentraceProgTracepointFree, attachRaw("kfree_skb")},
			{bpf.XentraceProgTracepointEnd, attachRaw("net_dev_xmit")},
			{bpf.XentraceProgTracepointBegin, attachRaw("net_dev_start_xmit")},
		}
	}
	return []hook{{bpf.XentraceProgTracepointBegin, attachRaw("net_dev_start_xmit")}}
}

// attachment is a backend in place: its programs, maps and links.
type attachment struct {
	collection *ebpf.Collection
	links      []link.Link // kept: a link that is collected is detached
	returns    []link.Link // the kretprobes among them
}

// attach loads the programs of the hooks and attaches them. Nothing is counted
// before enable.
func attach(spec *ebpf.CollectionSpec, hooks []hook, names driverNames, cfg bpf.XentraceConfiguration, types *btf.Cache) (*attachment, error) {
	collection, err := load(spec, hooks, cfg, types)
	if err != nil {
		return nil, err
	}
	a := &attachment{collection: collection}
	for _, h := range hooks {
		l, err := h.attach(collection.Programs[h.program], names)
		if err != nil {
			return nil, errors.Join(fmt.Errorf("%s: %w", h.program, err), a.close())
		}
		a.links = append(a.links, l)
		if h.program == bpf.XentraceProgKprobeEnd || h.program == bpf.XentraceProgKprobeGcEnd {
			a.returns = append(a.returns, l)
		}
	}
	return a, nil
}

// enable starts or stops the counting.
func (a *attachment) enable(on bool) error {
	var value uint32
	if on {
		value = 1
	}
	if err := a.collection.Variables[bpf.XentraceVarEnabled].Set(value); err != nil {
		return fmt.Errorf("switch of the kernel side: %w", err)
	}
	return nil
}

// close detaches everything.
func (a *attachment) close() error {
	var err error
	for _, l := range a.links {
		err = errors.Join(err, l.Close())
	}
	a.collection.Close()
	return err
}

// load loads the programs of the hooks, with plain loads through untyped
// pointers where this kernel allows them to this type of program.
func load(spec *ebpf.CollectionSpec, hooks []hook, cfg bpf.XentraceConfiguration, types *btf.Cache) (*ebpf.Collection, error) {
	spec = spec.Copy()
	wanted := make(map[string]*ebpf.ProgramSpec, len(hooks))
	for _, h := range hooks {
		wanted[h.program] = spec.Programs[h.program]
	}
	spec.Programs = wanted
	keepReferenced(spec)
	if cfg.TypedReads != 0 {
		collection, err := loadConfigured(spec, cfg, types, ebpf.ProgramOptions{LogDisabled: true})
		if err == nil {
			return collection, nil
		}
		cfg.TypedReads = 0
	}
	return loadConfigured(spec, cfg, types, ebpf.ProgramOptions{})
}

// keepReferenced drops the maps that none of the programs refers to.
func keepReferenced(spec *ebpf.CollectionSpec) {
	referenced := make(map[string]bool)
	for _, p := range spec.Programs {
		for i := range p.Instructions {
			referenced[p.Instructions[i].Reference()] = true
		}
	}
	maps.DeleteFunc(spec.Maps, func(name string, _ *ebpf.MapSpec) bool { return !referenced[name] })
}

func loadConfigured(spec *ebpf.CollectionSpec, cfg bpf.XentraceConfiguration, types *btf.Cache, options ebpf.ProgramOptions) (*ebpf.Collection, error) {
	if err := spec.Variables[bpf.XentraceVarConfig].Set(cfg); err != nil {
		return nil, fmt.Errorf("configuration of the kernel side: %w", err)
	}
	collection, err := ebpf.NewCollectionWithOptions(spec, ebpf.CollectionOptions{Programs: options, Cache: types})
	if err != nil {
		return nil, fmt.Errorf("programs: %w", err)
	}
	return collection, nil
}
