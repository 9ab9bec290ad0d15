package bpfload

import (
	"bytes"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/rlimit"

	"xentrace/bpf"
	"xentrace/internal/kernel"
	"xentrace/test/need"
)

// refusedWithout are the programs that a kernel without a feature does not load; another way
// of the same work replaces each. All others load.
func refusedWithout(feature kernel.Feature, p *ebpf.ProgramSpec) bool {
	switch feature {
	case kernel.TypedTracepoints:
		return p.AttachType == ebpf.AttachTraceRawTp
	case kernel.Trampolines:
		return p.AttachType == ebpf.AttachTraceFEntry || p.AttachType == ebpf.AttachTraceFExit
	case kernel.Iterators:
		return p.AttachType == ebpf.AttachTraceIter
	case kernel.Kprobes:
		return p.Type == ebpf.Kprobe
	case kernel.Loops:
		return p.Name == bpf.XentraceProgKprobeElsewhereList
	}
	return false
}

// typedArguments are programs that load a pointer and calculate with it, which kernels that have
// typed reads may forbid otherwise (6.18 does). Raw tracepoints and kprobes replace them.
var typedArguments = map[string]bool{
	bpf.XentraceProgTracepointBeginTyped: true, bpf.XentraceProgFentryBegin: true, bpf.CongestionProgCongestionBeginTyped: true,
}

// changes reports whether a feature makes a difference to a program: it is loaded once
// for all others.
func changes(feature kernel.Feature, p *ebpf.ProgramSpec) bool {
	if refusedWithout(feature, p) {
		return true
	}
	return slices.ContainsFunc(p.Instructions, func(ins asm.Instruction) bool {
		switch feature {
		case kernel.TypedReads:
			return ins.IsKfuncCall()
		case kernel.AtomicExchange:
			return needsOf(&ins) == feature
		case kernel.ProgramRuns:
			return p.AttachTo == onlyRun
		}
		return false
	})
}

// Every program loads into a kernel without any one of the features, except those that
// another program replaces there.
func TestEveryProgramWithoutEachFeature(t *testing.T) {
	need.Root(t, "to load BPF programs")
	if err := rlimit.RemoveMemlock(); err != nil {
		t.Fatal(err)
	}
	own := kernel.NewTypes()
	for object, file := range map[string][]byte{"xentrace": bpf.XentraceObject(), "congestion": bpf.CongestionObject()} {
		all, err := ebpf.LoadCollectionSpecFromReader(bytes.NewReader(file))
		if err != nil {
			t.Fatal(err)
		}
		refused := map[kernel.Feature]int{}
		for name, p := range all.Programs {
			if err := loadAlone(file, all, own, name); err != nil {
				t.Errorf("%s: %v", name, err)
			}
			for _, use := range kernel.Features() {
				if !changes(use.Feature, p) {
					continue
				}
				err := loadAlone(file, all, own.Without(use.Feature), name)
				if use.Feature == kernel.TypedReads && typedArguments[name] {
					continue
				}
				if want := refusedWithout(use.Feature, p); want != (err != nil) {
					t.Errorf("%s without %s: refused: %v, want %v", name, use.Feature, err, want)
				} else if want {
					refused[use.Feature]++
				}
			}
		}
		for feature, n := range refused {
			if n == len(all.Programs) {
				t.Errorf("%s without %s: no program is left", object, feature)
			}
		}
	}
}

// loadAlone loads one program as its users do. Programs on functions are loaded for a
// tracepoint with the same kinds of arguments: this kernel may lack the function.
func loadAlone(file []byte, all *ebpf.CollectionSpec, types *kernel.Types, name string) error {
	p, more := all.Programs[name], hasMoreArguments(name)
	onFunction := p.AttachType == ebpf.AttachTraceFEntry || p.AttachType == ebpf.AttachTraceFExit
	s := Selection{Programs: []string{name}, Types: types, NoLog: true, Variables: map[string]any{}}
	if types.AllowsTypedReads() && p.Type == ebpf.Tracing && !more {
		s.Variables[bpf.XentraceVarConfig] = typedConfiguration(all)
	}
	removeExchanges := func(programs map[string]*ebpf.ProgramSpec) {
		if types.Lacks(kernel.AtomicExchange) {
			bpf.RemoveExchanges(programs)
		}
	}
	if onFunction {
		alone := p.Copy()
		removeExchanges(map[string]*ebpf.ProgramSpec{name: alone})
		if err := withoutFeatures(types, name, alone); err != nil {
			return err
		}
		s.Types = types.Without() // whether the tracepoint is typed is not the question
	}
	s.Edit = func(programs map[string]*ebpf.ProgramSpec) {
		removeExchanges(programs)
		switch p := programs[name]; {
		case onFunction && more:
			p.Type, p.AttachType, p.AttachTo = ebpf.RawTracepoint, ebpf.AttachNone, ""
		case onFunction:
			p.Type, p.AttachType, p.AttachTo = ebpf.Tracing, ebpf.AttachTraceRawTp, "net_dev_start_xmit"
		}
	}
	collection, err := Load(file, s)
	if err == nil {
		collection.Close()
	}
	return err
}

// hasMoreArguments reports whether a program reads arguments that the tracepoint has not.
func hasMoreArguments(name string) bool {
	return strings.HasPrefix(name, bpf.CongestionProgCongestionAccept) || name == bpf.XentraceProgFexitXdp
}

func typedConfiguration(object *ebpf.CollectionSpec) any {
	if object.Programs[bpf.XentraceProgReadCode] == nil {
		return bpf.CongestionConfiguration{PageSize: 4096, TypedReads: 1, PrivOffset: 64}
	}
	return bpf.XentraceConfiguration{PageSize: 4096, TypedReads: 1, DriverHooks: 1, Records: 1, Stacks: 1, Snap: 256, Rate: 1, PrivOffset: 64, BrokenOffset: 1, BounceOffset: 2}
}

// The table in the documents is that of the code.
func TestFeaturesPage(t *testing.T) {
	page, err := os.ReadFile("../../docs/features.md")
	if err != nil {
		t.Fatal(err)
	}
	rows := 0
	for _, use := range kernel.Features() {
		row := "| " + strings.Join([]string{string(use.Feature), use.UsedFor, use.Instead, use.Lost}, " | ") + " |\n"
		if !strings.Contains(string(page), row) {
			t.Errorf("no row\n%s", row)
		}
		rows++
	}
	if _, table, _ := strings.Cut(string(page), "## Features\n\n| without | used for | instead | lost |\n|---|---|---|---|\n"); strings.Count(table, "\n| ")+1 != rows {
		t.Errorf("%d rows, want %d", strings.Count(table, "\n| ")+1, rows)
	}
}
