package congestion

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/btf"
	"github.com/cilium/ebpf/link"

	"xentrace/bpf"
	"xentrace/internal/kernel"
	"xentrace/internal/netfront"
	"xentrace/internal/trace"
)

// What a hook beside those that are always there serves. Without it the figures of
// that name are not known.
const (
	wakes         = "wakes"
	notifications = "notifications"
	copies        = "copies"
	completions   = "completions"
	accepts       = "accepts"
)

// tracepoints are hooked into on every kernel, the end of a packet before its begin.
var tracepoints = []struct{ program, name string }{
	{bpf.CongestionProgCongestionEnd, "net_dev_xmit"},
	{bpf.CongestionProgCongestionPoll, "napi_poll"},
	{bpf.CongestionProgCongestionState, "inet_sock_set_state"},
	{bpf.CongestionProgCongestionBegin, "net_dev_start_xmit"},
}

// functions are hooked into where the kernel allows it.
var functions = []struct {
	program, serves string
	netfront        bool // only its interfaces have any use for it
}{
	{bpf.CongestionProgCongestionWake, wakes, false},
	{bpf.CongestionProgCongestionAccept, accepts, false},
	{bpf.CongestionProgCongestionNotify, notifications, true},
	{bpf.CongestionProgCongestionFree, copies, true},
	{bpf.CongestionProgCongestionCompletion, completions, true},
}

// sizes are how much the kernel side has room for.
type sizes struct {
	interfaces uint32
	queuesEach uint32
}

// hooks is the kernel side in place.
type hooks struct {
	kernelSide
	others  []*ebpf.Collection // one for each hook that need not be there
	links   []link.Link
	missing map[string]string // why a hook is not there, by what it serves
	rings   bool              // the driver's ring can be read

	tellsMisses bool // the kernel counts program runs that it skipped: since 5.12
}

// attach loads and attaches everything that this kernel allows.
func attach(types *kernel.Types, room sizes, netfront bool) (*hooks, error) {
	spec, err := bpf.LoadCongestion()
	if err != nil {
		return nil, fmt.Errorf("kernel side: %w", err)
	}
	_, err = types.Field("", "bpf_prog_info", "recursion_misses")
	h := &hooks{missing: make(map[string]string), tellsMisses: err == nil}
	if err := h.configure(spec, types, room, netfront); err != nil {
		return nil, err
	}
	if err := h.load(spec, types.Cache()); err != nil {
		return nil, trace.Explain(err)
	}
	for _, t := range tracepoints {
		l, err := link.AttachRawTracepoint(link.RawTracepointOptions{Name: t.name, Program: h.collection.Programs[t.program]})
		if err != nil {
			return nil, errors.Join(fmt.Errorf("tracepoint %s: %w", t.name, trace.Explain(err)), h.close())
		}
		h.links = append(h.links, l)
	}
	for _, f := range functions {
		if _, known := h.missing[f.serves]; known || f.netfront && !netfront {
			continue
		}
		if err := h.hook(spec.Programs[f.program], f.program, spec, types.Cache()); err != nil {
			h.missing[f.serves] = fmt.Sprintf("%s cannot be hooked into: %v", spec.Programs[f.program].AttachTo, whyNot(err))
		}
	}
	return h, nil
}

// configure tells the kernel side of this kernel, and learns what cannot be measured.
func (h *hooks) configure(spec *ebpf.CollectionSpec, types *kernel.Types, room sizes, netfront bool) error {
	cfg := bpf.CongestionConfiguration{PageSize: uint32(os.Getpagesize()), PrivOffset: -1, BrokenOffset: -1, BounceOffset: -1}
	if there, err := types.HasFunction("", "bpf_rdonly_cast"); err == nil && there {
		cfg.TypedReads = 1
	}
	if offset, err := types.NetdevPrivOffset(); err == nil {
		cfg.PrivOffset = int32(offset)
	}
	if netfront {
		h.configureDriver(spec, types, &cfg)
	}
	pressure := bpf.CongestionTxQueueConfiguration{QueuesEach: room.queuesEach}
	switch n, err := types.Arguments("inet_csk_accept"); {
	case err != nil:
		h.missing[accepts] = err.Error()
	case n == 4: // up to 6.9
		spec.Programs[bpf.CongestionProgCongestionAccept] = spec.Programs[bpf.CongestionProgCongestionAcceptOfFour]
	case n != 2:
		h.missing[accepts] = fmt.Sprintf("inet_csk_accept has %d arguments, and only 2 and 4 are known", n)
	}
	for name, value := range map[string]any{bpf.CongestionVarConfig: cfg, bpf.CongestionVarTxQueueConfig: pressure} {
		if err := spec.Variables[name].Set(value); err != nil {
			return fmt.Errorf("configuration of the kernel side: %w", err)
		}
	}
	queues := room.interfaces * room.queuesEach
	spec.Maps[bpf.CongestionMapQueueCountersOf].MaxEntries = queues
	spec.Maps[bpf.CongestionMapTransmitStateOf].MaxEntries = queues
	spec.Maps[bpf.CongestionMapReceiveCountersOf].MaxEntries = room.interfaces
	return nil
}

// configureDriver tells of the driver's ring and how its packets are freed.
func (h *hooks) configureDriver(spec *ebpf.CollectionSpec, types *kernel.Types, cfg *bpf.CongestionConfiguration) {
	free, err := netfront.FindAnyContextFreeByType(types)
	if err != nil {
		h.missing[copies] = err.Error()
	}
	cfg.Consumed = uint32(free.Consumed)
	spec.Programs[bpf.CongestionProgCongestionFree].AttachTo = free.Symbol.Name
	ring, err := driverRing(types)
	if err != nil {
		h.missing[completions] = err.Error()
		return
	}
	layout := bpf.CongestionRingLayout{
		Id: ring.ID, Info: ring.Info, Netdev: ring.Netdev, RspCons: ring.RspCons, Sring: ring.Sring, Ring: ring.Ring,
		TxSkbs: ring.TxSkbs, ReqProdPvt: ring.ReqProdPvt, Queues: ring.Queues, QueueSize: ring.QueueSize,
	}
	if err := spec.Variables[bpf.CongestionVarRingLayout].Set(layout); err != nil {
		h.missing[completions] = err.Error()
		return
	}
	h.rings = true
}

// driverRing finds the ring in the driver's own types.
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

// load loads the programs that are always attached, and every map.
func (h *hooks) load(spec *ebpf.CollectionSpec, types *btf.Cache) error {
	first := spec.Copy()
	keepReferenced(first)
	first.Programs = make(map[string]*ebpf.ProgramSpec)
	for _, t := range tracepoints {
		first.Programs[t.program] = spec.Programs[t.program]
	}
	for _, name := range []string{bpf.CongestionProgReadRings, bpf.CongestionProgBeginRings} {
		first.Programs[name] = spec.Programs[name]
	}
	var err error
	if h.collection, err = ebpf.NewCollectionWithOptions(first, ebpf.CollectionOptions{Cache: types}); err != nil {
		return fmt.Errorf("programs: %w", err)
	}
	return nil
}

// hook loads one more program on the same maps and attaches it.
func (h *hooks) hook(program *ebpf.ProgramSpec, name string, spec *ebpf.CollectionSpec, types *btf.Cache) error {
	one := spec.Copy()
	one.Programs = map[string]*ebpf.ProgramSpec{name: program.Copy()}
	one.Variables = nil // they are in the shared maps
	keepReferenced(one)
	shared := make(map[string]*ebpf.Map)
	for m := range one.Maps {
		shared[m] = h.collection.Maps[m]
	}
	collection, err := ebpf.NewCollectionWithOptions(one, ebpf.CollectionOptions{Cache: types, MapReplacements: shared})
	if err != nil {
		return err
	}
	l, err := link.AttachTracing(link.TracingOptions{Program: collection.Programs[name]})
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

// misses sums the runs of programs that the kernel skipped.
func (h *hooks) misses() (uint64, error) {
	var sum uint64
	for _, collection := range append(slices.Clone(h.others), h.collection) {
		for name, program := range collection.Programs {
			statistics, err := program.Stats()
			if err != nil {
				return 0, fmt.Errorf("statistics of program %s: %w", name, err)
			}
			sum += statistics.RecursionMisses
		}
	}
	return sum, nil
}

// close detaches everything.
func (h *hooks) close() error {
	var err error
	for _, l := range h.links {
		err = errors.Join(err, l.Close())
	}
	for _, c := range h.others {
		c.Close()
	}
	h.collection.Close()
	return err
}
