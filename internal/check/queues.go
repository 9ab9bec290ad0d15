package check

import (
	"fmt"
	"slices"
	"strings"

	"xentrace/internal/event"
	"xentrace/internal/facts"
	"xentrace/internal/kernel"
	"xentrace/internal/remedy"
	"xentrace/internal/verdict"
)

// An Interrupt is one line of /proc/interrupts.
type Interrupt = kernel.Interrupt

const (
	fewInterrupts = 1000 // too few to say where they go
	nearlyAll     = 0.95
)

func (r *reader) readInterrupts() Known[[]Interrupt] {
	content := r.content("proc/interrupts")
	return Known[[]Interrupt]{kernel.ParseInterrupts(content.Value), content.Missing}
}

// readAffinity reads to which CPUs each interrupt of the interfaces may go.
func (r *reader) readAffinity(m *Machine) {
	m.Affinity = make(map[string][]int)
	for _, interrupt := range m.Sources.Value {
		if slices.ContainsFunc(m.Interfaces, func(i Interface) bool { return interrupt.Serves(i.Name, i.BusInfo) }) {
			m.Affinity[interrupt.Number] = facts.CPUList(r.line("proc/irq/" + interrupt.Number + "/smp_affinity_list"))
		}
	}
}

func (m *Machine) interrupts(i *Interface) event.Finding {
	f := about(i, Interrupts)
	if m.Sources.Missing != "" {
		f.Status, f.Message = event.Unknown, "Interrupts of the interface are unknown: "+m.Sources.Missing+"."
		return f
	}
	if m.cpus() == 1 {
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
		f.Status, f.Message = event.Unknown, "Interrupts of the interface are unknown: /proc/interrupts has none of its name."
		return f
	}
	m.judgeInterrupts(&f, i, numbers, total)
	return f
}

func (m *Machine) judgeInterrupts(f *event.Finding, i *Interface, numbers []string, total []uint64) {
	var sum uint64
	for _, n := range total {
		sum += n
	}
	busiest := slices.Max(total)
	cpu := slices.Index(total, busiest)
	// Those whose affinity was changed meanwhile go elsewhere from now on.
	staying := slices.DeleteFunc(slices.Clone(numbers), func(number string) bool {
		to := m.Affinity[number]
		return len(to) > 0 && !slices.Contains(to, cpu)
	})
	f.Evidence = []event.Fact{{Key: "interrupts", Value: strings.Join(numbers, ",")}, {Key: "count", Value: sum}, {Key: "busiest_cpu", Value: cpu}, {Key: "busiest_cpu_count", Value: busiest}}
	switch {
	case sum < fewInterrupts:
		f.Message = fmt.Sprintf("%d interrupts so far: too few to judge.", sum)
	case float64(busiest) < nearlyAll*float64(sum):
		f.Message = fmt.Sprintf("Interrupts are spread over the CPUs; CPU %d has the most, %d %%.", cpu, 100*busiest/sum)
	case len(staying) < len(numbers):
		f.Message = fmt.Sprintf("Interrupts went to CPU %d so far; %d of %d now may not.", cpu, len(numbers)-len(staying), len(numbers))
	case len(numbers) == 1:
		f.Message = fmt.Sprintf("The only interrupt goes to CPU %d.", cpu)
	default:
		f.Status, f.Message = event.Warn, fmt.Sprintf("All %d interrupts of the interface go to CPU %d.", len(numbers), cpu)
		if i.Queues > 1 {
			f.Message = fmt.Sprintf("All %d interrupts of the interface go to CPU %d, so its %d queues do not help.", len(numbers), cpu, i.Queues)
		}
		f.Advice = remedy.For(m.interruptFacts(i, cpu, numbers[len(numbers)-1]), remedy.Irqbalance, remedy.GetIrqbalance, remedy.IRQAffinity, remedy.IRQBanned)
	}
}

// interruptFacts adds an interrupt of the interface and a CPU for it that is online and not the
// busy one.
func (m *Machine) interruptFacts(i *Interface, busy int, number string) remedy.Facts {
	f := m.FactsOf(i)
	if at := slices.IndexFunc(m.Facts.CPUs, func(cpu int) bool { return cpu != busy }); at >= 0 {
		f.IRQ, f.IRQCPU = number, remedy.Mask(m.Facts.CPUs[at:at+1])
	}
	return f
}

func (m *Machine) queues(i *Interface) event.Finding {
	f := about(i, Queues)
	f.Evidence = []event.Fact{{Key: "queues", Value: orNull(i.Queues)}, {Key: "cpus", Value: orNull(m.cpus())}, {Key: "max_queues", Value: m.MaxQueues.fact()}}
	limited := m.MaxQueues.Missing == "" && m.MaxQueues.Value > 0 && i.Queues >= m.MaxQueues.Value && m.MaxQueues.Value < m.cpus()
	switch {
	case i.Queues == 0 || m.cpus() == 0:
		f.Status, f.Message = event.Unknown, "The number of queues or CPUs is unknown."
		return f
	case i.Queues >= m.cpus():
		f.Message = fmt.Sprintf("%s for %s.", verdict.Count(i.Queues, "queue"), verdict.Count(m.cpus(), "CPU"))
		return f
	case i.Queues > 1:
		f.Message = fmt.Sprintf("%d queues for %d CPUs: enough for most traffic.", i.Queues, m.cpus())
		return f
	case limited:
		f.Message = fmt.Sprintf("1 queue for %d CPUs, because the driver's parameter max_queues is %d: all small packets share one ring and one interrupt.", m.cpus(), m.MaxQueues.Value)
	case m.FactsOf(i).NoGrants:
		f.Message = fmt.Sprintf("1 queue for %d CPUs, and the kernel log reports that grant references are exhausted: all small packets share one ring and one interrupt.", m.cpus())
	case i.Backend.Value.MaxQueues > 1:
		f.Message = fmt.Sprintf("1 queue for %d CPUs, although the driver allows %d and the backend offers %d: it was connected before that, or the others could not be created. All small packets share one ring and one interrupt.", m.cpus(), m.MaxQueues.Value, i.Backend.Value.MaxQueues)
		f.Advice = m.advise(i, remedy.LogOfDriver, remedy.Reattach)
	default:
		f.Message = fmt.Sprintf("1 queue for %d CPUs, because the backend offers no more: all small packets share one ring and one interrupt.", m.cpus())
	}
	f.Status = event.Warn
	f.Advice = append(f.Advice, m.advise(i, remedy.MaxQueues, remedy.QueuesBuiltIn, remedy.QueuesSet, remedy.QueuesPending, remedy.BackendQueues, remedy.GrantFrames, remedy.RPS)...)
	return f
}
