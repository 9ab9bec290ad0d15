package bpf

import (
	"slices"
	"strings"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
)

// functionsOf returns the functions that a loaded program still has, its instructions, and
// how many of them are its main function.
func functionsOf(t *testing.T, program *ebpf.Program) (names []string, instructions asm.Instructions, entry int) {
	t.Helper()
	info, err := program.Info()
	if err != nil {
		t.Fatal(err)
	}
	functions, err := info.FuncInfos()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range functions {
		names = append(names, f.Func.Name)
	}
	if instructions, err = info.Instructions(); err != nil {
		t.Fatal(err)
	}
	raw := asm.RawInstructionOffset(0)
	for entry < len(instructions) && raw < functions[1].Offset {
		raw += asm.RawInstructionOffset(instructions[entry].Size() / asm.InstructionSize)
		entry++
	}
	return names, instructions, entry
}

// entryOf is the main function of a loaded program, without what differs between loads.
func entryOf(t *testing.T, program *ebpf.Program) string {
	t.Helper()
	_, instructions, entry := functionsOf(t, program)
	var text strings.Builder
	for _, ins := range instructions[:entry] {
		text.WriteString(ins.OpCode.String() + "\n")
	}
	return text.String()
}

// What was not asked for is not in the programs; what was adds nothing to what runs for a
// packet that is sent as usual.
func TestOptionsCostNothing(t *testing.T) {
	a := newArena(t)
	load := func(snap uint16, rate uint8) *programs {
		return loadPrograms(t, a, XentraceConfiguration{
			PageSize: 4096, DriverHooks: 1, Records: 1, Snap: snap, Rate: rate, PrivOffset: -1, BrokenOffset: -1, BounceOffset: -1,
		}, withAnyContextFree)
	}
	without := load(0, 0)
	for _, option := range []struct {
		function string
		with     *programs
	}{
		{"snap_capture", load(256, 0)},
		{"record_allowed", load(0, 1)},
	} {
		for _, name := range []string{XentraceProgTracepointBegin, XentraceProgTracepointFree, XentraceProgFentryFree, XentraceProgElsewhereFree} {
			plain, instructions, _ := functionsOf(t, without.collection.Programs[name])
			all, more, _ := functionsOf(t, option.with.collection.Programs[name])
			if slices.Contains(plain, option.function) || !slices.Contains(all, option.function) || len(more) <= len(instructions) {
				t.Errorf("%s: %d instructions of %v without, %d of %v with %s", name, len(instructions), plain, len(more), all, option.function)
			}
		}
		usual := entryOf(t, without.collection.Programs[XentraceProgTracepointBegin])
		if with := entryOf(t, option.with.collection.Programs[XentraceProgTracepointBegin]); usual != with || usual == "" {
			t.Errorf("the entry of the driver with %s:\n%s\nwithout:\n%s", option.function, with, usual)
		}
	}
}
