package trace

import (
	"context"
	"time"

	"github.com/cilium/ebpf/btf"
	"github.com/cilium/ebpf/link"

	"xentrace/bpf"
	"xentrace/internal/bpfload"
	"xentrace/internal/event"
	"xentrace/internal/kernel"
)

// Totals returns what was counted until now, or until Stop.
func (t *Tracer) Totals(ctx context.Context) (event.Totals, error) {
	now := time.Now()
	if ended := t.ended.Load(); ended != nil {
		now = *ended
	}
	counted, err := t.registry.totals(ctx)
	if err != nil {
		return event.Totals{}, err
	}
	totals := event.Totals{
		Time:     now,
		Duration: now.Sub(t.started),
		Events:   t.events.Load(),
		Gaps:     t.gaps.list(),
		Missing:  make(map[string]string),

		Interfaces: make([]event.InterfaceTotals, 0, len(counted)),
	}
	noXDP := t.missingXDP()
	if noXDP != "" {
		totals.Missing["xdp_packets"], totals.Missing["xdp_dropped"] = noXDP, noXDP
	}
	for i := range counted {
		totals.Interfaces = append(totals.Interfaces, t.interfaceTotals(&counted[i], noXDP == ""))
		totals.Lost.Ring += counted[i].RingLost
	}
	if reason := t.registry.missing(); reason != "" {
		totals.Missing["tx_dropped_delta"] = reason
	}
	if !t.rejections.counted() {
		totals.Missing["rejected"] = t.rejections.missing
	}
	if t.options.Rate > 0 {
		totals.Suppressed = suppressedBy(counted)
	}
	t.fillReasons(&totals)
	t.stuck.fill(&totals)
	return totals, t.countLost(&totals)
}

func (t *Tracer) interfaceTotals(counted *interfaceTotals, xdp bool) event.InterfaceTotals {
	totals := counted.InterfaceTotals
	totals.Backend = t.choice.Backend
	totals.XDP = xdp
	if t.rejections.counted() { // another driver has no backend that could reject
		totals.Rejected = &counted.rejected
	}
	if t.elsewhere != nil {
		totals.Reasons = nameReasons(&counted.reasons, t.elsewhere.reasons)
	}
	return totals
}

// countLost adds what the kernel lost outside the ring buffer, as far as it
// counts that.
func (t *Tracer) countLost(totals *event.Totals) error {
	recursion, err := t.recursion()
	if err != nil {
		return err
	}
	totals.Lost.Recursion = recursion
	if recursion == nil {
		totals.Missing["recursion"] = bpfload.NoRecursionCount
		if t.choice.Backend == event.Kprobe {
			totals.Missing["recursion"] = "this kernel does not count kprobe program runs that it skipped for recursion"
		}
	}
	totals.Lost.Missed, err = t.missed()
	if err != nil {
		return err
	}
	if totals.Lost.Missed == nil {
		totals.Missing["missed"] = "this kernel does not count missed kprobes"
	}
	return nil
}

// Hooks returns how many hooks are attached, and how many should be and are not: those in
// a driver that is not loaded.
func (t *Tracer) Hooks() (attached, missing int) {
	t.driver.mu.Lock() // hooks come and go with it
	defer t.driver.mu.Unlock()
	for i := range t.attachment.hooks {
		if t.attachment.hooks[i].link != nil {
			attached++
		} else if !t.attachment.hooks[i].optional() {
			missing++
		}
	}
	return attached, missing
}

// lossCounters records which of its own losses this kernel counts.
type lossCounters struct {
	recursion bool
	missed    bool
}

// findLossCounters asks the kernel's types: bpf_prog_info.recursion_misses came
// with 5.12; bpf_link_info has missed kprobes since 6.7, and only since
// then are recursion misses counted for kprobes.
func findLossCounters(types *kernel.Types, b event.Backend) lossCounters {
	missed := countsMissed(types)
	return lossCounters{recursion: bpfload.CountsRecursion(types) && (missed || b != event.Kprobe), missed: missed}
}

// recursion sums the runs that the kernel skipped; nil if it does not count them.
func (t *Tracer) recursion() (*uint64, error) {
	if !t.losses.recursion {
		return nil, nil
	}
	sum, err := bpfload.RecursionMisses(t.attachment.collection)
	return &sum, err
}

// missed returns how many entries of xennet_start_xmit the kprobe missed; none if there
// is no kprobe.
func (t *Tracer) missed() (*uint64, error) {
	t.driver.mu.Lock() // hooks come and go with it
	defer t.driver.mu.Unlock()
	var missed uint64
	for i := range t.attachment.hooks {
		h := &t.attachment.hooks[i]
		if h.program != bpf.XentraceProgKprobeBegin {
			continue
		}
		if !t.losses.missed {
			return nil, nil
		}
		missed += h.missed
		if h.link != nil {
			missed += missedBy(h.link)
		}
	}
	return &missed, nil
}

// missedBy returns how many hits a kprobe missed; 0 where the kernel does not count them.
func missedBy(l link.Link) uint64 {
	info, err := l.Info()
	if err != nil {
		return 0
	}
	event := info.PerfEvent()
	if event == nil {
		return 0
	}
	probe := event.Kprobe()
	if probe == nil {
		return 0
	}
	return probe.Missed
}

func countsMissed(types *kernel.Types) bool {
	spec, err := types.Spec("")
	if err != nil || types.Lacks(kernel.MissedCounts) {
		return false
	}
	var info *btf.Struct
	if err := spec.TypeByName("bpf_link_info", &info); err != nil {
		return false
	}
	return hasMember(info, "missed")
}

func hasMember(t btf.Type, name string) bool {
	var members []btf.Member
	switch t := btf.UnderlyingType(t).(type) {
	case *btf.Struct:
		members = t.Members
	case *btf.Union:
		members = t.Members
	}
	for _, m := range members {
		if m.Name == name || hasMember(m.Type, name) {
			return true
		}
	}
	return false
}
