package bpfload

import (
	"testing"

	"github.com/cilium/ebpf"

	"xentrace/bpf"
	"xentrace/internal/kernel"
)

// whole is the object with all its programs.
func whole(t *testing.T) *ebpf.CollectionSpec {
	t.Helper()
	s, err := bpf.LoadXentrace()
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// selected is what is left of the object.
func selected(t *testing.T, s *Selection) *ebpf.CollectionSpec {
	t.Helper()
	spec, err := parse(bpf.XentraceObject(), s.named(), false)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.trim(spec); err != nil {
		t.Fatal(err)
	}
	return spec
}

// What is selected is left, with the maps that it refers to and those of programs to come.
func TestTrim(t *testing.T) {
	all := whole(t)
	s := Selection{Programs: []string{bpf.XentraceProgReadCode}}
	one := selected(t, &s)
	if len(one.Programs) != 1 || one.Programs[bpf.XentraceProgReadCode] == nil || one.Maps[bpf.XentraceMapCode] == nil || len(one.Maps) >= len(all.Maps) {
		t.Errorf("%d programs, %d maps of %d", len(one.Programs), len(one.Maps), len(all.Maps))
	}
	for name, v := range one.Variables {
		if one.Maps[v.SectionName] == nil {
			t.Errorf("variable %s is in map %s, which is not loaded", name, v.SectionName)
		}
	}
	s.MapsOf = []string{bpf.XentraceProgReadQueues}
	two := selected(t, &s)
	if len(two.Programs) != 1 || two.Maps[bpf.XentraceMapQueuesNow] == nil {
		t.Errorf("%d programs, maps %v: want the map of the program to come", len(two.Programs), two.Maps)
	}
	if err := (&Selection{Programs: []string{"none"}}).trim(all); err == nil {
		t.Error("no error for a program that is not in the object")
	}
}

// Values go where they are selected; those of maps and variables that are not are ignored.
func TestSet(t *testing.T) {
	s := Selection{
		Types:      kernel.NewTypes(),
		Programs:   []string{bpf.XentraceProgFentryFree},
		AttachTo:   map[string]string{bpf.XentraceProgFentryFree: "a_function"},
		Variables:  map[string]any{bpf.XentraceVarConfig: bpf.XentraceConfiguration{PageSize: 16384}},
		MaxEntries: map[string]uint32{bpf.XentraceMapEvents: 1 << 16, bpf.XentraceMapCode: 7},
	}
	one := selected(t, &s)
	if err := s.set(one); err != nil {
		t.Fatal(err)
	}
	var config bpf.XentraceConfiguration
	if err := one.Variables[bpf.XentraceVarConfig].Get(&config); err != nil || config.PageSize != 16384 {
		t.Errorf("page size %d, %v", config.PageSize, err)
	}
	if got := one.Programs[bpf.XentraceProgFentryFree].AttachTo; got != "a_function" {
		t.Errorf("attaches to %q", got)
	}
	if m := one.Maps[bpf.XentraceMapEvents]; m == nil || m.MaxEntries != 1<<16 {
		t.Errorf("ring buffer %v", m)
	}
	s.Variables[bpf.XentraceVarConfig] = struct{ Wrong [3]byte }{}
	if err := s.set(one); err == nil {
		t.Error("no error for a value of another size")
	}
}
