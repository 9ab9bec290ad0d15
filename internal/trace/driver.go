package trace

import (
	"context"
	"errors"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"xentrace/bpf"
	"xentrace/internal/event"
	"xentrace/internal/kernel"
	"xentrace/internal/netfront"
)

// How often the driver's module is checked. The kernel's uevents trigger that, too:
// polling covers lost ones, and a module that cannot be attached to yet.
const (
	driverInterval  = 5 * time.Second
	waitingInterval = 100 * time.Millisecond
)

// driverModule follows the driver's module as it is unloaded and loaded. A driver that is
// built into the kernel, or that fentry holds, cannot be unloaded.
type driverModule struct {
	mu      sync.Mutex // guards the hooks of the attachment, too
	follows bool       // the driver can be unloaded
	module  moduleState
	refused error                     // why it could not be attached to, as reported last
	config  bpf.XentraceConfiguration // set in the BPF programs for the first one

	generations generations
}

// bootTime returns the present moment on CLOCK_BOOTTIME.
func bootTime() uint64 { return uint64(readClocks().boot) }

// watchDriver subscribes to the uevents of the driver's module. It must be called before
// the hooks are attached.
func (t *Tracer) watchDriver(ctx context.Context) <-chan kernel.ModuleEvent {
	if loading, loaded := kernel.LoadedModule(netfront.Module); loaded {
		t.driver.module.attached(time.Now(), loading)
	}
	events, err := kernel.WatchModule(ctx, netfront.Module)
	if err != nil {
		return nil // it is polled anyway
	}
	return events
}

// followDriver attaches again whenever the driver is loaded again, until ctx ends. A
// uevent only triggers a check: /sys/module keeps a removed module for a moment, so it is
// checked once more after waitingInterval.
func (t *Tracer) followDriver(ctx context.Context, events <-chan kernel.ModuleEvent) {
	ticker := time.NewTicker(driverInterval)
	defer ticker.Stop()
	for {
		announced := false
		select {
		case <-ctx.Done():
			return
		case _, announced = <-events:
			if !announced {
				events = nil
			}
		case <-ticker.C:
		}
		if t.checkDriver() && !announced {
			ticker.Reset(driverInterval)
		} else {
			ticker.Reset(waitingInterval)
		}
	}
}

// checkDriver compares the module that is loaded with the one that is attached to
// and acts on the difference. It reports whether the driver is there. It is called before
// an interface is registered, because the driver's uevent may come later.
func (t *Tracer) checkDriver() bool {
	d := &t.driver
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.follows || t.background.Err() != nil {
		return true
	}
	loading, loaded := kernel.LoadedModule(netfront.Module)
	change := d.module.check(time.Now(), loading, loaded)
	if change.left {
		t.driverLeft(change.since)
	}
	if change.back {
		t.driverCame(loading)
	}
	return d.module.there
}

// driverLeft closes the hooks that died with the driver. Packets after that are another
// driver's.
func (t *Tracer) driverLeft(since time.Time) {
	d := &t.driver
	d.refused = nil
	t.gaps.begin(event.GapDriverUnloaded, since)
	d.generations.begin(bootTime(), "the driver was unloaded before its code was read")
	t.wake()
	err := errors.Join(t.attachment.detachDriver(), t.attachment.setTransmit(0), t.attachment.setFlags(0))
	if t.choice.Backend == event.Kprobe {
		err = errors.Join(err, t.attachment.clearTransmits())
	}
	if err != nil {
		t.notify(event.Notice{ID: event.NoticeDriverDetachFailed, Reason: err.Error()})
	}
	t.notify(event.Notice{ID: event.NoticeDriverUnloaded})
}

func (t *Tracer) driverCame(loading kernel.Module) {
	d := &t.driver
	if err := t.attachment.attachAll(); err != nil {
		// What is attached by now may be gone at the next attempt.
		err = errors.Join(err, t.attachment.detachDriver())
		// A module can be seen before it can be attached to, so it is tried again.
		if d.refused == nil || d.refused.Error() != err.Error() {
			d.refused = err
			t.notify(event.Notice{ID: event.NoticeDriverAttachFailed, Reason: Explain(err).Error()})
		}
		return
	}
	d.module.attached(time.Now(), loading)
	generation := d.generations.current()
	if gap, open := t.gaps.end(event.GapDriverUnloaded, time.Now()); open {
		t.notify(event.Notice{ID: event.NoticeDriverReloaded, DurationMS: gap.To.Sub(gap.From).Milliseconds()})
	}
	t.following.Go(func() { t.learnDriver(generation, loading) })
}

func (t *Tracer) learnDriver(g *generation, loading kernel.Module) {
	f := &facts{types: t.fileTypes}
	if f.types == nil {
		f.types = kernel.NewTypes()
	}
	_ = f.learnTypes() // two causes stay unknown without
	err := f.learnSymbols()
	if err == nil {
		err = t.useDriver(f, loading)
	}
	switch {
	case errors.Is(err, errOtherLayout):
		t.notify(event.Notice{ID: event.NoticeUnmonitored, Reason: err.Error()})
	case err != nil:
		t.notify(event.Notice{ID: event.NoticeDriverUnknown, Reason: err.Error()})
	}
	t.readDriver(g, f)
}

// errOtherLayout: the BPF programs would read wrong offsets.
var errOtherLayout = errors.New("the structures of the xen-netfront that was loaded differ from those of the one before; restart xentrace")

// useDriver sets its address in the BPF programs, unless it is gone again.
func (t *Tracer) useDriver(f *facts, loading kernel.Module) error {
	d := &t.driver
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.module.there || d.module.loading != loading {
		return nil
	}
	if !sameDriver(d.config, f.configuration()) {
		t.gaps.begin(event.GapDriverUnloaded, time.Now())
		return errors.Join(errOtherLayout, t.attachment.detachDriver())
	}
	return t.attachment.setTransmit(f.transmit)
}

// useFlags sets where the driver's flags are in the BPF programs, unless it is gone again.
func (t *Tracer) useFlags(g *generation, flags uint32) error {
	d := &t.driver
	d.mu.Lock()
	defer d.mu.Unlock()
	if flags == 0 || g != d.generations.current() {
		return nil
	}
	return t.attachment.setFlags(flags)
}

// sameDriver reports whether the configuration of the BPF programs for one driver holds
// for another.
func sameDriver(a, b bpf.XentraceConfiguration) bool {
	b.ConsumeIsDrop = a.ConsumeIsDrop // of the kernel, not of the driver, and not always read
	return a == b
}

// holdsDriver reports, once, that the driver's module is held though no interface of it is
// left.
func (t *Tracer) holdsDriver() {
	if !t.choice.HoldsDriver || t.registry.anyNetfront() {
		return
	}
	t.heldNotice.Do(func() {
		t.notify(event.Notice{ID: event.NoticeDriverHeld})
	})
}

// privileges are those that attaching to the driver takes once it is loaded again, alongside
// CAP_BPF and CAP_PERFMON.
func (d *driverModule) privileges(b event.Backend, kprobesTakeSysAdmin bool) []kernel.Capability {
	switch {
	case !d.follows:
		return nil
	case b == event.Kprobe && kprobesTakeSysAdmin:
		return []kernel.Capability{unix.CAP_SYSLOG, unix.CAP_SYS_ADMIN}
	}
	return []kernel.Capability{unix.CAP_SYSLOG}
}

type moduleState struct {
	loading kernel.Module // the one that is attached to, or was last
	there   bool          // it is in the kernel, and attached to
	seen    time.Time     // when it was so last
}

type moduleChange struct {
	left  bool      // the module that was attached to is gone
	since time.Time // the earliest it may have been
	back  bool      // there is one that can be attached to
}

// check compares the module in the kernel with the one that is attached to.
func (s *moduleState) check(now time.Time, loading kernel.Module, loaded bool) moduleChange {
	var c moduleChange
	switch {
	case s.there && !loaded:
		c.left, c.since = true, now
	case s.there && loading != s.loading:
		// It was reloaded since the last check; when is unknown.
		c.left, c.since = true, s.seen
	case s.there:
		s.seen = now
	}
	if c.left {
		s.there = false
	}
	// /sys/module keeps a module that is being removed for a moment.
	c.back = !s.there && loaded && loading != s.loading
	return c
}

// attached notes that the module is attached to.
func (s *moduleState) attached(now time.Time, loading kernel.Module) {
	s.loading, s.there, s.seen = loading, true, now
}
