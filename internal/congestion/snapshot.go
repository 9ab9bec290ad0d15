package congestion

import (
	"context"
	"fmt"
	"os"
	"time"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"xentrace/bpf"
	"xentrace/internal/event"
	"xentrace/internal/netdev"
)

// A Snapshot is everything that was counted until one moment.
type Snapshot struct {
	wall       time.Time
	monotonic  uint64 // nanoseconds, as the BPF programs stamp
	interfaces []measured
	queues     [][]queueCounts // by interface
	receive    []receiveCounts
	events     []*netdev.EventChannels // nil where the kernel does not count them
	tcp        map[uint32]tcpCounts
	listen     map[uint32]listenCounts
	listeners  map[uint32]map[uint16]bpf.CongestionListener
	machine    machineCounts
	missed     uint64
	missing    map[string]string
}

// Snapshot reads the counters. It changes nothing: readers do not disturb each other.
func (m *Meter) Snapshot(ctx context.Context) (*Snapshot, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	s := &Snapshot{
		interfaces: append([]measured(nil), m.interfaces...),
		tcp:        make(map[uint32]tcpCounts), listen: make(map[uint32]listenCounts),
		listeners: make(map[uint32]map[uint16]bpf.CongestionListener), missing: make(map[string]string),
	}
	for n, inum := range m.spaces {
		var err error
		if s.tcp[inum], err = m.hooks.tcp(uint32(n)); err != nil {
			return nil, err
		}
		if s.listeners[inum], err = m.hooks.listeners(inum); err != nil {
			return nil, err
		}
		if !m.measures(inum) {
			continue // it may have ended: looking for it would take long
		}
		if counts, err := readListen(ctx, inum); err == nil {
			s.listen[inum] = counts
		} else {
			s.missing["listen"] = err.Error()
		}
	}
	s.machine = readMachine()
	var err error
	if s.missed, err = m.hooks.misses(); err != nil {
		return nil, err
	}
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &now); err != nil {
		return nil, fmt.Errorf("clock: %w", err)
	}
	s.wall, s.monotonic = time.Now(), uint64(now.Nano())
	for index := range m.interfaces {
		if err := s.read(m, uint32(index)); err != nil {
			return nil, err
		}
	}
	return s, nil
}

func (s *Snapshot) read(m *Meter, index uint32) error {
	received, err := m.hooks.receive(index)
	if err != nil {
		return err
	}
	s.receive = append(s.receive, received)
	s.events = append(s.events, nil)
	if i := s.interfaces[index]; i.IsNetfront() {
		if counts, err := netdev.ReadEventChannels(os.DirFS("/"), i.BusInfo); err == nil {
			s.events[index] = &counts
		}
	}
	var queues []queueCounts
	for queue := range m.room.queuesEach {
		c, err := m.hooks.queue(index*m.room.queuesEach+queue, s.monotonic)
		if err != nil {
			return err
		}
		queues = append(queues, c)
	}
	s.queues = append(s.queues, queues)
	return nil
}

// Reports returns one for each interface, of the time between two snapshots. One that
// was gone at the first of them is left out.
func (m *Meter) Reports(before, now *Snapshot) []event.CongestionReport {
	var reports []event.CongestionReport
	for n := range now.interfaces {
		if now.continues(n, before) && before.interfaces[n].gone {
			continue
		}
		reports = append(reports, m.report(n, before, now))
	}
	return reports
}

// continues reports whether the interface with that index is the one that it was before.
func (s *Snapshot) continues(n int, before *Snapshot) bool {
	return n < len(before.interfaces) && before.interfaces[n].life == s.interfaces[n].life
}

// A Reader reports what was counted since its own last report. Each has its own
// baseline, so several do not disturb each other.
type Reader struct {
	*Meter
	before *Snapshot
}

// NewReader returns one whose first reports are of the time since the start.
func (m *Meter) NewReader() *Reader { return &Reader{m, m.begun} }

// Reports returns one for each interface, of the time since the last call.
func (r *Reader) Reports(ctx context.Context) ([]event.CongestionReport, error) {
	now, err := r.Snapshot(ctx)
	if err != nil {
		return nil, err
	}
	reports := r.Meter.Reports(r.before, now)
	r.before = now
	return reports, nil
}

// A Ring is the state of a transmit ring: the driver's own indices.
type Ring struct {
	Requests  uint32 // req_prod_pvt: slots put on it since it was connected
	Responses uint32 // rsp_cons: slots whose TX response was handled
}

// InUse is how many of its slots are.
func (r Ring) InUse() uint32 { return r.Requests - r.Responses }

// Rings reads the present state of an interface's rings, apart from what is counted. It is nil where the driver's structures are not known.
func (m *Meter) Rings(i netdev.Interface) ([]Ring, error) {
	if !m.hooks.rings || !i.IsNetfront() {
		return nil, nil
	}
	return m.hooks.readRings(bpf.CongestionProgReadRings, i)
}

func (m *Meter) beginRings(i netdev.Interface) error {
	if !m.hooks.rings || !i.IsNetfront() {
		return nil
	}
	_, err := m.hooks.readRings(bpf.CongestionProgBeginRings, i)
	return err
}

func (k counters) readRings(program string, i netdev.Interface) ([]Ring, error) {
	arguments := [2]uint64{uint64(i.Index), uint64(i.Namespace)}
	status, err := k.collection.Programs[program].Run(&ebpf.RunOptions{Context: arguments})
	if err != nil {
		return nil, fmt.Errorf("transmit rings of %s: %w", i, err)
	}
	if status != 0 {
		return nil, fmt.Errorf("transmit rings of %s: not found", i)
	}
	var now bpf.CongestionRingsNow
	if err := k.collection.Maps[bpf.CongestionMapRingsNow].Lookup(uint32(0), &now); err != nil {
		return nil, fmt.Errorf("transmit rings of %s: %w", i, err)
	}
	rings := make([]Ring, min(int(now.Count), len(now.Indices)))
	for n := range rings {
		rings[n] = Ring{now.Indices[n].ReqProdPvt, now.Indices[n].RspCons}
	}
	return rings, nil
}
