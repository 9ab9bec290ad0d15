package bpfload

import (
	"fmt"

	"github.com/cilium/ebpf"

	"xentrace/internal/kernel"
)

// NoRecursionCount is why a kernel without CountsRecursion has no such count.
const NoRecursionCount = "this kernel does not count program runs that it skipped for recursion"

// CountsRecursion reports whether the kernel counts program runs that it skipped for
// recursion: since 5.12, but those of kprobes only since 6.7.
func CountsRecursion(types *kernel.Types) bool {
	_, err := types.Field("", "bpf_prog_info", "recursion_misses")
	return err == nil
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
