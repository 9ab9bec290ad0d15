// Package congestion measures the pressure on a network interface: how much is sent
// and in what pieces, how full the transmit ring is, how long the backend takes, and
// how connections fare meanwhile. Everything is added up in the kernel; no packet
// makes an event.
package congestion

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/cilium/ebpf/rlimit"
	"golang.org/x/sys/unix"

	"xentrace/bpf"
	"xentrace/internal/event"
	"xentrace/internal/kernel"
	"xentrace/internal/netdev"
	"xentrace/internal/trace"
)

// The kernel side's bounds: more queues of an interface share the last place, more
// namespaces' connections are not counted.
const (
	mostQueues    = 64
	mostSpaces    = 16
	mostListeners = 8 // told of

	// Where interfaces are not named, room is kept for those to come.
	laterInterfaces = 16
	laterQueues     = 8
	lookInterval    = time.Second // for them
)

// Options says what to measure.
type Options struct {
	// Interfaces names interfaces in the caller's network namespace. Empty means every
	// interface driven by xen-netfront in any namespace, those that appear later too.
	Interfaces []string
	Wait       bool // wait for an interface to appear instead of failing

	// Notify is told, in whole sentences, what a user should know.
	Notify func(sentence string)
}

// A Meter measures until it is closed.
type Meter struct {
	options Options
	room    sizes
	hooks   *hooks

	mu         sync.Mutex
	interfaces []netdev.Interface // by their place in the kernel side
	spaces     []uint32           // network namespaces of the interfaces
	before     snapshot

	cancel  context.CancelFunc // of the looking for more interfaces
	looking sync.WaitGroup
}

// Start attaches. It returns once every hook that this kernel allows is in place.
// Errors that wrap [trace.ErrCannotRun] say what this machine lacks.
func Start(ctx context.Context, o Options) (*Meter, error) {
	if err := trace.CheckKernel(); err != nil {
		return nil, err
	}
	if err := rlimit.RemoveMemlock(); err != nil {
		return nil, fmt.Errorf("limit of locked memory: %w", err)
	}
	interfaces, err := trace.FindInterfaces(ctx, trace.Options{Interfaces: o.Interfaces, Wait: o.Wait, Notify: o.Notify})
	if err != nil {
		return nil, err
	}
	m := &Meter{options: o, room: roomFor(interfaces, len(o.Interfaces) > 0)}
	netfront := slices.ContainsFunc(interfaces, netdev.Interface.IsNetfront)
	if m.hooks, err = attach(kernel.NewTypes(), m.room, netfront); err != nil {
		return nil, fmt.Errorf("%w: %w", trace.ErrCannotRun, err)
	}
	if err := m.begin(ctx, interfaces); err != nil {
		return nil, errors.Join(err, m.Close())
	}
	return m, nil
}

// roomFor is how much place the interfaces take; more where others may come.
func roomFor(interfaces []netdev.Interface, named bool) sizes {
	room := sizes{uint32(len(interfaces)), 1}
	if !named {
		room = sizes{uint32(len(interfaces) + laterInterfaces), laterQueues}
	}
	for _, i := range interfaces {
		room.queuesEach = min(max(room.queuesEach, uint32(i.Queues)), mostQueues)
	}
	return room
}

// begin registers the interfaces and lets the counting begin.
func (m *Meter) begin(ctx context.Context, interfaces []netdev.Interface) error {
	for _, i := range interfaces {
		if err := m.register(i); err != nil {
			return err
		}
	}
	var err error
	if m.before, err = m.snapshot(ctx); err != nil {
		return err
	}
	if err := m.hooks.collection.Variables[bpf.CongestionVarEnabled].Set(uint32(1)); err != nil {
		return fmt.Errorf("switch of the kernel side: %w", err)
	}
	looking, cancel := context.WithCancel(context.WithoutCancel(ctx))
	m.cancel = cancel
	if len(m.options.Interfaces) == 0 {
		m.looking.Go(func() { m.look(looking) })
	}
	return nil
}

// register gives an interface the next place in the kernel side.
func (m *Meter) register(i netdev.Interface) error {
	if len(m.interfaces) == int(m.room.interfaces) {
		return fmt.Errorf("interface %s: %d interfaces are measured already", i, len(m.interfaces))
	}
	if !slices.Contains(m.spaces, i.Namespace) && len(m.spaces) < mostSpaces {
		m.spaces = append(m.spaces, i.Namespace)
		var spaces [mostSpaces]uint32
		copy(spaces[:], m.spaces)
		if err := m.hooks.collection.Variables[bpf.CongestionVarNamespaces].Set(spaces); err != nil {
			return fmt.Errorf("namespaces for the kernel side: %w", err)
		}
	}
	table := m.hooks.collection.Maps[bpf.CongestionMapInterfaces]
	if err := trace.RegisterInterface(table, i, uint32(len(m.interfaces))); err != nil {
		return err
	}
	m.interfaces = append(m.interfaces, i)
	return m.beginRings(i)
}

// look registers interfaces that appear, until ctx ends.
func (m *Meter) look(ctx context.Context) {
	ticker := time.NewTicker(lookInterval)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		found, err := trace.FindInterfaces(ctx, trace.Options{})
		if err != nil {
			continue // none is there at the moment, or none can be looked for
		}
		m.mu.Lock()
		for _, i := range found {
			known := slices.ContainsFunc(m.interfaces, func(o netdev.Interface) bool { return o.Index == i.Index && o.Namespace == i.Namespace })
			if known {
				continue
			}
			if err := m.register(i); err != nil {
				m.notify(err.Error())
				m.mu.Unlock()
				return
			}
			m.notify(fmt.Sprintf("interface %s appeared and is measured from now on", i))
		}
		m.mu.Unlock()
	}
}

func (m *Meter) notify(sentence string) {
	if m.options.Notify != nil {
		m.options.Notify(sentence)
	}
}

// Close detaches every hook.
func (m *Meter) Close() error {
	if m.cancel != nil {
		m.cancel()
	}
	m.looking.Wait()
	return m.hooks.close()
}

// DropPrivileges gives up what is not needed any more, for the whole process and for
// good. It keeps CAP_BPF and CAP_PERFMON, to read what is counted, and, unless the interfaces
// are named, CAP_SYS_ADMIN and CAP_SYS_PTRACE for those of other network namespaces.
func (m *Meter) DropPrivileges() error {
	keep := []kernel.Capability{unix.CAP_BPF, unix.CAP_PERFMON}
	if len(m.options.Interfaces) == 0 {
		keep = append(keep, unix.CAP_SYS_ADMIN, unix.CAP_SYS_PTRACE)
	}
	return kernel.KeepOnly(keep...)
}

// Interfaces returns what is measured.
func (m *Meter) Interfaces() []netdev.Interface {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.interfaces)
}

// Missing says which figures cannot be had on this kernel, and why.
func (m *Meter) Missing() map[string]string { return m.hooks.missing }

// Reports returns one for each interface, of the time since the last call, or since
// the start.
func (m *Meter) Reports(ctx context.Context) ([]event.CongestionReport, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	now, err := m.snapshot(ctx)
	if err != nil {
		return nil, err
	}
	var reports []event.CongestionReport
	for n := range m.interfaces {
		reports = append(reports, m.report(n, &m.before, &now))
	}
	m.before = now
	return reports, nil
}

// snapshot is everything that was counted until one moment.
type snapshot struct {
	wall      time.Time
	monotonic uint64          // nanoseconds, as the kernel side stamps
	queues    [][]queueCounts // by interface
	receive   []receiveCounts
	tcp       map[uint32]tcpCounts
	listen    map[uint32]listenCounts
	listeners map[uint32]map[uint16]bpf.CongestionListener
	machine   machineCounts
	missed    uint64
	missing   map[string]string
}

func (m *Meter) snapshot(ctx context.Context) (snapshot, error) {
	s := snapshot{
		tcp: make(map[uint32]tcpCounts), listen: make(map[uint32]listenCounts),
		listeners: make(map[uint32]map[uint16]bpf.CongestionListener), missing: make(map[string]string),
	}
	for n, inum := range m.spaces {
		var err error
		if s.tcp[inum], err = m.hooks.tcp(uint32(n)); err != nil {
			return s, err
		}
		if s.listeners[inum], err = m.hooks.listeners(inum); err != nil {
			return s, err
		}
		if s.listen[inum], err = readListen(ctx, inum); err != nil {
			s.missing["listen"] = err.Error()
		}
	}
	s.machine = readMachine()
	var err error
	if s.missed, err = m.hooks.misses(); err != nil {
		return s, err
	}
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &now); err != nil {
		return s, fmt.Errorf("clock: %w", err)
	}
	s.wall, s.monotonic = time.Now(), uint64(now.Nano())
	for place := range m.interfaces {
		received, err := m.hooks.receive(uint32(place))
		if err != nil {
			return s, err
		}
		s.receive = append(s.receive, received)
		var queues []queueCounts
		for queue := range m.room.queuesEach {
			c, err := m.hooks.queue(uint32(place)*m.room.queuesEach+queue, s.monotonic)
			if err != nil {
				return s, err
			}
			queues = append(queues, c)
		}
		s.queues = append(s.queues, queues)
	}
	return s, nil
}
