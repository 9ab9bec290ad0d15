package check

import (
	"fmt"

	"xentrace/internal/event"
)

// queues compares the interface's queues with the processors.
func (m *Machine) queues(i *Interface) event.Finding {
	f := about(i, Queues)
	var number, cpus any
	if i.Queues > 0 {
		number = i.Queues
	}
	if m.CPUs > 0 {
		cpus = m.CPUs
	}
	f.Evidence = []event.Fact{{Key: "queues", Value: number}, {Key: "cpus", Value: cpus}, {Key: "max_queues", Value: m.MaxQueues.fact()}}
	limited := m.MaxQueues.Missing == "" && m.MaxQueues.Value > 0 && i.Queues >= m.MaxQueues.Value && m.MaxQueues.Value < m.CPUs
	switch {
	case i.Queues == 0 || m.CPUs == 0:
		f.Status, f.Message = event.Unknown, "How many queues and processors there are cannot be told here."
	case i.Queues >= m.CPUs:
		f.Message = fmt.Sprintf("The interface has %s for %s.", count(i.Queues, "queue"), count(m.CPUs, "processor"))
	case i.Queues > 1:
		f.Message = fmt.Sprintf("The interface has %d queues for %d processors, which is enough for most traffic.", i.Queues, m.CPUs)
	case limited:
		f.Status = event.Warn
		f.Message = fmt.Sprintf("The interface has one queue for %d processors, since the driver's parameter max_queues is %d: all small packets go through one ring and one interrupt.", m.CPUs, m.MaxQueues.Value)
		f.Advice = []event.Advice{{
			Command: fmt.Sprintf("echo options xen-netfront max_queues=%d > /etc/modprobe.d/xen-netfront.conf", min(m.CPUs, 8)),
			Effect:  "The driver asks for more queues from the next start on, as far as the backend has them.",
			Cost:    "A restart, and some memory for each queue.",
		}}
	default:
		f.Status = event.Warn
		f.Message = fmt.Sprintf("The interface has one queue for %d processors: the backend offers no more, so all small packets go through one ring and one interrupt.", m.CPUs)
		f.Advice = m.advise(i, event.Advice{
			Command: "echo " + mask(m.CPUs) + " | tee /sys/class/net/{ifname}/queues/rx-0/rps_cpus",
			Effect:  "Received packets are spread over all processors. More queues are for dom0 to offer (max_queues of xen-netback).",
			Cost:    "An interrupt between processors for each packet that moves.",
		})
	}
	return f
}

// count says a number with its noun.
func count(n int, noun string) string {
	if n == 1 {
		return "one " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}

// mask is the set of the first processors as the kernel reads it: groups of 32
// in hexadecimal.
func mask(cpus int) string {
	text := fmt.Sprintf("%x", uint64(1)<<(cpus%32)-1)
	if cpus%32 == 0 {
		text = "ffffffff"
		cpus -= 32
	}
	for range cpus / 32 {
		text += ",ffffffff"
	}
	return text
}
