package trace

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"golang.org/x/sys/unix"

	"xentrace/bpf"
	"xentrace/internal/event"
	"xentrace/internal/netdev"
	"xentrace/internal/netfront"
)

var errOtherDriver = errors.New("only the tracepoint backend traces other drivers")

type chooser struct {
	options    Options
	interfaces []netdev.Interface
	facts      *facts
	elsewhere  *elsewhere // nil unless drops outside the driver are counted
	rejections rejections // of the backend that was tried last
}

// choose attaches the backend that was asked for, or the best one that really
// attaches.
func (c *chooser) choose(ctx context.Context) (*attachment, Choice, error) {
	wanted := []event.Backend{c.options.Backend}
	if c.options.Backend == event.Auto || c.options.Backend == "" {
		wanted = []event.Backend{event.Fentry, event.Kprobe, event.Tracepoint}
	}
	var choice Choice
	if err := c.learnElsewhere(ctx); err != nil {
		return nil, choice, err
	}
	for _, b := range wanted {
		a, err := c.try(ctx, b)
		if err == nil {
			choice.Backend = b
			return a, choice, nil
		}
		if errors.Is(err, unix.EMFILE) || errors.Is(err, unix.ENFILE) { // no matter which backend
			return nil, choice, fmt.Errorf("%w: %w", ErrCannotRun, err)
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

func (c *chooser) try(ctx context.Context, b event.Backend) (*attachment, error) {
	if err := c.possible(ctx, b); err != nil {
		return nil, err
	}
	c.rejections = c.facts.learnRejections(c.options.Rejected, b)
	a, err := c.attach(b)
	if err != nil && c.rejections.counted() {
		// The driver's own drops matter more than --rejected.
		c.rejections = rejections{missing: fmt.Sprintf("the hooks on %s did not attach: %v", collectFunction, Explain(err))}
		a, err = c.attach(b)
	}
	if err != nil && b == event.Kprobe && c.facts.symbols == nil {
		// The symbols show what the types do not: a function that is inlined or renamed.
		if err := c.facts.learnSymbols(); err != nil {
			return nil, err
		}
		a, err = c.attach(b)
	}
	if err != nil {
		return nil, Explain(err)
	}
	if err := a.setTransmit(c.facts.transmit); err != nil {
		return nil, errors.Join(err, a.close())
	}
	if c.elsewhere != nil {
		if err := c.elsewhere.begin(a); err != nil {
			return nil, errors.Join(err, a.close())
		}
	}
	return a, nil
}

// attach attaches a backend. A program that knows the types of its arguments costs a packet
// less, where the kernel allows it.
func (c *chooser) attach(b event.Backend) (*attachment, error) {
	a, err := c.attachWith(b, false)
	if err != nil && b == event.Tracepoint {
		return c.attachWith(b, true)
	}
	return a, err
}

func (c *chooser) attachWith(b event.Backend, untyped bool) (*attachment, error) {
	s := c.facts.selection()
	s.MaxEntries = map[string]uint32{bpf.XentraceMapEvents: uint32(c.options.RingBytes)}
	selectSender(&s, c.facts.types)
	c.rejections.configure(&s)
	if c.elsewhere != nil {
		c.elsewhere.configure(&s)
	}
	names := driverNames{free: c.facts.free.Symbol.Name}
	s.AttachTo = map[string]string{bpf.XentraceProgFentryFree: names.free}
	return attach(s, c.hooks(b, untyped), names, c.configuration())
}

// configuration is what the programs have to know of this kernel, and of what was asked.
func (c *chooser) configuration() bpf.XentraceConfiguration {
	cfg := c.facts.configuration()
	cfg.Snap = uint16(c.options.Snap)
	for field, on := range map[*uint8]bool{
		&cfg.AnyInterface: len(c.options.Interfaces) == 0,
		&cfg.Records:      c.options.Records,
		&cfg.Stacks:       c.options.Stacks,
		&cfg.Probe:        c.options.Probe,
		&cfg.Rate:         c.options.Rate > 0,
		&cfg.DriverHooks:  c.anyNetfront(),
	} {
		if on {
			*field = 1
		}
	}
	return cfg
}

// possible learns what the backend needs to know, and returns why it cannot work,
// where that is known beforehand.
func (c *chooser) possible(ctx context.Context, b event.Backend) error {
	if b == event.Tracepoint {
		return c.tracepointPossible(ctx)
	}
	if i, found := c.otherDriver(); found {
		return fmt.Errorf("interface %s is not driven by xen-netfront (%s): %w", i, driverName(i), errOtherDriver)
	}
	typesErr := c.facts.learnTypes()
	if file := c.facts.types.Path(); b == event.Fentry && file != "" {
		return fmt.Errorf("the kernel has no BTF of its own, which fentry needs; its types are from %s", file)
	}
	if b == event.Fentry {
		return typesErr
	}
	return c.facts.learnNames(netfront.Loaded())
}

// tracepointPossible: this backend needs nothing of the driver, but judges its
// packets by what is known of it.
func (c *chooser) tracepointPossible(ctx context.Context) error {
	if !c.anyNetfront() {
		return nil
	}
	_ = c.facts.learnTypes() // two causes stay unknown without
	if err := c.facts.learnSymbols(); err != nil {
		return nil
	}
	return c.facts.learnFrees(ctx)
}

func driverName(i netdev.Interface) string {
	if i.Driver == "" {
		return "a virtual interface"
	}
	return "driver " + i.Driver
}

// A Refusal is the reason why a better backend was not used.
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
