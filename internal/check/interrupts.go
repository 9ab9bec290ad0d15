package check

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strconv"
	"strings"

	"xentrace/internal/verdict"
)

// An Interrupt is one line of /proc/interrupts.
type Interrupt struct {
	Number string
	Name   string
	ByCPU  []uint64
}

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
	head, rest, _ := strings.Cut(string(content), "\n")
	cpus := len(strings.Fields(head))
	var all []Interrupt
	for line := range strings.Lines(rest) {
		fields := strings.Fields(line)
		if len(fields) < cpus+2 {
			continue
		}
		interrupt := Interrupt{Number: strings.TrimSuffix(fields[0], ":"), Name: fields[len(fields)-1]}
		for _, field := range fields[1 : cpus+1] {
			n, err := strconv.ParseUint(field, 10, 64)
			if err != nil {
				break
			}
			interrupt.ByCPU = append(interrupt.ByCPU, n)
		}
		if len(interrupt.ByCPU) == cpus {
			all = append(all, interrupt)
		}
	}
	return known(all)
}

// serves tells whether the interrupt is the interface's. xen-netfront calls them
// by the number of its device, vif0-q0-tx and vif0-q0-rx; older ones by the name that
// the interface had when it was set up, such as eth0.
func (n *Interrupt) serves(i *Interface) bool {
	for _, name := range []string{strings.ReplaceAll(i.BusInfo, "-", ""), i.Name} {
		rest, is := strings.CutPrefix(n.Name, name)
		if is && (rest == "" || strings.HasPrefix(rest, "-q") || rest == "-tx" || rest == "-rx") {
			return true
		}
	}
	return false
}

func (m *Machine) interrupts(i *Interface) Finding {
	f := about(i, Interrupts)
	if m.Sources.Missing != "" {
		f.Status, f.Message = Unknown, "Where the interface's interrupts go cannot be told: "+m.Sources.Missing+"."
		return f
	}
	if m.CPUs == 1 {
		return Finding{} // nowhere else to go
	}
	var numbers []string
	var total []uint64
	for _, interrupt := range m.Sources.Value {
		if !interrupt.serves(i) {
			continue
		}
		numbers = append(numbers, interrupt.Number)
		total = append(total, make([]uint64, max(0, len(interrupt.ByCPU)-len(total)))...)
		for cpu, n := range interrupt.ByCPU {
			total[cpu] += n
		}
	}
	if len(numbers) == 0 {
		f.Status, f.Message = Unknown, "Where the interface's interrupts go cannot be told: /proc/interrupts has none of its name."
		return f
	}
	f.judgeInterrupts(numbers, total)
	return f
}

func (f *Finding) judgeInterrupts(numbers []string, total []uint64) {
	var sum uint64
	for _, n := range total {
		sum += n
	}
	busiest := slices.Max(total)
	cpu := slices.Index(total, busiest)
	f.Evidence = []Fact{{"interrupts", strings.Join(numbers, ",")}, {"count", sum}, {"busiest_cpu", cpu}, {"busiest_cpu_count", busiest}}
	switch {
	case sum < fewInterrupts:
		f.Message = fmt.Sprintf("There were %d interrupts so far, too few to say how they spread.", sum)
	case float64(busiest) < nearlyAll*float64(sum):
		f.Message = fmt.Sprintf("The interrupts spread over the processors; the busiest, CPU %d, has %d %% of them.", cpu, 100*busiest/sum)
	case len(numbers) == 1:
		f.Message = fmt.Sprintf("The one interrupt goes to CPU %d.", cpu)
	default:
		f.Status = Warn
		f.Message = fmt.Sprintf("All %d interrupts of the interface go to CPU %d, so the queues do not help.", len(numbers), cpu)
		f.Advice = []verdict.Advice{{
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
