package kernel

import (
	"strconv"
	"strings"
)

// An Interrupt is one line of /proc/interrupts.
type Interrupt struct {
	Number string
	Name   string
	ByCPU  []uint64 // how often, on each processor that is online
}

// ParseInterrupts reads the text of /proc/interrupts. Lines without a name, or with
// fewer numbers than there are processors, are left out.
func ParseInterrupts(text string) []Interrupt {
	head, rest, _ := strings.Cut(text, "\n")
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
	return all
}

// Serves tells whether the interrupt is the interface's, by its name and where its device
// sits. xen-netfront calls them by the number of its device, vif0-q0-tx and
// vif0-q0-rx; older ones by the name that the interface had when it was set up, such
// as eth0.
func (n *Interrupt) Serves(name, busInfo string) bool {
	for _, name := range []string{strings.ReplaceAll(busInfo, "-", ""), name} {
		rest, is := strings.CutPrefix(n.Name, name)
		if is && name != "" && (rest == "" || strings.HasPrefix(rest, "-q") || rest == "-tx" || rest == "-rx") {
			return true
		}
	}
	return false
}
