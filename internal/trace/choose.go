package trace

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"xentrace/bpf"
	"xentrace/internal/kernel"
	"xentrace/internal/netdev"
)

// errOtherDriver refuses the backends that hook into xen-netfront.
var errOtherDriver = errors.New("only the tracepoint backend sees other drivers than xen-netfront")

// chooser is a backend being chosen for some interfaces.
type chooser struct {
	options    Options
	interfaces []netdev.Interface
	facts      *facts
}

// choose attaches the backend that was asked for, or the best one that really
// attaches.
func (c *chooser) choose(ctx context.Context) (*attachment, Choice, error) {
	wanted := []Backend{c.options.Backend}
	if c.options.Backend == Auto || c.options.Backend == "" {
		wanted = []Backend{Fentry, Kprobe, Tracepoint}
	}
	if c.anyNetfront() {
		if err := c.facts.learnDriver(ctx); err != nil {
			return nil, Choice{}, err
		}
	}
	var choice Choice
	for _, b := range wanted {
		a, err := c.try(b)
		if err == nil {
			choice.Backend = b
			return a, choice, nil
		}
		choice.Refusals = append(choice.Refusals, Refusal{b, err})
	}
	var reasons []string
	for _, r := range choice.Refusals {
		reasons = append(reasons, fmt.Sprintf("%s backend: %v", r.Backend, r.Err))
	}
	return nil, choice, fmt.Errorf("%w: %s", ErrCannotRun, strings.Join(reasons, "; "))
}

func (c *chooser) anyNetfront() bool {
	for _, i := range c.interfaces {
		if i.IsNetfront() {
			return true
		}
	}
	return false
}

// otherDriver returns an interface that another driver than xen-netfront has.
func (c *chooser) otherDriver() (netdev.Interface, bool) {
	for _, i := range c.interfaces {
		if !i.IsNetfront() {
			return i, true
		}
	}
	return netdev.Interface{}, false
}

// try loads and attaches one backend.
func (c *chooser) try(b Backend) (*attachment, error) {
	if err := c.possible(b); err != nil {
		return nil, err
	}
	spec, err := bpf.LoadXentrace()
	if err != nil {
		return nil, fmt.Errorf("kernel side: %w", err)
	}
	netfront := c.anyNetfront()
	cfg := c.facts.configuration()
	if len(c.options.Interfaces) == 0 {
		cfg.AnyInterface = 1
	}
	if c.options.Records {
		cfg.Records = 1
	}
	if netfront {
		cfg.DriverHooks = 1
		spec.Programs[bpf.XentraceProgFentryFree].AttachTo = c.facts.free.Symbol.Name
	}
	spec.Maps[bpf.XentraceMapEvents].MaxEntries = uint32(c.options.RingBytes)
	a, err := attach(spec, hooksOf(b, netfront), driverNames{free: c.facts.free.Symbol.Name}, cfg, c.facts.types.Cache())
	if err != nil {
		return nil, explain(err)
	}
	return a, nil
}

// possible says why a backend cannot work, where that is known beforehand.
func (c *chooser) possible(b Backend) error {
	if b == Tracepoint {
		return nil
	}
	if i, found := c.otherDriver(); found {
		return fmt.Errorf("interface %s is driven by %s: %w", i, driverName(i), errOtherDriver)
	}
	if err := c.facts.hooksDriver(); err != nil {
		return err
	}
	if b == Fentry {
		return c.facts.driverTypes()
	}
	return nil
}

func driverName(i netdev.Interface) string {
	if i.Driver == "" {
		return "the kernel itself"
	}
	return i.Driver
}

// linearizes says what the driver's code showed; empty if there is no driver.
func (c *chooser) linearizes() string {
	if !c.anyNetfront() {
		return ""
	}
	answer := c.facts.linearizes
	switch answer.Value {
	case kernel.Linearizes:
		return "the driver linearizes packets of too many slots: " + answer.Evidence
	case kernel.Drops:
		return "the driver drops packets of too many slots: " + answer.Evidence
	}
	return "whether the driver linearizes is not known, so the cause of a drop over the limit will be unknown: " + answer.Evidence
}
