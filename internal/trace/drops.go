package trace

import (
	"context"
	"errors"
	"fmt"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"

	"xentrace/bpf"
	"xentrace/internal/event"
	"xentrace/internal/kernel"
)

// A DropsHook is a way of noticing packets that are freed as dropped.
type DropsHook string

// The ways, the exact one first.
const (
	DropsTracepoint DropsHook = "tracepoint" // skb:kfree_skb, as a raw tracepoint
	DropsKprobe     DropsHook = "kprobe"     // on kfree_skb or what the kernel has for it
)

// elsewhere is what is known of this kernel for the sake of drops elsewhere.
type elsewhere struct {
	hook       DropsHook
	functions  []kernel.DropFunction // that kprobes go on
	reasons    *kernel.DropReasons   // nil on kernels without
	completion uint64                // address of net_tx_action, 0 if it is not known
	hidden     error                 // why it is 0
}

// learnElsewhere finds out what the kernel side has to know of drops elsewhere.
func (f *facts) learnElsewhere(ctx context.Context, hook DropsHook) (*elsewhere, error) {
	if err := f.readSymbols(); err != nil {
		return nil, err
	}
	e := &elsewhere{hook: hook}
	var err error
	if e.reasons, err = kernel.ReadDropReasons(f.types); err != nil {
		return nil, err
	}
	e.completion, e.hidden = kernel.Completion(f.symbols)
	if hook != DropsKprobe {
		return e, nil
	}
	reader, err := newCodeReader(f.types)
	if err != nil {
		return nil, err
	}
	defer reader.Close()
	e.functions, err = kernel.FindDropFunctions(ctx, f.symbols, reader)
	return e, err
}

// hooks are what is attached beside those of the backend.
func (e *elsewhere) hooks() []hook {
	if e.hook != DropsKprobe {
		return []hook{{bpf.XentraceProgElsewhereFree, attachRaw("kfree_skb")}}
	}
	var hooks []hook
	for _, function := range e.functions {
		program := bpf.XentraceProgKprobeElsewhere
		switch {
		case function.List:
			program = bpf.XentraceProgKprobeElsewhereList
		case function.Argument == 1:
			program = bpf.XentraceProgKprobeElsewhereSocket
		}
		hooks = append(hooks, hook{program, func(p *ebpf.Program, _ driverNames) (link.Link, error) {
			return link.Kprobe(function.Name, p, nil)
		}})
	}
	return hooks
}

// configure tells the kernel side what is known.
func (e *elsewhere) configure(spec *ebpf.CollectionSpec) error {
	var cfg bpf.XentraceElsewhereConfiguration
	if e.reasons != nil {
		cfg.HasReason, cfg.Consumed = 1, e.reasons.Consumed
	}
	if e.completion == 0 {
		cfg.NetTxActionUnknown = 1
	}
	if err := spec.Variables[bpf.XentraceVarElsewhereConfig].Set(cfg); err != nil {
		return fmt.Errorf("configuration of the kernel side: %w", err)
	}
	return nil
}

// begin lets the kernel side know packets that were sent from those that were
// dropped. Nothing is counted before.
func (e *elsewhere) begin(a *attachment) error {
	if err := a.collection.Variables[bpf.XentraceVarNetTxAction].Set(e.completion); err != nil {
		return fmt.Errorf("configuration of the kernel side: %w", err)
	}
	return nil
}

// notice is what a user should know, or empty.
func (e *elsewhere) notice() string {
	if !errors.Is(e.hidden, kernel.ErrAddressesHidden) {
		return ""
	}
	return fmt.Sprintf("drops elsewhere have no stack: %v", e.hidden)
}

// withoutElsewhere takes out what only drops elsewhere need.
func withoutElsewhere(spec *ebpf.CollectionSpec) {
	delete(spec.Maps, bpf.XentraceMapElsewhereCountersOf)
	delete(spec.Maps, bpf.XentraceMapElsewhereSpaces)
	delete(spec.Maps, bpf.XentraceMapElsewhereDepth)
}

// learnElsewhere is asked before any backend is tried: what is missing for drops
// elsewhere is missing for all of them.
func (c *chooser) learnElsewhere(ctx context.Context) error {
	if c.options.Drops != event.DropsAll {
		return nil
	}
	e, err := c.facts.learnElsewhere(ctx, c.options.DropsHook)
	if err != nil {
		return fmt.Errorf("%w: drops elsewhere: %w", ErrCannotRun, err)
	}
	c.elsewhere = e
	if e.hook != DropsKprobe {
		return nil
	}
	spec, err := bpf.LoadXentrace()
	if err != nil {
		return fmt.Errorf("kernel side: %w", err)
	}
	if err := e.configure(spec); err != nil {
		return err
	}
	a, err := attach(spec, e.hooks(), driverNames{}, c.facts.configuration(), c.facts.types.Cache())
	if err != nil {
		return fmt.Errorf("%w: drops elsewhere by kprobes: %w; --drops-hook tracepoint needs none", ErrCannotRun, explain(err))
	}
	return a.close()
}

// hooks are those of the backend, and those for drops elsewhere.
func (c *chooser) hooks(b event.Backend, driver bool) []hook {
	hooks := hooksOf(b, driver, c.rejections.counted())
	if c.elsewhere != nil {
		hooks = append(hooks, c.elsewhere.hooks()...)
	}
	return hooks
}
