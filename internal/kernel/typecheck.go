package kernel

import (
	"fmt"
	"maps"
	"slices"

	"github.com/cilium/ebpf/btf"
)

const (
	perCPUSection = ".data..percpu"

	// sameName is how many symbols of a name are too many to tell which is the variable.
	sameName = 16

	// minVariables have to be compared: a kernel of a distribution has 300 and more.
	minVariables = 100
)

// compareVariables refuses types whose per-CPU variables do not lie as those of the running
// kernel do. They are laid out one after the other, so that a variable of another size, or one
// that another configuration adds, moves those behind it.
func (s *typeSource) compareVariables(spec *btf.Spec) error {
	var section *btf.Datasec
	if err := spec.TypeByName(perCPUSection, &section); err != nil {
		return fmt.Errorf("%w as far as can be known: it has no build id, and no per-CPU variables to compare; take the vmlinux it was made from", ErrOtherKernel)
	}
	layout := make(variables, len(section.Vars))
	for _, v := range section.Vars {
		if variable, is := v.Type.(*btf.Var); is {
			layout[variable.Name] = append(layout[variable.Name], uint64(v.Offset))
		}
	}
	running, err := s.variables(layout)
	if err != nil {
		return fmt.Errorf("%w as far as can be known: it has no build id, and the kernel's symbols cannot be read: %w", ErrOtherKernel, err)
	}
	return layout.compare(running)
}

// variables are the places of each variable of a name: static ones may share it.
type variables map[string][]uint64

// variables returns the addresses of the kernel's symbols with these names. Absolute symbols
// are among them: per-CPU variables are such before 6.15.
func (s *typeSource) variables(names variables) (variables, error) {
	symbols, err := s.symbols()
	if err != nil {
		return nil, err
	}
	defer symbols.Close()
	found, shown := make(variables, len(names)), false
	err = eachLine(symbols, func(line []byte) error {
		symbol, _, err := parseLine(line)
		if err != nil || len(symbol.module) > 0 {
			return err
		}
		shown = shown || symbol.address != 0
		if name := string(symbol.name); names[name] != nil && len(found[name]) < sameName {
			found[name] = append(found[name], symbol.address)
		}
		return nil
	})
	if err == nil && !shown {
		err = ErrAddressesHidden
	}
	return found, err
}

// compare demands that each variable of the kernel lies at its offset from one base, which
// is that of most.
func (layout variables) compare(running variables) error {
	bases, compared := make(map[uint64]int), 0
	for name, offsets := range layout {
		if n := len(running[name]); n == 0 || n == sameName {
			continue
		}
		compared++
		for _, address := range running[name] {
			bases[address-offsets[0]]++
		}
	}
	if compared < minVariables {
		return fmt.Errorf("%w as far as can be known: it has no build id, and the kernel shows only %d of its per-CPU variables (root, CONFIG_KALLSYMS_ALL); take the vmlinux it was made from", ErrOtherKernel, compared)
	}
	base := slices.MaxFunc(slices.Collect(maps.Keys(bases)), func(a, b uint64) int { return bases[a] - bases[b] })
	for name, offsets := range layout {
		at := func(offset uint64) bool { return slices.Contains(running[name], base+offset) }
		if n := len(running[name]); n > 0 && n < sameName && !slices.ContainsFunc(offsets, at) {
			return fmt.Errorf("%w: the per-CPU variable %s lies elsewhere in the kernel", ErrOtherKernel, name)
		}
	}
	return nil
}
