package trace

import "fmt"

// A Backend is a way of attaching to the driver.
type Backend string

// The backends, best first.
const (
	Auto       Backend = "auto"       // the first below that really attaches
	Fentry     Backend = "fentry"     // fentry and fexit on xennet_start_xmit; needs BTF of the driver
	Kprobe     Backend = "kprobe"     // kprobe and kretprobe on xennet_start_xmit
	Tracepoint Backend = "tracepoint" // net_dev_start_xmit and net_dev_xmit; any driver
)

// ParseBackend returns the backend of that name.
func ParseBackend(name string) (Backend, error) {
	switch b := Backend(name); b {
	case Auto, Fentry, Kprobe, Tracepoint:
		return b, nil
	}
	return "", fmt.Errorf("backend %q: not one of auto, fentry, kprobe, tracepoint", name)
}

// A Refusal says why a backend that would have been better was not taken.
type Refusal struct {
	Backend Backend
	Err     error
}

// A Choice is the backend that attached, and why the better ones did not.
type Choice struct {
	Backend  Backend
	Refusals []Refusal

	// HoldsDriver: the driver is a module, and cannot be unloaded before the tracer
	// is closed.
	HoldsDriver bool
}
