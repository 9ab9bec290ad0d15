package trace

import (
	"errors"
	"fmt"
	"maps"
	"strings"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/btf"
	"github.com/cilium/ebpf/link"

	"xentrace/bpf"
	"xentrace/internal/event"
)

const (
	// transmitFunction is ndo_start_xmit of xen-netfront.
	transmitFunction = "xennet_start_xmit"
	// driverPrefix is what the names of the driver's functions begin with.
	driverPrefix = "xennet_"
)

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

func attachEntry(p *ebpf.Program, _ driverNames) (link.Link, error) {
	return link.Kprobe(transmitFunction, p, nil)
}

func attachReturn(p *ebpf.Program, _ driverNames) (link.Link, error) {
	return link.Kretprobe(transmitFunction, p, nil)
}

func attachFree(p *ebpf.Program, names driverNames) (link.Link, error) {
	return link.Kprobe(names.free, p, nil)
}

// hooksOf returns the hooks of a backend, those first that must be there before
// a packet enters. driver: packets of xen-netfront are to be judged, not only
// counted. responses: what the backend refused is to be counted, too.
func hooksOf(b event.Backend, driver, responses bool) []hook {
	var hooks []hook
	switch {
	case b == event.Fentry:
		hooks = []hook{
			{bpf.XentraceProgFentryFree, attachTracing},
			{bpf.XentraceProgFentryEnd, attachTracing},
			{bpf.XentraceProgFentryBegin, attachTracing},
		}
	case b == event.Kprobe:
		hooks = []hook{
			{bpf.XentraceProgKprobeFree, attachFree},
			{bpf.XentraceProgKprobeEnd, attachReturn},
			{bpf.XentraceProgKprobeBegin, attachEntry},
		}
	case driver:
		hooks = []hook{
			{bpf.XentraceProgTracepointConsume, attachRaw("consume_skb")},
			{bpf.XentraceProgTracepointFree, attachRaw("kfree_skb")},
			{bpf.XentraceProgTracepointEnd, attachRaw("net_dev_xmit")},
			{bpf.XentraceProgTracepointBegin, attachRaw("net_dev_start_xmit")},
		}
	default:
		hooks = []hook{{bpf.XentraceProgTracepointBegin, attachRaw("net_dev_start_xmit")}}
	}
	if responses {
		hooks = append(hooks, responseHooks()...)
	}
	return hooks
}

// responseHooks see the backend's responses. They are not kprobes beside kprobes
// either: the responses are taken in an interrupt, and one that comes during the
// handler of a kprobe runs no other: in the guest one to eight packets in a hundred were missed.
// The types that fentry takes are needed in any case.
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
}

// attachedHook is a hook with its link, which is kept: one that is collected is
// detached.
type attachedHook struct {
	hook
	isReturn bool      // a kretprobe
	inDriver bool      // a kprobe on a function of the driver: it dies with the driver's module
	link     link.Link // nil while it is not attached
	missed   uint64    // by links that are closed
}

// attach loads the programs of the hooks and attaches them. Nothing is counted
// before enable.
func attach(spec *ebpf.CollectionSpec, hooks []hook, names driverNames, cfg bpf.XentraceConfiguration, types *btf.Cache) (*attachment, error) {
	collection, err := load(spec, hooks, cfg, types)
	if err != nil {
		return nil, err
	}
	a := &attachment{collection: collection, names: names}
	for _, h := range hooks {
		program := spec.Programs[h.program]
		a.hooks = append(a.hooks, attachedHook{hook: h, inDriver: inDriver(program), isReturn: isReturn(program)})
	}
	if err := a.attachAll(); err != nil {
		return nil, errors.Join(err, a.close())
	}
	return a, nil
}

// inDriver tells whether a program is a kprobe on a function of the driver, by the name
// in its section.
func inDriver(program *ebpf.ProgramSpec) bool {
	return program.Type == ebpf.Kprobe && strings.HasPrefix(program.AttachTo, driverPrefix)
}

// isReturn tells whether a program is a kretprobe.
func isReturn(program *ebpf.ProgramSpec) bool {
	return strings.HasPrefix(program.SectionName, "kretprobe/")
}

// attachAll attaches the hooks that are not attached.
func (a *attachment) attachAll() error {
	for i := range a.hooks {
		h := &a.hooks[i]
		if h.link != nil {
			continue
		}
		l, err := h.attach(a.collection.Programs[h.program], a.names)
		if err != nil {
			return fmt.Errorf("%s: %w", h.program, err)
		}
		h.link = l
	}
	return nil
}

// detachDriver closes what is left of the hooks in the driver's functions, after
// its module took them along.
func (a *attachment) detachDriver() error {
	var err error
	for i := range a.hooks {
		h := &a.hooks[i]
		if !h.inDriver || h.link == nil {
			continue
		}
		h.missed += missedBy(h.link)
		err = errors.Join(err, h.link.Close())
		h.link = nil
	}
	return err
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

// forgetWindows closes what the driver had open when it was taken away: a return that
// was missed is not to be taken for that of a packet of the next driver.
func (a *attachment) forgetWindows() error {
	cpus, err := ebpf.PossibleCPU()
	if err != nil {
		return fmt.Errorf("number of CPUs: %w", err)
	}
	if err := a.collection.Maps[bpf.XentraceMapCpuStates].Put(uint32(0), make([]bpf.XentraceCpuState, cpus)); err != nil {
		return fmt.Errorf("windows of the kernel side: %w", err)
	}
	return nil
}

// setTransmit tells the kernel side where the driver's transmit function is; 0 while
// that is not known.
func (a *attachment) setTransmit(address uint64) error {
	if err := a.collection.Variables[bpf.XentraceVarNetfrontXmit].Set(address); err != nil {
		return fmt.Errorf("driver's address for the kernel side: %w", err)
	}
	return nil
}

// close detaches everything.
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
