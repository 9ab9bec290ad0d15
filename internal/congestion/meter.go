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
	"time"

	"github.com/cilium/ebpf/rlimit"
	"golang.org/x/sys/unix"

	"xentrace/bpf"
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
)

// Options says what to measure.
type Options struct {
	// Interfaces names interfaces in the caller's network namespace. Empty means every
	// interface driven by xen-netfront in any namespace.
	Interfaces []string
	Wait       bool // wait for an interface to appear instead of failing

	// Notify is told, in whole sentences, what a user should know.
	Notify func(sentence string)
}

// A Meter measures until it is closed.
type Meter struct {
	interfaces []netdev.Interface
	spaces     []uint32 // network namespaces of the interfaces
	queuesEach uint32
	hooks      *hooks
	before     snapshot
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
	m := &Meter{interfaces: interfaces, queuesEach: 1}
	netfront := false
	for _, i := range interfaces {
		m.queuesEach = min(max(m.queuesEach, uint32(i.Queues)), mostQueues)
		netfront = netfront || i.IsNetfront()
		if !slices.Contains(m.spaces, i.Namespace) && len(m.spaces) < mostSpaces {
			m.spaces = append(m.spaces, i.Namespace)
		}
	}
	room := sizes{uint32(len(interfaces)), m.queuesEach}
	if m.hooks, err = attach(kernel.NewTypes(), room, netfront); err != nil {
		return nil, fmt.Errorf("%w: %w", trace.ErrCannotRun, err)
	}
	if err := m.begin(ctx); err != nil {
		return nil, errors.Join(err, m.Close())
	}
	return m, nil
}

// begin registers the interfaces and lets the counting begin.
func (m *Meter) begin(ctx context.Context) error {
	collection := m.hooks.collection
	for place, i := range m.interfaces {
		if err := trace.RegisterInterface(collection.Maps[bpf.CongestionMapInterfaces], i, uint32(place)); err != nil {
			return err
		}
	}
	var spaces [mostSpaces]uint32
	copy(spaces[:], m.spaces)
	if err := collection.Variables[bpf.CongestionVarNamespaces].Set(spaces); err != nil {
		return fmt.Errorf("namespaces for the kernel side: %w", err)
	}
	before, err := m.snapshot(ctx)
	if err != nil {
		return err
	}
	m.before = before
	if err := m.beginRings(); err != nil {
		return err
	}
	if err := collection.Variables[bpf.CongestionVarEnabled].Set(uint32(1)); err != nil {
		return fmt.Errorf("switch of the kernel side: %w", err)
	}
	return nil
}

// Close detaches every hook.
func (m *Meter) Close() error { return m.hooks.close() }

// Interfaces returns what is measured.
func (m *Meter) Interfaces() []netdev.Interface { return slices.Clone(m.interfaces) }

// Missing says which figures cannot be had on this kernel, and why.
func (m *Meter) Missing() map[string]string { return m.hooks.missing }

// Reports returns one for each interface, of the time since the last call, or since
// the start.
func (m *Meter) Reports(ctx context.Context) ([]Report, error) {
	now, err := m.snapshot(ctx)
	if err != nil {
		return nil, err
	}
	var reports []Report
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
		for queue := range m.queuesEach {
			c, err := m.hooks.queue(uint32(place)*m.queuesEach+queue, s.monotonic)
			if err != nil {
				return s, err
			}
			queues = append(queues, c)
		}
		s.queues = append(s.queues, queues)
	}
	return s, nil
}
