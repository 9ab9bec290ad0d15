package kernel

import (
	"slices"
	"strconv"
	"strings"
)

// An Interrupt is one line of /proc/interrupts.
type Interrupt struct {
	Number string
	Name   string
	ByCPU  []uint64 // how often, by CPU number
}

// maxCPUs is the most that Linux has.
const maxCPUs = 8192

// ParseInterrupts reads the text of /proc/interrupts, whose first line names the CPUs that
// are online. Lines without a name, or with fewer numbers than CPUs, are left out.
func ParseInterrupts(text string) []Interrupt {
	head, rest, _ := strings.Cut(text, "\n")
	var cpus []int
	for name := range strings.FieldsSeq(head) {
		cpu, err := strconv.Atoi(strings.TrimPrefix(name, "CPU"))
		if err != nil || cpu < 0 || cpu >= maxCPUs {
			return nil
		}
		cpus = append(cpus, cpu)
	}
	var all []Interrupt
	for line := range strings.Lines(rest) {
		if interrupt, ok := parseInterrupt(strings.Fields(line), cpus); ok {
			all = append(all, interrupt)
		}
	}
	return all
}

func parseInterrupt(fields []string, cpus []int) (Interrupt, bool) {
	if len(fields) < len(cpus)+2 || len(cpus) == 0 {
		return Interrupt{}, false
	}
	interrupt := Interrupt{
		Number: strings.TrimSuffix(fields[0], ":"), Name: fields[len(fields)-1], ByCPU: make([]uint64, slices.Max(cpus)+1),
	}
	for i, cpu := range cpus {
		n, err := strconv.ParseUint(fields[i+1], 10, 64)
		if err != nil {
			return Interrupt{}, false
		}
		interrupt.ByCPU[cpu] = n
	}
	return interrupt, true
}

// Serves reports whether the interrupt is the interface's, by its name and where its device
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
