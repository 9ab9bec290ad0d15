package check

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"

	"xentrace/internal/event"
	"xentrace/internal/kernel"
)

// An Interrupt is one line of /proc/interrupts.
type Interrupt = kernel.Interrupt

const (
	fewInterrupts = 1000 // too few to say where they go
	nearlyAll     = 0.95
)

// readInterrupts reads all of them.
func (r *reader) readInterrupts() Known[[]Interrupt] {
	content, err := fs.ReadFile(r.source.Files, "proc/interrupts")
	if errors.Is(err, fs.ErrNotExist) {
		return missing[[]Interrupt](notThere("proc/interrupts"))
	}
	if err != nil {
		return missing[[]Interrupt](why(err))
	}
	return known(kernel.ParseInterrupts(string(content)))
}

func (m *Machine) interrupts(i *Interface) event.Finding {
	f := about(i, Interrupts)
	if m.Sources.Missing != "" {
		f.Status, f.Message = event.Unknown, "Where the interface's interrupts go cannot be told: "+m.Sources.Missing+"."
		return f
	}
	if m.CPUs == 1 {
		return event.Finding{} // nowhere else to go
	}
	var numbers []string
	var total []uint64
	for _, interrupt := range m.Sources.Value {
		if !interrupt.Serves(i.Name, i.BusInfo) {
			continue
		}
		numbers = append(numbers, interrupt.Number)
		total = append(total, make([]uint64, max(0, len(interrupt.ByCPU)-len(total)))...)
		for cpu, n := range interrupt.ByCPU {
			total[cpu] += n
		}
	}
	if len(numbers) == 0 {
		f.Status, f.Message = event.Unknown, "Where the interface's interrupts go cannot be told: /proc/interrupts has none of its name."
		return f
	}
	judgeInterrupts(&f, numbers, total)
	return f
}

func judgeInterrupts(f *event.Finding, numbers []string, total []uint64) {
	var sum uint64
	for _, n := range total {
		sum += n
	}
	busiest := slices.Max(total)
	cpu := slices.Index(total, busiest)
	f.Evidence = []event.Fact{{Key: "interrupts", Value: strings.Join(numbers, ",")}, {Key: "count", Value: sum}, {Key: "busiest_cpu", Value: cpu}, {Key: "busiest_cpu_count", Value: busiest}}
	switch {
	case sum < fewInterrupts:
		f.Message = fmt.Sprintf("There were %d interrupts so far, too few to say how they spread.", sum)
	case float64(busiest) < nearlyAll*float64(sum):
		f.Message = fmt.Sprintf("The interrupts spread over the processors; the busiest, CPU %d, has %d %% of them.", cpu, 100*busiest/sum)
	case len(numbers) == 1:
		f.Message = fmt.Sprintf("The one interrupt goes to CPU %d.", cpu)
	default:
		f.Status = event.Warn
		f.Message = fmt.Sprintf("All %d interrupts of the interface go to CPU %d, so the queues do not help.", len(numbers), cpu)
		f.Advice = []event.Advice{{
			Command: fmt.Sprintf("echo %s > /proc/irq/%s/smp_affinity", other(cpu), numbers[len(numbers)-1]),
			Effect:  "Moves one of them to another processor; the irqbalance daemon spreads them all, and goes on doing so.",
		}}
	}
}

// other is the affinity mask of a processor that is not this one.
func other(cpu int) string {
	if cpu == 0 {
		return "2"
	}
	return "1"
}
