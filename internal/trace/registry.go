package trace

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/cilium/ebpf"

	"xentrace/bpf"
	"xentrace/internal/netdev"
)

type deviceKey struct {
	index int
	netns uint32
}

type watchedInterface struct {
	netdev.Interface
	slot        uint32 // index into the counters; 0 once it is gone
	firstCounts counts // counted for it before it was registered, and when it was there before
	finalCounts counts // once it is gone
	gone        bool
	driver      *generation // the driver's, as it was when the interface came

	base, final readings // when counting began and ended
	missing     string   // why tx_dropped is not known
}

// maxGone bounds the interfaces that are gone and have counts of their own: any user who may
// make interfaces can have very many appear.
const maxGone = 64

// A folded is what was counted for interfaces that are gone and not listed any more, of one
// driver.
type folded struct {
	counts
	driver     string // empty if they had several
	interfaces int
}

// registry holds the watched interfaces. It alone writes the BPF programs' table of them
// and allocates the indices of the counters.
type registry struct {
	mu        sync.Mutex
	table     interfaceTable
	counters  *ebpf.Map
	devices   *deviceCaches
	elsewhere *ebpf.Map              // counters of drops outside the driver; nil if they are not counted
	xdp       *ebpf.Map              // counters of frames of XDP; nil if they are not counted
	perCPU    []bpf.XentraceCounters // what is looked up is written to; nil at first
	active    map[deviceKey]*watchedInterface
	all       []*watchedInterface // in the order in which they came
	free      []uint32            // indices into the counters, the one longest free first

	early     counts            // index 0: packets of interfaces that were not registered yet
	lastEarly *watchedInterface // the one that the BPF programs reported last
	rest      map[*generation]*folded
	full      bool // an interface got no index, and is counted at index 0 for good

	known atomic.Pointer[map[deviceKey]knownInterface] // for records; replaced, never changed

	drivers *generations
	home    *netdev.Namespace // the process's own network namespace; nil if it is not open
}

func newRegistry(table, counters *ebpf.Map, devices *deviceCaches, drivers *generations) *registry {
	r := &registry{
		table:    interfaceTable{table},
		counters: counters,
		devices:  devices,
		active:   make(map[deviceKey]*watchedInterface),
		rest:     make(map[*generation]*folded),
		drivers:  drivers,
	}
	for slot := uint32(1); slot < counters.MaxEntries(); slot++ {
		r.free = append(r.free, slot)
	}
	r.publishKnown()
	return r
}

// close frees what readings need.
func (r *registry) close() error {
	if r.home == nil {
		return nil
	}
	return r.home.Close()
}

// knownInterface is what the records of an interface need.
type knownInterface struct {
	name   string // what it is called now, or was called last
	driver *generation
}

// lookUp returns what is known of an interface, gone or not.
func (r *registry) lookUp(key deviceKey) (knownInterface, bool) {
	i, known := (*r.known.Load())[key]
	return i, known
}

func (r *registry) publishKnown() {
	all := make(map[deviceKey]knownInterface, len(r.all))
	for _, w := range r.all {
		all[w.key()] = knownInterface{w.Name, w.driver}
	}
	r.known.Store(&all)
}

func (w *watchedInterface) key() deviceKey {
	return deviceKey{w.Index, w.Namespace}
}

func (r *registry) add(ctx context.Context, i netdev.Interface, reportedByBPF bool) (bool, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	key := deviceKey{i.Index, i.Namespace}
	if w := r.active[key]; w != nil {
		w.Interface = i
		r.publishKnown()
		if reportedByBPF { // of packets from before it was added
			r.lastEarly = w
			return false, r.settleEarly()
		}
		return false, nil
	}
	if len(r.free) == 0 {
		r.full = true
		return false, fmt.Errorf("%d interfaces are watched already; its packets are counted with those of others that came too late", len(r.active))
	}
	w := &watchedInterface{Interface: i, slot: r.free[0], driver: r.drivers.current()}
	from := newSpaces(r.home, slices.Values([]*watchedInterface{w}))
	r.readKernel(ctx, from, w, &w.base)
	_ = from.close() // only read from
	if err := r.clear(w.slot); err != nil {
		return false, err
	}
	if err := r.table.insert(key, w.slot, i.IsNetfront()); err != nil {
		return false, err
	}
	if err := r.devices.clear(); err != nil {
		return false, err
	}
	r.free = r.free[1:]
	r.active[key] = w
	r.list(w)
	if reportedByBPF {
		r.lastEarly = w
		if err := r.settleEarly(); err != nil {
			return false, err
		}
	}
	r.publishKnown()
	return true, nil
}

// list lists an interface. One that was there before, as after it was moved to another
// namespace and back, continues its entry: two entries differ in index or namespace.
func (r *registry) list(w *watchedInterface) {
	before := slices.IndexFunc(r.all, func(old *watchedInterface) bool { return old.gone && old.key() == w.key() })
	if before >= 0 {
		w.firstCounts.add(&r.all[before].firstCounts)
		w.firstCounts.add(&r.all[before].finalCounts)
		w.base.txDropped, w.missing = nil, "it was gone for a time, and its counter with it"
		r.all = slices.Delete(r.all, before, before+1)
	}
	r.all = append(r.all, w)
}

// settleEarly adds what was counted at index 0 to the interface that was reported last.
// That is wrong only if several appear at once.
func (r *registry) settleEarly() error {
	if r.full || r.lastEarly == nil {
		return nil
	}
	now, err := r.read(0)
	if err != nil {
		return err
	}
	difference := now.minus(&r.early)
	r.lastEarly.firstCounts.add(&difference)
	r.early = now
	return nil
}

func (r *registry) remove(key deviceKey) (netdev.Interface, bool, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	w := r.active[key]
	if w == nil {
		return netdev.Interface{}, false, nil
	}
	if err := errors.Join(r.table.remove(key), r.devices.clear()); err != nil {
		return w.Interface, true, err
	}
	if r.lastEarly == w {
		if err := r.settleEarly(); err != nil {
			return w.Interface, true, err
		}
		r.lastEarly = nil
	}
	final, err := r.read(w.slot)
	if err != nil {
		return w.Interface, true, err
	}
	w.finalCounts = final
	w.gone = true
	w.missing = "the interface is gone, and its counter with it"
	r.free = append(r.free, w.slot)
	w.slot = 0
	delete(r.active, key)
	r.fold()
	return w.Interface, true, nil
}

// fold adds the interface that is gone for longest to the rest, if more than maxGone are.
func (r *registry) fold() {
	if len(r.all)-len(r.active) <= maxGone {
		return
	}
	n := slices.IndexFunc(r.all, func(w *watchedInterface) bool { return w.gone })
	oldest := r.all[n]
	r.all = slices.Delete(r.all, n, n+1)
	f := r.rest[oldest.driver]
	if f == nil {
		f = &folded{driver: oldest.Driver}
		r.rest[oldest.driver] = f
	}
	if f.driver != oldest.Driver {
		f.driver = ""
	}
	f.interfaces++
	f.add(&oldest.firstCounts)
	f.add(&oldest.finalCounts)
	r.publishKnown()
}

// unlisted returns how many interfaces are counted together.
func (r *registry) unlisted() (n int) {
	for _, f := range r.rest {
		n += f.interfaces
	}
	return n
}

func (r *registry) anyNetfront() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, w := range r.active {
		if w.IsNetfront() {
			return true
		}
	}
	return false
}

// finish reads the final tx_dropped of every interface.
func (r *registry) finish(ctx context.Context) {
	r.readAll(ctx, func(w *watchedInterface) *readings { return &w.final })
}

// rebase reads tx_dropped again: counting begins now.
func (r *registry) rebase(ctx context.Context) {
	r.readAll(ctx, func(w *watchedInterface) *readings { return &w.base })
}

// readings are counters that the kernel keeps; nil where they cannot be read.
type readings struct {
	txDropped *uint64
	conntrack *netdev.Conntrack
}

// readKernel reads them. Those of connection tracking concern drops outside the driver.
func (r *registry) readKernel(ctx context.Context, from spaces, w *watchedInterface, into *readings) {
	read, err := readKernel(ctx, from, w.Interface, r.elsewhere != nil)
	if err != nil {
		w.missing = err.Error()
		return
	}
	*into = read
}

func readKernel(ctx context.Context, from spaces, i netdev.Interface, conntrack bool) (readings, error) {
	space, err := from.open(ctx, i.Namespace)
	if err != nil {
		return readings{}, err
	}
	counters, err := space.countersOf(i.Index)
	if err != nil {
		return readings{}, err
	}
	read := readings{txDropped: &counters.TxDropped}
	if conntrack {
		if counts, err := space.namespace.Conntrack(); err == nil {
			read.conntrack = &counts
		}
	}
	return read, nil
}

// readAll reads them of every interface that is there.
func (r *registry) readAll(ctx context.Context, into func(*watchedInterface) *readings) {
	r.mu.Lock()
	defer r.mu.Unlock()
	from := newSpaces(r.home, maps.Values(r.active))
	defer func() { _ = from.close() }() // only read from
	for _, w := range r.active {
		r.readKernel(ctx, from, w, into(w))
	}
}

// missing returns why a tx_dropped is unknown, if one is.
func (r *registry) missing() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	if n := r.unlisted(); n > 0 {
		return fmt.Sprintf("%d interfaces that are gone are counted together, as %q", n, restName)
	}
	i := slices.IndexFunc(r.all, func(w *watchedInterface) bool { return w.missing != "" })
	if i < 0 {
		return ""
	}
	return r.all[i].String() + ": " + r.all[i].missing
}
