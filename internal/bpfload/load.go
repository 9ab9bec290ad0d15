// Package bpfload loads parts of the BPF objects, and reads what the kernel counts of
// program runs that it skipped.
package bpfload

import (
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/btf"
	"golang.org/x/sys/unix"

	"xentrace/internal/kernel"
)

// A Selection is the part of an object to load, and what is set in it beforehand.
type Selection struct {
	Programs   []string          // loaded with the maps and variables they refer to
	MapsOf     []string          // programs that are loaded later: their maps are created now
	AttachTo   map[string]string // kernel functions of programs whose section does not name theirs
	Variables  map[string]any    // those that no selected program refers to are ignored
	MaxEntries map[string]uint32 // likewise, of maps

	// Addresses are the kernel's variables that programs load the address of, by the
	// 64-bit constant that stands for it in the object.
	Addresses map[int64]btf.TypeID

	Edit   func(map[string]*ebpf.ProgramSpec) // changes the programs before they are loaded; may be nil
	Shared *ebpf.Collection                   // its maps are used instead of new ones; may be nil
	Types  *kernel.Types
	NoLog  bool // do not load again for the verifier's log if loading fails
}

// Load loads a selection of an object.
func Load(object []byte, s Selection) (*ebpf.Collection, error) {
	collection, err := s.load(object, false)
	if refused := (*ebpf.VerifierError)(nil); s.NoLog || !errors.As(err, &refused) {
		return collection, err
	}
	// Source lines take a third of the time and memory of loading, and show in the log only.
	return s.load(object, true)
}

// load does so, with the verifier's log in the error or without.
func (s *Selection) load(object []byte, log bool) (*ebpf.Collection, error) {
	spec, err := parse(object, s.named(), log)
	if err != nil {
		return nil, err
	}
	if err := s.trim(spec); err != nil {
		return nil, err
	}
	if s.Edit != nil {
		s.Edit(spec.Programs)
	}
	if err := s.set(spec); err != nil {
		return nil, err
	}
	options := ebpf.CollectionOptions{Cache: s.Types.Cache(), Programs: ebpf.ProgramOptions{LogDisabled: !log}}
	options.Programs.KernelTypes, options.Programs.ExtraRelocationTargets = s.Types.Relocation()
	if s.Shared != nil {
		options.MapReplacements = make(map[string]*ebpf.Map)
		for name := range spec.Maps {
			options.MapReplacements[name] = s.Shared.Maps[name]
		}
		spec.Variables = nil // the values are those of the shared maps
	}
	if err := reserve(len(spec.Maps) + len(spec.Programs) + whileLoading); err != nil {
		return nil, fmt.Errorf("BPF programs: %w", err)
	}
	collection, err := ebpf.NewCollectionWithOptions(spec, options)
	if err != nil {
		return nil, fmt.Errorf("BPF programs: %w", err)
	}
	return collection, nil
}

// named returns the programs that are parsed.
func (s *Selection) named() []string { return append(slices.Clone(s.Programs), s.MapsOf...) }

// whileLoading is how many descriptors the library has open of its own: type information and
// a feature test's map.
const whileLoading = 4

// reserve reports EMFILE or ENFILE if this process cannot open so many descriptors more: the
// library takes a map of its feature tests that cannot be opened for a feature that the kernel
// lacks.
func reserve(descriptors int) (err error) {
	first, err := unix.Open("/", unix.O_PATH|unix.O_CLOEXEC, 0)
	opened := []int{first}
	for err == nil && len(opened) < descriptors {
		var next int
		next, err = unix.FcntlInt(uintptr(first), unix.F_DUPFD_CLOEXEC, 0)
		opened = append(opened, next)
	}
	for _, descriptor := range opened {
		if descriptor >= 0 {
			_ = unix.Close(descriptor)
		}
	}
	return err
}

// trim leaves what is selected.
func (s *Selection) trim(spec *ebpf.CollectionSpec) error {
	referenced := make(map[string]bool)
	selected := make(map[string]*ebpf.ProgramSpec, len(s.Programs))
	for n, name := range s.named() {
		program := spec.Programs[name]
		if program == nil {
			return fmt.Errorf("BPF program %s: not in the object", name)
		}
		for i := range program.Instructions {
			referenced[program.Instructions[i].Reference()] = true
		}
		if n < len(s.Programs) {
			selected[name] = program
		}
	}
	spec.Programs = selected
	maps.DeleteFunc(spec.Maps, func(name string, _ *ebpf.MapSpec) bool { return !referenced[name] })
	maps.DeleteFunc(spec.Variables, func(_ string, v *ebpf.VariableSpec) bool { return !referenced[v.SectionName] })
	return nil
}

func (s *Selection) set(spec *ebpf.CollectionSpec) error {
	for name, value := range s.Variables {
		if v := spec.Variables[name]; v != nil {
			if err := v.Set(value); err != nil {
				return fmt.Errorf("variable %s of the BPF programs: %w", name, err)
			}
		}
	}
	for name, entries := range s.MaxEntries {
		if m := spec.Maps[name]; m != nil {
			m.MaxEntries = entries
		}
	}
	for name, program := range spec.Programs {
		if function := s.AttachTo[name]; function != "" {
			program.AttachTo = function
		}
		for i := range program.Instructions {
			ins := &program.Instructions[i]
			if variable, ok := s.Addresses[ins.Constant]; ok && ins.OpCode == asm.LoadImmOp(asm.DWord) {
				ins.Src, ins.Constant = pseudoBTFID, int64(variable)
			}
		}
		if err := withoutFeatures(s.Types, name, program); err != nil {
			return err
		}
	}
	return nil
}

// pseudoBTFID is BPF_PSEUDO_BTF_ID: the constant is the number of a variable in BTF.
const pseudoBTFID = 3

// HasAddress reports whether programs may load the address of a variable of the kernel:
// it has to be among the kernel's symbols (CONFIG_KALLSYMS_ALL).
func HasAddress(variable btf.TypeID) bool {
	load := asm.LoadImm(asm.R1, int64(variable), asm.DWord)
	load.Src = pseudoBTFID
	program, err := ebpf.NewProgramWithOptions(&ebpf.ProgramSpec{
		Type: ebpf.RawTracepoint, License: "GPL",
		Instructions: asm.Instructions{load, asm.Mov.Imm(asm.R0, 0), asm.Return()},
	}, ebpf.ProgramOptions{LogDisabled: true})
	return err == nil && program.Close() == nil
}

// NoRecursionCount is why a kernel without CountsRecursion has no such count.
const NoRecursionCount = "this kernel does not count program runs that it skipped for recursion"

// CountsRecursion reports whether the kernel counts program runs that it skipped for
// recursion: since 5.12, but those of kprobes only since 6.7.
func CountsRecursion(types *kernel.Types) bool {
	_, err := types.Field("", "bpf_prog_info", "recursion_misses")
	return err == nil && !types.Lacks(kernel.RecursionCounts)
}

// RecursionMisses sums the program runs that the kernel skipped for recursion.
func RecursionMisses(collections ...*ebpf.Collection) (uint64, error) {
	var sum uint64
	for _, collection := range collections {
		for name, program := range collection.Programs {
			statistics, err := program.Stats()
			if err != nil {
				return 0, fmt.Errorf("statistics of program %s: %w", name, err)
			}
			sum += statistics.RecursionMisses
		}
	}
	return sum, nil
}
