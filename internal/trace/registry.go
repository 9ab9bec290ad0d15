package trace

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/cilium/ebpf"

	"xentrace/bpf"
	"xentrace/internal/event"
	"xentrace/internal/netdev"
)

// deviceKey tells interfaces apart in the kernel side.
type deviceKey struct {
	index int
	netns uint32
}

// watchedInterface is one interface that is counted apart from the others.
type watchedInterface struct {
	netdev.Interface
	slot        uint32 // index into the counters; 0 once it is gone
	firstCounts counts // counted for it before it was registered
	finalCounts counts // once it is gone
	gone        bool
	driver      *generation // the driver's, as it was when the interface came

	txDroppedBase  *uint64
	txDroppedFinal *uint64
	missing        string // why tx_dropped is not known
}

// registry knows the watched interfaces. It alone writes the kernel side's
// table of them and hands out the places in the counters.
type registry struct {
	mu        sync.Mutex
	table     interfaceTable
	counters  *ebpf.Map
	elsewhere *ebpf.Map // counters of drops outside the driver; nil if they are not counted
	active    map[deviceKey]*watchedInterface
	all       []*watchedInterface // in the order in which they came
	free      []uint32            // places in the counters, the one longest free first

	early     counts            // place 0: packets of interfaces that were not registered yet
	lastEarly *watchedInterface // the one that the kernel side told of last
	crowded   bool              // an interface found no place, and is counted in place 0 for good

	known atomic.Pointer[map[deviceKey]knownInterface] // for records; replaced, never changed

	drivers *generations
}

func newRegistry(table, counters *ebpf.Map, drivers *generations) *registry {
	r := &registry{
		table:    interfaceTable{table},
		counters: counters,
		active:   make(map[deviceKey]*watchedInterface),
		drivers:  drivers,
	}
	for slot := uint32(1); slot < counters.MaxEntries(); slot++ {
		r.free = append(r.free, slot)
	}
	r.publishKnown()
	return r
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

// add begins to count the interface apart from others. It reports whether the
// interface was new.
func (r *registry) add(ctx context.Context, i netdev.Interface, toldByKernel bool) (bool, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	key := deviceKey{i.Index, i.Namespace}
	if w := r.active[key]; w != nil {
		w.Interface = i
		r.publishKnown()
		if toldByKernel { // of packets from before it was added
			r.lastEarly = w
			return false, r.settleEarly()
		}
		return false, nil
	}
	if len(r.free) == 0 {
		r.crowded = true
		return false, fmt.Errorf("%d interfaces are watched already; its packets are counted with those of others that came too late", len(r.active))
	}
	w := &watchedInterface{Interface: i, slot: r.free[0], driver: r.drivers.current()}
	w.readTxDropped(ctx, &w.txDroppedBase)
	if err := r.clear(w.slot); err != nil {
		return false, err
	}
	if err := r.table.insert(key, w.slot, i.IsNetfront()); err != nil {
		return false, err
	}
	r.free = r.free[1:]
	r.active[key] = w
	r.all = append(r.all, w)
	if toldByKernel {
		r.lastEarly = w
		if err := r.settleEarly(); err != nil {
			return false, err
		}
	}
	r.publishKnown()
	return true, nil
}

// settleEarly gives what was counted in place 0 to the interface that came
// last: a place holds one interface's packets unless several appear at the same
// moment.
func (r *registry) settleEarly() error {
	if r.crowded || r.lastEarly == nil {
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

// remove ends the counting of an interface that is gone and frees its place.
func (r *registry) remove(key deviceKey) (netdev.Interface, bool, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	w := r.active[key]
	if w == nil {
		return netdev.Interface{}, false, nil
	}
	if err := r.table.remove(key); err != nil {
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
	return w.Interface, true, nil
}

// anyNetfront tells whether an interface of xen-netfront is watched now.
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

// finish takes the final tx_dropped of every interface.
func (r *registry) finish(ctx context.Context) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, w := range r.active {
		w.readTxDropped(ctx, &w.txDroppedFinal)
	}
}

// rebase takes tx_dropped anew: counting begins now.
func (r *registry) rebase(ctx context.Context) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, w := range r.active {
		w.readTxDropped(ctx, &w.txDroppedBase)
	}
}

func (w *watchedInterface) readTxDropped(ctx context.Context, into **uint64) {
	value, err := txDropped(ctx, w.Interface)
	if err != nil {
		w.missing = err.Error()
		return
	}
	*into = &value
}

// txDropped reads the interface's own counter. The namespace is not kept open:
// that would keep it alive.
func txDropped(ctx context.Context, i netdev.Interface) (uint64, error) {
	namespace, err := netdev.OpenNamespace(ctx, i.Namespace)
	if err != nil {
		return 0, err
	}
	counters, err := namespace.Counters(i.Index)
	if err := errors.Join(err, namespace.Close()); err != nil {
		return 0, err
	}
	return counters.TxDropped, nil
}

// totals returns what was counted for every interface so far. It waits for the driver's
// code to be read where causes depend on that; interfaces are registered meanwhile.
func (r *registry) totals(ctx context.Context) ([]interfaceTotals, error) {
	all, err := r.counted(ctx)
	if err != nil {
		return nil, err
	}
	for i := range all {
		if err := all[i].driver.refineCounts(ctx, &all[i].Counts); err != nil {
			return nil, err
		}
	}
	return all, nil
}

// counted returns the counts as the BPF programs have them.
func (r *registry) counted(ctx context.Context) ([]interfaceTotals, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := r.settleEarly(); err != nil {
		return nil, err
	}
	all := make([]interfaceTotals, 0, len(r.all)+1)
	for _, w := range r.all {
		t, err := r.interfaceTotals(ctx, w)
		if err != nil {
			return nil, err
		}
		all = append(all, t)
	}
	others, err := r.read(0)
	if err != nil {
		return nil, err
	}
	if others := others.minus(&r.early); others.Packets+others.Elsewhere != 0 {
		t := event.InterfaceTotals{Driver: netdev.DriverNetfront, Counts: others.Counts}
		all = append(all, interfaceTotals{t, others.rejected, others.reasons, r.drivers.lastRead()})
	}
	return all, nil
}

func (r *registry) interfaceTotals(ctx context.Context, w *watchedInterface) (interfaceTotals, error) {
	sum := w.finalCounts
	if !w.gone {
		var err error
		if sum, err = r.read(w.slot); err != nil {
			return interfaceTotals{}, err
		}
	}
	sum.add(&w.firstCounts)
	t := event.InterfaceTotals{
		Device: event.Device{Name: w.Name, Index: w.Index, NetNS: w.Namespace},
		Driver: w.Driver,
		Gone:   w.gone,
		Counts: sum.Counts,
		Queues: w.Queues,
	}
	final := w.txDroppedFinal
	if final == nil && !w.gone {
		w.readTxDropped(ctx, &final)
	}
	if w.txDroppedBase != nil && final != nil {
		delta := *final - *w.txDroppedBase
		t.TxDroppedDelta = &delta
	}
	return interfaceTotals{t, sum.rejected, sum.reasons, w.driver}, nil
}

// missing says why a tx_dropped is not known, if one is not.
func (r *registry) missing() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	i := slices.IndexFunc(r.all, func(w *watchedInterface) bool { return w.missing != "" })
	if i < 0 {
		return ""
	}
	return r.all[i].String() + ": " + r.all[i].missing
}

func (r *registry) clear(slot uint32) error {
	cpus, err := ebpf.PossibleCPU()
	if err != nil {
		return fmt.Errorf("number of CPUs: %w", err)
	}
	if err := r.counters.Put(slot, make([]bpf.XentraceCounters, cpus)); err != nil {
		return fmt.Errorf("counters of a new interface: %w", err)
	}
	if r.elsewhere == nil {
		return nil
	}
	if err := r.elsewhere.Put(slot, make([]bpf.XentraceElsewhereCounters, cpus)); err != nil {
		return fmt.Errorf("counters of a new interface: %w", err)
	}
	return nil
}

func (r *registry) read(slot uint32) (counts, error) {
	var perCPU []bpf.XentraceCounters
	if err := r.counters.Lookup(slot, &perCPU); err != nil {
		return counts{}, fmt.Errorf("counters of the kernel side: %w", err)
	}
	var sum counts
	for i := range perCPU {
		c := countsOf(&perCPU[i])
		sum.add(&c)
	}
	return sum, r.readElsewhere(slot, &sum)
}

// readElsewhere adds the drops outside the driver.
func (r *registry) readElsewhere(slot uint32, sum *counts) error {
	if r.elsewhere == nil {
		return nil
	}
	var perCPU []bpf.XentraceElsewhereCounters
	if err := r.elsewhere.Lookup(slot, &perCPU); err != nil {
		return fmt.Errorf("counters of the kernel side: %w", err)
	}
	for i := range perCPU {
		sum.Elsewhere += perCPU[i].Dropped
		for n, count := range perCPU[i].Reasons {
			sum.reasons[n] += count
		}
	}
	return nil
}
