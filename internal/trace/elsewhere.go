package trace

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"unsafe"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/features"
	"github.com/cilium/ebpf/link"

	"xentrace/bpf"
	"xentrace/internal/bpfload"
	"xentrace/internal/event"
	"xentrace/internal/kernel"
)

// A DropsHook is what reports packets that are freed as dropped.
type DropsHook string

// The hooks, the exact one first.
const (
	DropsTracepoint DropsHook = "tracepoint" // skb:kfree_skb, as a raw tracepoint
	DropsKprobe     DropsHook = "kprobe"     // on kfree_skb or what the kernel has for it
)

// elsewhere is what is known of this kernel for drops outside the driver.
type elsewhere struct {
	hook       DropsHook
	functions  []kernel.DropFunction // to attach kprobes to
	reasons    *kernel.DropReasons   // nil on kernels without
	completion uint64                // address of net_tx_action, 0 if it is not known
	hidden     error                 // why it is 0
}

// learnElsewhere finds out what the BPF programs need to know for drops elsewhere.
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
	if err == nil && slices.ContainsFunc(e.functions, func(d kernel.DropFunction) bool { return d.List }) {
		err = loops(f.types)
	}
	return e, err
}

// loops returns why programs cannot walk a list of packets, nil if they can.
func loops(types *kernel.Types) error {
	if types.Lacks(kernel.Loops) || features.HaveProgramHelper(ebpf.Kprobe, asm.FnLoop) != nil {
		return errors.New("this kernel has no bpf_loop, by which the program walks a list of dropped packets; --drops-hook tracepoint needs none")
	}
	return nil
}

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

func (e *elsewhere) configure(s *bpfload.Selection) {
	var cfg bpf.XentraceElsewhereConfiguration
	if e.reasons != nil {
		cfg.HasReason, cfg.Consumed = 1, e.reasons.Consumed
	}
	if e.completion == 0 {
		cfg.NetTxActionUnknown = 1
	}
	s.Variables[bpf.XentraceVarElsewhereConfig] = cfg
}

// begin lets the BPF programs distinguish sent packets from dropped ones. Nothing is
// counted before.
func (e *elsewhere) begin(a *attachment) error {
	if err := a.collection.Variables[bpf.XentraceVarNetTxAction].Set(e.completion); err != nil {
		return fmt.Errorf("configuration of the BPF programs: %w", err)
	}
	return nil
}

// learnElsewhere is called before any backend is tried: what drops elsewhere need does not
// depend on the backend.
func (c *chooser) learnElsewhere(ctx context.Context) error {
	if c.options.Drops != event.DropsAll {
		return nil
	}
	if c.facts.types.Learned() {
		return fmt.Errorf("%w: drops elsewhere need more of the kernel's types than xentrace learn finds; name its vmlinux with --btf FILE", ErrCannotRun)
	}
	e, err := c.facts.learnElsewhere(ctx, c.options.DropsHook)
	if err != nil {
		return fmt.Errorf("%w: drops elsewhere: %w", ErrCannotRun, err)
	}
	c.elsewhere = e
	if e.hook != DropsKprobe {
		return nil
	}
	s := c.facts.selection()
	e.configure(&s)
	a, err := attach(s, e.hooks(), driverNames{}, c.facts.configuration())
	if err != nil {
		return fmt.Errorf("%w: drops elsewhere by kprobes: %w; --drops-hook tracepoint needs none", ErrCannotRun, Explain(err))
	}
	return a.close()
}

// hooks are those of the backend, and those for drops elsewhere.
func (c *chooser) hooks(b event.Backend, untyped bool) []hook {
	hooks := hooksOf(b, wantedHooks{driver: c.anyNetfront(), responses: c.rejections.counted(), xdp: c.facts.hasXDP(b), untyped: untyped})
	if c.elsewhere != nil {
		hooks = append(hooks, c.elsewhere.hooks()...)
	}
	return hooks
}

// elsewhereHeader is what precedes the packet in the record of a drop elsewhere,
// in bytes.
const elsewhereHeader = int(unsafe.Offsetof(bpf.XentraceElsewhereEvent{}.Packet))

// decodeElsewhere returns a packet that was dropped outside the driver; the name of
// its interface, the name of the reason and the stack are left out.
func (d *recordDecoder) decodeElsewhere(raw []byte) (event.Packet, error) {
	if len(raw) < elsewhereHeader {
		return event.Packet{}, fmt.Errorf("record of a drop elsewhere of %d bytes: shorter than its %d bytes of header", len(raw), elsewhereHeader)
	}
	head := &d.elsewhere
	copy(unsafe.Slice((*byte)(unsafe.Pointer(head)), elsewhereHeader), raw)
	if int(head.NrFrames) > len(head.Frames) {
		return event.Packet{}, fmt.Errorf("record of a drop elsewhere: %d frames, of at most %d", head.NrFrames, len(head.Frames))
	}
	p, err := d.decodePacket(raw[elsewhereHeader:])
	if err != nil {
		return event.Packet{}, err
	}
	p.Layer = event.LayerElsewhere
	p.CPU = int(head.Header.Cpu)
	p.Interface = event.Device{Index: int(head.Header.Ifindex), NetNS: head.Header.Netns}
	return p, nil
}

// takeElsewhere decodes a drop elsewhere and adds its reason and stack.
func (t *Tracer) takeElsewhere(raw []byte) (event.Packet, error) {
	p, err := t.decoder.decodeElsewhere(raw)
	if err != nil {
		return event.Packet{}, err
	}
	head := &t.decoder.elsewhere
	if t.elsewhere.reasons != nil {
		p.Reason = t.elsewhere.reasons.Name(head.Reason)
	}
	p.Stack = t.stacks.name(head.Frames[:head.NrFrames], head.Location)
	if t.calls != nil {
		p.Stack = append(p.Stack, t.calls.user(&t.decoder)...)
	}
	return p, nil
}

// How the BPF programs count reasons: see bpf/elsewhere.h.
const (
	coreReasons      = 256
	subsystemReasons = 32
	subsystemShift   = 16

	// numReasons is how many are counted apart, and one for all others.
	numReasons = len(bpf.XentraceElsewhereCounters{}.Reasons)
)

const otherReasons = "other"

func reasonAt(index int) uint32 {
	if index < coreReasons {
		return uint32(index)
	}
	subsystem, number := (index-coreReasons)/subsystemReasons+1, (index-coreReasons)%subsystemReasons
	return uint32(subsystem)<<subsystemShift | uint32(number)
}

// nameReasons returns how often each reason was counted; nil where the kernel has none.
func nameReasons(counted *[numReasons]uint64, names *kernel.DropReasons) map[string]uint64 {
	if names == nil {
		return nil
	}
	named := make(map[string]uint64)
	for index, n := range counted {
		switch {
		case n == 0:
		case index == numReasons-1:
			named[otherReasons] += n
		default:
			named[names.Name(reasonAt(index))] += n
		}
	}
	return named
}

func (t *Tracer) fillReasons(totals *event.Totals) {
	totals.Drops = t.options.Drops
	switch {
	case t.elsewhere == nil:
		const reason = "drops elsewhere are counted with --drops all only"
		totals.Missing["elsewhere"], totals.Missing["reasons"] = reason, reason
	case t.elsewhere.reasons == nil:
		totals.Missing["reasons"] = "this kernel has no drop reasons"
	}
}
