package trace

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/cilium/ebpf"

	"xentrace/internal/netdev"
)

type deviceKey struct {
	index int
	netns uint32
}

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

// registry holds the watched interfaces. It alone writes the BPF programs' table of them
// and allocates the indices of the counters.
type registry struct {
	mu        sync.Mutex
	table     interfaceTable
	counters  *ebpf.Map
	elsewhere *ebpf.Map // counters of drops outside the driver; nil if they are not counted
	active    map[deviceKey]*watchedInterface
	all       []*watchedInterface // in the order in which they came
	free      []uint32            // indices into the counters, the one longest free first

	early     counts            // index 0: packets of interfaces that were not registered yet
	lastEarly *watchedInterface // the one that the BPF programs reported last
	full      bool              // an interface got no index, and is counted at index 0 for good

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
	if reportedByBPF {
		r.lastEarly = w
		if err := r.settleEarly(); err != nil {
			return false, err
		}
	}
	r.publishKnown()
	return true, nil
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

// txDropped reads the interface's own counter. The namespace is not kept open, which would
// keep it alive.
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
