// Package congestion measures the pressure on a network interface: how much is sent
// and in what packet sizes, how full the TX ring is, the completion time, and
// the state of connections. Everything is added up in the kernel; no packet
// makes an event.
package congestion

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"slices"
	"sync"
	"time"

	"xentrace/bpf"
	"xentrace/internal/event"
	"xentrace/internal/kernel"
	"xentrace/internal/netdev"
	"xentrace/internal/trace"
)

// Bounds of the BPF programs: further queues of an interface share the last entry,
// connections of further namespaces are not counted.
const (
	maxQueues     = 64
	maxNamespaces = 16
	maxListeners  = 8 // that are reported

	// Interfaces that may still appear, and the queues of those that are not named.
	spareInterfaces = 16
	spareQueues     = 8
)

// Options select what to measure.
type Options struct {
	// Interfaces names interfaces in the caller's network namespace. Empty means every
	// interface driven by xen-netfront in any namespace, those that appear later too.
	Interfaces []string
	Wait       bool   // wait for an interface to appear instead of failing
	BTF        string // file of the kernel's types; empty for those it shows, or that are found

	// Notify receives what a user should know, in one goroutine at a time.
	Notify func(event.Notice)
}

// A Meter measures until it is closed.
type Meter struct {
	options Options
	room    sizes
	hooks   *hooks

	mu         sync.Mutex
	interfaces []measured // by their index in the BPF programs' counters
	departures int        // of interfaces
	spaces     []uint32   // network namespaces of the interfaces
	begun      *Snapshot

	cancel    context.CancelFunc // of following the interfaces
	following sync.WaitGroup
}

type measured struct {
	netdev.Interface
	gone bool
	left int // how many had left before it, if it is gone
	life int // how many had the same index in the counters before it
}

// Start attaches. It returns once every hook that this kernel allows is attached.
// Errors that wrap [trace.ErrCannotRun] name what this machine lacks.
func Start(ctx context.Context, o Options) (*Meter, error) {
	types, err := trace.CheckKernel(o.BTF)
	if err != nil {
		return nil, err
	}
	if types.Learned() {
		return nil, fmt.Errorf("%w: congestion needs more of the kernel's types than xentrace learn finds; name its vmlinux with --btf FILE", trace.ErrCannotRun)
	}
	interfaces, err := trace.FindInterfaces(ctx, trace.Options{Interfaces: o.Interfaces, Wait: o.Wait, Notify: o.Notify})
	if err != nil {
		return nil, err
	}
	m := &Meter{options: o, room: roomFor(interfaces, len(o.Interfaces) > 0)}
	netfront := slices.ContainsFunc(interfaces, netdev.Interface.IsNetfront)
	if m.hooks, err = attach(types, m.room, netfront); err != nil {
		return nil, fmt.Errorf("%w: %w", trace.ErrCannotRun, err)
	}
	if err := m.begin(ctx, interfaces); err != nil {
		return nil, errors.Join(err, m.Close())
	}
	return m, nil
}

// roomFor is how many entries the interfaces need, with spare ones.
func roomFor(interfaces []netdev.Interface, named bool) sizes {
	room := sizes{uint32(len(interfaces) + spareInterfaces), 1}
	if !named {
		room.queuesEach = spareQueues
	}
	for _, i := range interfaces {
		room.queuesEach = min(max(room.queuesEach, uint32(i.Queues)), maxQueues)
	}
	return room
}

func (m *Meter) begin(ctx context.Context, interfaces []netdev.Interface) error {
	for _, i := range interfaces {
		if err := m.register(i); err != nil {
			return err
		}
	}
	var err error
	if m.begun, err = m.Snapshot(ctx); err != nil {
		return err
	}
	if err := m.hooks.collection.Variables[bpf.CongestionVarEnabled].Set(uint32(1)); err != nil {
		return fmt.Errorf("switch of the BPF programs: %w", err)
	}
	following, cancel := context.WithCancel(context.WithoutCancel(ctx))
	m.cancel = cancel
	events, done, err := trace.WatchInterfaces(following, m.options.Interfaces)
	if err != nil {
		return fmt.Errorf("watch for interfaces: %w", err)
	}
	m.following.Go(func() {
		defer done()
		m.follow(events)
	})
	m.following.Go(func() { m.freeTypes(following) })
	return nil
}

// freeTypes frees what starting took, once the caller has reported that the meter is ready.
func (m *Meter) freeTypes(ctx context.Context) {
	select {
	case <-time.After(100 * time.Millisecond):
		debug.FreeOSMemory()
	case <-ctx.Done():
	}
}

func (m *Meter) register(i netdev.Interface) error {
	index, err := m.freeIndex()
	if err != nil {
		return err
	}
	if !slices.Contains(m.spaces, i.Namespace) && len(m.spaces) < maxNamespaces {
		m.spaces = append(m.spaces, i.Namespace)
		var spaces [maxNamespaces]uint32
		copy(spaces[:], m.spaces)
		if err := m.hooks.collection.Variables[bpf.CongestionVarNamespaces].Set(spaces); err != nil {
			return fmt.Errorf("namespaces for the BPF programs: %w", err)
		}
	}
	table := m.hooks.collection.Maps[bpf.CongestionMapInterfaces]
	if err := trace.RegisterInterface(table, i, uint32(index)); err != nil {
		return err
	}
	if index == len(m.interfaces) {
		m.interfaces = append(m.interfaces, measured{Interface: i})
	} else {
		m.interfaces[index] = measured{Interface: i, life: m.interfaces[index].life + 1}
	}
	return m.beginRings(i)
}

// freeIndex returns the index of a new interface: once all were used, that of the one that is
// gone for longest. Its counters run on, of which readers take differences.
func (m *Meter) freeIndex() (int, error) {
	if n := len(m.interfaces); n < int(m.room.interfaces) {
		return n, nil
	}
	longest := -1
	for n := range m.interfaces {
		if m.interfaces[n].gone && (longest < 0 || m.interfaces[n].left < m.interfaces[longest].left) {
			longest = n
		}
	}
	if longest < 0 {
		return 0, fmt.Errorf("%d interfaces are measured already", len(m.interfaces))
	}
	return longest, m.hooks.clearState(uint32(longest)*m.room.queuesEach, m.room.queuesEach)
}

// follow measures interfaces that appear, and keeps the names of those that are there,
// until ctx ends.
func (m *Meter) follow(events <-chan netdev.Event) {
	for change := range events {
		switch change.Kind {
		case netdev.Appeared, netdev.Renamed, netdev.Changed:
			m.present(change)
		case netdev.Disappeared, netdev.Moved:
			m.leave(change.Interface)
		case netdev.Failed:
			m.notify(trace.NamespaceNotice(change))
		}
	}
}

func (m *Meter) present(change netdev.Event) {
	i := change.Interface
	m.mu.Lock()
	defer m.mu.Unlock()
	if n := m.find(i); n >= 0 {
		m.interfaces[n].Interface = i
		if change.Kind == netdev.Renamed {
			renamed := trace.InterfaceNotice(event.NoticeInterfaceRenamed, i, nil)
			renamed.Previous = change.Previous.Name
			m.notify(renamed)
		}
		return
	}
	if !trace.Wanted(m.options.Interfaces, i) {
		return
	}
	if err := m.register(i); err != nil {
		m.notify(trace.InterfaceNotice(event.NoticeInterfaceFailed, i, err))
		return
	}
	m.notify(trace.InterfaceNotice(event.NoticeInterfaceAdded, i, nil))
}

func (m *Meter) leave(i netdev.Interface) {
	m.mu.Lock()
	defer m.mu.Unlock()
	n := m.find(i)
	if n < 0 {
		return
	}
	m.interfaces[n].gone, m.interfaces[n].left = true, m.departures
	m.departures++
	if err := trace.UnregisterInterface(m.hooks.collection.Maps[bpf.CongestionMapInterfaces], i); err != nil {
		m.notify(trace.InterfaceNotice(event.NoticeInterfaceFailed, i, err))
	}
	m.notify(trace.InterfaceNotice(event.NoticeInterfaceRemoved, i, nil))
}

// find returns the index of an interface that is there, or -1.
func (m *Meter) find(i netdev.Interface) int {
	return slices.IndexFunc(m.interfaces, func(o measured) bool {
		return !o.gone && o.Index == i.Index && o.Namespace == i.Namespace
	})
}

// measures reports whether an interface of that namespace is there.
func (m *Meter) measures(netns uint32) bool {
	return slices.ContainsFunc(m.interfaces, func(i measured) bool { return !i.gone && i.Namespace == netns })
}

func (m *Meter) notify(n event.Notice) {
	if m.options.Notify != nil {
		n.Time = time.Now()
		m.options.Notify(n)
	}
}

// Close detaches every hook.
func (m *Meter) Close() error {
	if m.cancel != nil {
		m.cancel()
	}
	m.following.Wait()
	return m.hooks.close()
}

// DropPrivileges becomes the user and drops, for the whole process and for good, all
// privileges but those that measuring needs, see [trace.KeepPrivileges].
func (m *Meter) DropPrivileges(user kernel.User) error {
	return trace.KeepPrivileges(user, m.options.Interfaces)
}

// Interfaces returns those that are measured and there.
func (m *Meter) Interfaces() []netdev.Interface {
	m.mu.Lock()
	defer m.mu.Unlock()
	var there []netdev.Interface
	for _, i := range m.interfaces {
		if !i.gone {
			there = append(there, i.Interface)
		}
	}
	return there
}

// Missing returns which figures cannot be measured on this kernel, and why.
func (m *Meter) Missing() map[string]string { return m.hooks.missing }
