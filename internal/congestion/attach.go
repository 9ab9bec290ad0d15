package congestion

import (
	"errors"
	"fmt"
	"os"
	"slices"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"

	"xentrace/bpf"
	"xentrace/internal/bpfload"
	"xentrace/internal/event"
	"xentrace/internal/kernel"
	"xentrace/internal/netfront"
	"xentrace/internal/trace"
)

// What the optional hooks measure. Without the hook that figure is missing.
const (
	wakes         = "wakes"
	notifications = "notifications"
	copies        = "copies"
	completions   = "completions"
	accepts       = "accepts"
)

type tracepoint struct{ program, name string }

// tracepoints are attached on every kernel, the end of a packet before its begin.
func (h *hooks) tracepoints() []tracepoint {
	begin := bpf.CongestionProgCongestionBeginTyped
	if h.untyped {
		begin = bpf.CongestionProgCongestionBegin
	}
	return []tracepoint{
		{bpf.CongestionProgCongestionEnd, "net_dev_xmit"},
		{bpf.CongestionProgCongestionPoll, "napi_poll"},
		{bpf.CongestionProgCongestionState, "inet_sock_set_state"},
		{begin, "net_dev_start_xmit"},
	}
}

// attach attaches its program. One that knows the types of its arguments has another type.
func (t tracepoint) attach(p *ebpf.Program) (link.Link, error) {
	if p.Type() == ebpf.Tracing {
		return link.AttachTracing(link.TracingOptions{Program: p})
	}
	return link.AttachRawTracepoint(link.RawTracepointOptions{Name: t.name, Program: p})
}

// A function of the kernel is attached to where the kernel allows it.
type function struct {
	program, name, serves string
	netfront              bool // of use for its interfaces only
}

// functions are all of them. Some names and programs differ between kernels.
func (h *hooks) functions() []function {
	return []function{
		{bpf.CongestionProgCongestionWake, "netif_tx_wake_queue", wakes, false},
		{h.accept, "inet_csk_accept", accepts, false},
		{bpf.CongestionProgCongestionNotify, "notify_remote_via_irq", notifications, true},
		{bpf.CongestionProgCongestionFree, h.free, copies, true},
		{bpf.CongestionProgCongestionCompletion, "xennet_tx_buf_gc", completions, true},
	}
}

type sizes struct {
	interfaces uint32
	queuesEach uint32
}

// hooks are the attached BPF programs.
type hooks struct {
	counters
	selection bpfload.Selection
	others    []*ebpf.Collection // one for each hook that need not be there
	links     []link.Link
	missing   map[string]string // why a hook is not there, by what it serves
	rings     bool              // the driver's ring can be read
	accept    string            // the program for this kernel's inet_csk_accept
	free      string            // this kernel's any-context free
	untyped   bool              // the kernel refuses programs that know a tracepoint's types
	exchange  bool              // the kernel has BPF's atomic exchange

	countsRecursion bool
}

func newHooks(types *kernel.Types) *hooks {
	exchange := !types.Lacks(kernel.AtomicExchange) && bpf.HasExchange()
	return &hooks{
		exchange:        exchange,
		missing:         make(map[string]string),
		countsRecursion: bpfload.CountsRecursion(types),
	}
}

// attach loads and attaches everything that this kernel allows.
func attach(types *kernel.Types, room sizes, netfront bool) (*hooks, error) {
	h := newHooks(types)
	h.configure(types, room, netfront)
	err := h.start()
	if err != nil {
		h.untyped = true
		err = h.start()
	}
	if err != nil {
		return nil, err
	}
	for _, f := range h.functions() {
		if _, known := h.missing[f.serves]; known || f.netfront && !netfront {
			continue
		}
		if err := h.hook(f.program); err != nil {
			h.missing[f.serves] = fmt.Sprintf("cannot attach to %s: %v", f.name, whyNot(err))
		}
	}
	h.selection.Types = nil // they take several MiB
	return h, nil
}

// configure sets what the programs have to know of this kernel, and finds out what
// cannot be measured.
func (h *hooks) configure(types *kernel.Types, room sizes, netfront bool) {
	cfg := bpf.CongestionConfiguration{
		PageSize: uint32(os.Getpagesize()), PrivOffset: -1, BrokenOffset: -1, BounceOffset: -1,
		SkbSpan: uint16(types.PacketSpan(bpf.SKBSpan)),
	}
	if types.AllowsTypedReads() {
		cfg.TypedReads = 1
	}
	if offset, err := types.NetdevPrivOffset(); err == nil {
		cfg.PrivOffset = int32(offset)
	}
	queues := room.interfaces * room.queuesEach
	queueConfig := bpf.CongestionTxQueueConfiguration{QueuesEach: room.queuesEach, CompletionSample: event.CompletionSample}
	if h.exchange {
		queueConfig.Exchange = 1
	}
	h.selection = bpfload.Selection{
		Types:     types,
		Variables: map[string]any{bpf.CongestionVarTxQueueConfig: queueConfig},
		MaxEntries: map[string]uint32{
			bpf.CongestionMapQueueCountersOf:   queues,
			bpf.CongestionMapTransmitStateOf:   queues,
			bpf.CongestionMapReceiveCountersOf: room.interfaces,
		},
	}
	if !h.exchange {
		h.selection.Edit = func(programs map[string]*ebpf.ProgramSpec) { bpf.RemoveExchanges(programs) }
	}
	if netfront {
		h.configureDriver(types, &cfg)
		if _, known := h.missing[completions]; !known && !h.exchange {
			h.missing[completions] = "this kernel's BPF programs have no atomic exchange"
		}
	}
	h.selection.Variables[bpf.CongestionVarConfig] = cfg
	h.accept = bpf.CongestionProgCongestionAccept
	switch n, err := types.Arguments("inet_csk_accept"); {
	case err != nil:
		h.missing[accepts] = err.Error()
	case n == 4: // up to 6.9
		h.accept = bpf.CongestionProgCongestionAcceptOfFour
	case n != 2:
		h.missing[accepts] = fmt.Sprintf("inet_csk_accept has %d arguments, and only 2 and 4 are known", n)
	}
}

func (h *hooks) configureDriver(types *kernel.Types, cfg *bpf.CongestionConfiguration) {
	free, err := netfront.FindAnyContextFreeByType(types)
	if err != nil {
		h.missing[copies] = err.Error()
	}
	cfg.Consumed, h.free = uint32(free.Consumed), free.Symbol.Name
	h.selection.AttachTo = map[string]string{bpf.CongestionProgCongestionFree: h.free}
	ring, err := driverRing(types)
	if err != nil {
		h.missing[completions] = err.Error()
		return
	}
	h.selection.Variables[bpf.CongestionVarRingLayout] = bpf.CongestionRingLayout{
		Id: ring.ID, Info: ring.Info, Netdev: ring.Netdev, RspCons: ring.RspCons, Sring: ring.Sring, Ring: ring.Ring,
		TxSkbs: ring.TxSkbs, ReqProdPvt: ring.ReqProdPvt, Queues: ring.Queues, QueueSize: ring.QueueSize,
	}
	h.rings = true
}

func driverRing(types *kernel.Types) (netfront.TransmitRing, error) {
	module, err := netfront.FindTyped(types)
	if errors.Is(err, kernel.ErrNoTypes) {
		return netfront.TransmitRing{}, errors.New("the structures of xen-netfront are not known: its module has no BTF type information, which kernels have for modules from 5.11 on")
	}
	if err != nil {
		return netfront.TransmitRing{}, err
	}
	ring, err := netfront.RingOf(types, module)
	if err != nil {
		return ring, fmt.Errorf("the structures of xen-netfront are not as expected: %w", err)
	}
	if ring.RspCons != ring.ReqProdPvt+4 {
		return ring, errors.New("the structures of xen-netfront are not as expected: the indices of its ring do not lie next to each other")
	}
	return ring, nil
}

// start loads the programs of the tracepoints and attaches them.
func (h *hooks) start() error {
	if err := h.load(); err != nil {
		return trace.Explain(err)
	}
	for _, t := range h.tracepoints() {
		l, err := t.attach(h.collection.Programs[t.program])
		if err != nil {
			return errors.Join(fmt.Errorf("tracepoint %s: %w", t.name, trace.Explain(err)), h.close())
		}
		h.links = append(h.links, l)
	}
	return nil
}

func (h *hooks) load() error {
	s := h.selection
	s.Programs = []string{bpf.CongestionProgReadRings, bpf.CongestionProgBeginRings}
	for _, t := range h.tracepoints() {
		s.Programs = append(s.Programs, t.program)
	}
	for _, f := range h.functions() {
		s.MapsOf = append(s.MapsOf, f.program)
	}
	var err error
	h.collection, err = bpfload.Load(bpf.CongestionObject(), s)
	return err
}

// hook loads one more program on the same maps and attaches it.
func (h *hooks) hook(program string) error {
	s := h.selection
	s.Programs, s.Shared = []string{program}, h.collection
	collection, err := bpfload.Load(bpf.CongestionObject(), s)
	if err != nil {
		return err
	}
	l, err := link.AttachTracing(link.TracingOptions{Program: collection.Programs[program]})
	if err != nil {
		collection.Close()
		return err
	}
	h.others = append(h.others, collection)
	h.links = append(h.links, l)
	return nil
}

// whyNot is short where the whole kernel lacks it: every figure that needs it repeats it.
func whyNot(err error) error {
	if errors.Is(err, os.ErrPermission) {
		return errors.New("this kernel refuses programs of the type fexit")
	}
	return trace.Explain(err)
}

// misses sums the runs of programs that the kernel skipped.
func (h *hooks) misses() (uint64, error) {
	return bpfload.RecursionMisses(append(slices.Clone(h.others), h.collection)...)
}

func (h *hooks) close() error {
	var err error
	for _, l := range h.links {
		err = errors.Join(err, l.Close())
	}
	for _, c := range h.others {
		c.Close()
	}
	h.collection.Close()
	h.links, h.others = nil, nil
	return err
}
