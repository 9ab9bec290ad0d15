package trace

import (
	"github.com/cilium/ebpf/btf"
	"github.com/cilium/ebpf/link"

	"xentrace/internal/bpfload"
	"xentrace/internal/event"
	"xentrace/internal/kernel"
)

// countLost adds what the kernel lost outside the ring buffer, as far as it
// tells.
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
		totals.Missing["missed"] = "this kernel does not tell how often a kprobe was missed"
	}
	return nil
}

// tells is what this kernel tells of its own losses.
type tells struct {
	recursion bool
	missed    bool
}

// whatKernelTells asks the kernel's types: bpf_prog_info.recursion_misses came
// with 5.12; bpf_link_info tells of missed kprobes since 6.7, and only since
// then are recursion misses counted for kprobes.
func whatKernelTells(types *kernel.Types, b event.Backend) tells {
	missed := tellsMissed(types)
	return tells{recursion: bpfload.CountsRecursion(types) && (missed || b != event.Kprobe), missed: missed}
}

// recursion sums the runs that the kernel skipped; nil if it does not tell.
func (t *Tracer) recursion() (*uint64, error) {
	if !t.tells.recursion {
		return nil, nil
	}
	sum, err := bpfload.RecursionMisses(t.attachment.collection)
	return &sum, err
}

// missed returns how many entries and returns of xennet_start_xmit the kprobes
// missed; none if there are no kprobes.
func (t *Tracer) missed() (*uint64, error) {
	t.driver.mu.Lock() // hooks come and go with it
	defer t.driver.mu.Unlock()
	var missed uint64
	for i := range t.attachment.hooks {
		h := &t.attachment.hooks[i]
		if !h.inDriver() {
			continue
		}
		if !t.tells.missed {
			return nil, nil
		}
		missed += h.missed
		if h.link != nil {
			missed += missedBy(h.link)
		}
	}
	return &missed, nil
}

// missedBy returns how many hits a kprobe missed, as far as the kernel tells.
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

func tellsMissed(types *kernel.Types) bool {
	spec, err := types.Cache().Kernel()
	if err != nil {
		return false
	}
	var info *btf.Struct
	if err := spec.TypeByName("bpf_link_info", &info); err != nil {
		return false
	}
	return hasMember(info, "missed")
}

// hasMember looks into named members too.
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
