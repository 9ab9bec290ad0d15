package trace

import (
	"fmt"

	"xentrace/internal/event"
)

// ParseBackend returns the backend of that name.
func ParseBackend(name string) (event.Backend, error) {
	switch b := event.Backend(name); b {
	case event.Auto, event.Fentry, event.Kprobe, event.Tracepoint:
		return b, nil
	}
	return "", fmt.Errorf("backend %q: not one of auto, fentry, kprobe, tracepoint", name)
}

// A Refusal says why a backend that would have been better was not taken.
type Refusal struct {
	Backend event.Backend
	Err     error
}

// A Choice is the backend that attached, and why the better ones did not.
type Choice struct {
	Backend  event.Backend
	Refusals []Refusal

	// HoldsDriver: the driver is a module, and cannot be unloaded before the tracer
	// is closed.
	HoldsDriver bool
}
