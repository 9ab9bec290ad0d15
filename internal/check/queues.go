package check

import (
	"fmt"

	"xentrace/internal/event"
	"xentrace/internal/remedy"
)

// queues compares the interface's queues with the CPUs.
func (m *Machine) queues(i *Interface) event.Finding {
	f := about(i, Queues)
	var number, cpus any
	if i.Queues > 0 {
		number = i.Queues
	}
	if m.cpus() > 0 {
		cpus = m.cpus()
	}
	f.Evidence = []event.Fact{{Key: "queues", Value: number}, {Key: "cpus", Value: cpus}, {Key: "max_queues", Value: m.MaxQueues.fact()}}
	limited := m.MaxQueues.Missing == "" && m.MaxQueues.Value > 0 && i.Queues >= m.MaxQueues.Value && m.MaxQueues.Value < m.cpus()
	switch {
	case i.Queues == 0 || m.cpus() == 0:
		f.Status, f.Message = event.Unknown, "The number of queues or CPUs is unknown."
		return f
	case i.Queues >= m.cpus():
		f.Message = fmt.Sprintf("%s for %s.", count(i.Queues, "queue"), count(m.cpus(), "CPU"))
		return f
	case i.Queues > 1:
		f.Message = fmt.Sprintf("%d queues for %d CPUs: enough for most traffic.", i.Queues, m.cpus())
		return f
	case limited:
		f.Message = fmt.Sprintf("1 queue for %d CPUs, because the driver's parameter max_queues is %d: all small packets share one ring and one interrupt.", m.cpus(), m.MaxQueues.Value)
	case m.FactsOf(i).NoGrants:
		f.Message = fmt.Sprintf("1 queue for %d CPUs, and the log says that grant references are exhausted: all small packets share one ring and one interrupt.", m.cpus())
	default:
		f.Message = fmt.Sprintf("1 queue for %d CPUs, because the backend offers no more: all small packets share one ring and one interrupt.", m.cpus())
	}
	f.Status = event.Warn
	f.Advice = m.advise(i, remedy.MaxQueues, remedy.QueuesBuiltIn, remedy.BackendQueues, remedy.RPS)
	return f
}

// count is a number with its noun.
func count(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}
