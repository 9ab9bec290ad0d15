package trace

import (
	"errors"
	"strings"
	"testing"

	"github.com/cilium/ebpf"

	"xentrace/bpf"
	"xentrace/internal/event"
	"xentrace/internal/kernel"
	"xentrace/internal/netdev"
	"xentrace/test/need"
)

// tracepointWithout attaches the tracepoint backend to lo on a kernel that lacks a feature.
func tracepointWithout(t *testing.T, lacking ...kernel.Feature) *attachment {
	t.Helper()
	need.Root(t, "to load BPF programs")
	c := &chooser{
		options:    Options{Interfaces: []string{"lo"}, Records: true, RingBytes: DefaultRingBytes},
		interfaces: []netdev.Interface{{}}, facts: &facts{types: kernel.NewTypes().Without(lacking...)},
		rejections: rejections{missing: "not asked for"},
	}
	a, err := c.attach(event.Tracepoint)
	if err != nil {
		t.Fatalf("without %v: %v", lacking, err)
	}
	t.Cleanup(func() {
		if err := a.close(); err != nil {
			t.Error(err)
		}
	})
	return a
}

func TestTracepointWithoutTypes(t *testing.T) {
	a := tracepointWithout(t, kernel.TypedTracepoints, kernel.TypedReads, kernel.VariableAddress)
	if p := a.collection.Programs[bpf.XentraceProgTracepointBegin]; p == nil || p.Type() != ebpf.RawTracepoint {
		t.Errorf("programs %v, want %s", a.collection.Programs, bpf.XentraceProgTracepointBegin)
	}
}

// A kernel that does not run programs attaches, and the next packet settles the one before.
func TestSettlingWithoutRuns(t *testing.T) {
	need.Root(t, "to load BPF programs")
	for _, test := range []struct {
		lacking []kernel.Feature
		settles bool
	}{{nil, true}, {[]kernel.Feature{kernel.ProgramRuns}, false}} {
		types := kernel.NewTypes().Without(test.lacking...)
		collection, err := loadPrograms(types, bpf.XentraceProgSettlePackets)
		if err != nil {
			t.Fatal(err)
		}
		a := &attachment{collection: collection}
		if err := a.trySettling(); errors.Is(err, ebpf.ErrNotSupported) == test.settles || a.settles() != test.settles {
			t.Errorf("without %v: error %v, settles: %v", test.lacking, err, a.settles())
		}
		if _, err := a.settle(); err != nil {
			t.Errorf("without %v: %v", test.lacking, err)
		}
		if err := a.close(); err != nil {
			t.Error(err)
		}
	}
}

func TestCodeReaderWithoutRuns(t *testing.T) {
	need.Root(t, "to load BPF programs")
	f := &facts{types: kernel.NewTypes().Without(kernel.ProgramRuns), symbols: &kernel.Symbols{}}
	reader, err := newCodeReader(f.types)
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Close()
	if err := reader.ReadCode(t.Context(), 0xffffffff81000000, make([]byte, 8)); !errors.Is(err, ebpf.ErrNotSupported) {
		t.Errorf("error %v, want %v", err, ebpf.ErrNotSupported)
	}
}

func TestHoldersWithoutIterators(t *testing.T) {
	f := newHolderFinder(kernel.NewTypes().Without(kernel.Iterators))
	_, err := f.find(event.Wanted{Inodes: []uint64{1}})
	if !errors.Is(err, errors.ErrUnsupported) || len(f.privileges()) != 2 {
		t.Errorf("error %v, privileges %v; want the search of /proc", err, f.privileges())
	}
}

func TestLossCountersWithout(t *testing.T) {
	types := kernel.NewTypes()
	if l := findLossCounters(types.Without(kernel.RecursionCounts), event.Tracepoint); l.recursion {
		t.Errorf("%+v: no kernel counts what it lacks", l)
	}
	if l := findLossCounters(types.Without(kernel.MissedCounts), event.Kprobe); l.recursion || l.missed {
		t.Errorf("%+v: kprobes have neither count", l)
	}
}

func TestListsWithoutLoops(t *testing.T) {
	if err := loops(kernel.NewTypes().Without(kernel.Loops)); err == nil || !strings.Contains(err.Error(), "--drops-hook tracepoint") {
		t.Errorf("error %v, want what works instead", err)
	}
}
