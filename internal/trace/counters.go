package trace

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/cilium/ebpf"

	"xentrace/bpf"
	"xentrace/internal/bpfload"
	"xentrace/internal/event"
	"xentrace/internal/netdev"
	"xentrace/internal/netfront"
)

// counts is event.Counts with what only some runs measure.
type counts struct {
	event.Counts
	rejected   uint64
	reasons    [numReasons]uint64      // of drops outside the driver, see reasonAt
	suppressed [numSuppressions]uint64 // records that were not made, see suppressionAt
}

// interfaceTotals is event.InterfaceTotals likewise.
type interfaceTotals struct {
	event.InterfaceTotals
	rejected   uint64
	reasons    [numReasons]uint64
	suppressed [numSuppressions]uint64
	driver     *generation // that the packets were handed to
}

func countsOf(c *bpf.XentraceCounters) counts {
	sum := counts{
		Counts: event.Counts{
			Bytes:      c.Bytes,
			Slots:      c.Slots,
			OverLimit:  c.OverLimit,
			Dropped:    c.Dropped,
			Linearized: c.Linearized,
			Bounced:    c.Bounced,
			Causes:     c.Causes,
			RingLost:   c.RingLost,
		},
		rejected:   c.Rejected,
		suppressed: c.Suppressed,
	}
	sum.Packets = sum.Slots.Packets()
	return sum
}

// each sets every number to f of it and the same of another.
func (c *counts) each(other *counts, f func(a, b uint64) uint64) {
	c.Each(&other.Counts, f)
	c.rejected = f(c.rejected, other.rejected)
	for i := range c.reasons {
		c.reasons[i] = f(c.reasons[i], other.reasons[i])
	}
	for i := range c.suppressed {
		c.suppressed[i] = f(c.suppressed[i], other.suppressed[i])
	}
}

func (c *counts) add(other *counts) { c.each(other, event.Plus) }

func (c *counts) minus(other *counts) counts {
	difference := *c
	difference.each(other, func(a, b uint64) uint64 { return a - b })
	return difference
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
	return joined(all), nil
}

// restName is the name of the entry of all interfaces that have none of their own: those that
// are gone for long, and those that came when too many were watched.
const restName = event.RestName

// joined makes one entry of those without an interface, which come last.
func joined(all []interfaceTotals) []interfaceTotals {
	first := slices.IndexFunc(all, func(t interfaceTotals) bool { return t.Index == 0 })
	if first < 0 {
		return all
	}
	rest := &all[first]
	rest.Name = restName
	for _, more := range all[first+1:] {
		sum := counts{rest.Counts, rest.rejected, rest.reasons, rest.suppressed}
		sum.add(&counts{more.Counts, more.rejected, more.reasons, more.suppressed})
		rest.Counts, rest.rejected, rest.reasons, rest.suppressed = sum.Counts, sum.rejected, sum.reasons, sum.suppressed
		if rest.Driver != more.Driver {
			rest.Driver = ""
		}
	}
	return all[:first+1]
}

func (r *registry) counted(ctx context.Context) ([]interfaceTotals, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := r.settleEarly(); err != nil {
		return nil, err
	}
	all := make([]interfaceTotals, 0, len(r.all)+1)
	from := newSpaces(r.home, maps.Values(r.active))
	defer func() { _ = from.close() }() // only read from
	for _, w := range r.all {
		t, err := r.interfaceTotals(ctx, from, w)
		if err != nil {
			return nil, err
		}
		all = append(all, t)
	}
	for driver, f := range r.rest {
		all = append(all, interfaceTotals{event.InterfaceTotals{Driver: f.driver, Counts: f.Counts}, f.rejected, f.reasons, f.suppressed, driver})
	}
	others, err := r.read(0)
	if err != nil {
		return nil, err
	}
	if others := others.minus(&r.early); others.Packets+others.Elsewhere+others.XDPPackets+others.XDPDropped != 0 {
		t := event.InterfaceTotals{Driver: netdev.DriverNetfront, Counts: others.Counts}
		all = append(all, interfaceTotals{t, others.rejected, others.reasons, others.suppressed, r.drivers.lastRead()})
	}
	return all, nil
}

func (r *registry) interfaceTotals(ctx context.Context, from spaces, w *watchedInterface) (interfaceTotals, error) {
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
	final := w.final
	if final.txDropped == nil && !w.gone {
		r.readKernel(ctx, from, w, &final)
	}
	if w.base.txDropped != nil && final.txDropped != nil {
		delta := *final.txDropped - *w.base.txDropped
		t.TxDroppedDelta = &delta
	}
	if before, now := w.base.conntrack, final.conntrack; before != nil && now != nil {
		t.Conntrack = &event.Conntrack{
			InsertFailed: now.InsertFailed - before.InsertFailed, Dropped: now.Dropped - before.Dropped, EarlyDropped: now.EarlyDropped - before.EarlyDropped,
		}
	}
	return interfaceTotals{t, sum.rejected, sum.reasons, sum.suppressed, w.driver}, nil
}

func (r *registry) clear(slot uint32) error {
	cpus, err := ebpf.PossibleCPU()
	if err != nil {
		return fmt.Errorf("number of CPUs: %w", err)
	}
	if err := r.counters.Put(slot, make([]bpf.XentraceCounters, cpus)); err != nil {
		return fmt.Errorf("counters of a new interface: %w", err)
	}
	if r.xdp != nil {
		if err := r.xdp.Put(slot, make([]bpf.XentraceXdpCounters, cpus)); err != nil {
			return fmt.Errorf("counters of a new interface: %w", err)
		}
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
	into := any(r.perCPU)
	if r.perCPU == nil {
		into = &r.perCPU
	}
	if err := r.counters.Lookup(slot, into); err != nil {
		return counts{}, fmt.Errorf("counters of the BPF programs: %w", err)
	}
	var sum counts
	for i := range r.perCPU {
		c := countsOf(&r.perCPU[i])
		sum.add(&c)
	}
	err := errors.Join(r.readElsewhere(slot, &sum), r.readXDP(slot, &sum))
	return sum, err
}

// readElsewhere adds the drops outside the driver.
func (r *registry) readElsewhere(slot uint32, sum *counts) error {
	if r.elsewhere == nil {
		return nil
	}
	var perCPU []bpf.XentraceElsewhereCounters
	if err := r.elsewhere.Lookup(slot, &perCPU); err != nil {
		return fmt.Errorf("counters of the BPF programs: %w", err)
	}
	for i := range perCPU {
		sum.Elsewhere += perCPU[i].Dropped
		for n, count := range perCPU[i].Reasons {
			sum.reasons[n] += count
		}
	}
	return nil
}

// collectFunction consumes TX responses from the ring and frees what was sent, whatever the
// status.
const collectFunction = "xennet_tx_buf_gc"

// rejections records whether packets that the backend rejected are counted, else why not.
type rejections struct {
	ring    netfront.TransmitRing
	missing string // empty: they are counted
}

func (r *rejections) counted() bool { return r.missing == "" }

// learnRejections finds out whether this kernel and backend can count them.
func (f *facts) learnRejections(asked bool, b event.Backend) rejections {
	switch {
	case !asked:
		return rejections{missing: "rejected packets are counted with --rejected only"}
	case b == event.Tracepoint:
		return rejections{missing: "the tracepoint backend does not see TX responses; fentry and kprobe do"}
	case !f.typed:
		return rejections{missing: "the structures of xen-netfront are not known: its module has no BTF type information, which kernels have for modules from 5.11 on"}
	}
	if there, err := f.types.HasFunction(f.module, collectFunction); err != nil || !there {
		return rejections{missing: fmt.Sprintf("this driver has no function %s of its own, which handles TX responses", collectFunction)}
	}
	ring, err := netfront.RingOf(f.types, f.module)
	if err != nil {
		return rejections{missing: fmt.Sprintf("the structures of xen-netfront are not as expected: %v", err)}
	}
	return rejections{ring: ring}
}

func (r *rejections) configure(s *bpfload.Selection) {
	if !r.counted() {
		return
	}
	s.Variables[bpf.XentraceVarRingLayout] = bpf.XentraceRingLayout{
		Id:      r.ring.ID,
		Info:    r.ring.Info,
		Netdev:  r.ring.Netdev,
		RspCons: r.ring.RspCons,
		Sring:   r.ring.Sring,
		Ring:    r.ring.Ring,
		TxSkbs:  r.ring.TxSkbs,
	}
}

// MissingAnswers returns why TX responses cannot be seen; empty if they can.
func (t *Tracer) MissingAnswers() string { return t.rejections.missing }
