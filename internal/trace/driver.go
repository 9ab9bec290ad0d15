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
)

// How often it is looked whether the driver's module is still the same one. The
// kernel announces it too: this is for announcements that were lost, and for one
// that is not ready yet when it is announced.
const (
	driverInterval  = 5 * time.Second
	waitingInterval = 100 * time.Millisecond
)

// driverModule follows the comings and goings of the driver's module. A driver that
// is built into the kernel, or that the fentry backend holds in place, does not go.
type driverModule struct {
	mu      sync.Mutex // guards the hooks of the attachment, too
	follows bool       // the driver may go
	module  moduleState
	refused error                     // why it could not be hooked into, as told last
	config  bpf.XentraceConfiguration // what the kernel side was told of the first one

	generations generations
}

// bootTime returns the present moment on CLOCK_BOOTTIME.
func bootTime() uint64 { return uint64(readClocks().boot) }

// watchDriver subscribes to what the kernel announces of the driver's module. It
// must be called before the hooks are attached, so that nothing is missed.
func (t *Tracer) watchDriver(ctx context.Context) <-chan kernel.ModuleEvent {
	if loading, loaded := kernel.LoadedModule(kernel.NetfrontModule); loaded {
		t.driver.module.hooked(time.Now(), loading)
	}
	events, err := kernel.WatchModule(ctx, kernel.NetfrontModule)
	if err != nil {
		return nil // it is looked at now and then anyway
	}
	return events
}

// followDriver keeps the hooks in the driver as the driver comes and goes, until
// ctx ends. What the kernel announces is only a reason to look: a module that it says
// is removed has its directory for a moment longer, so it is looked at once more.
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
		if t.lookAtDriver() && !announced {
			ticker.Reset(driverInterval)
		} else {
			ticker.Reset(waitingInterval)
		}
	}
}

// lookAtDriver compares the module that is loaded with the one that is hooked into
// and acts on the difference. It reports whether the driver is there. What belongs to
// a new driver's interface calls it first: the kernel's announcement of the driver
// may still wait.
func (t *Tracer) lookAtDriver() bool {
	d := &t.driver
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.follows || t.background.Err() != nil {
		return true
	}
	loading, loaded := kernel.LoadedModule(kernel.NetfrontModule)
	change := d.module.look(time.Now(), loading, loaded)
	if change.left {
		t.driverLeft(change.since)
	}
	if change.back {
		t.driverCame(loading)
	}
	return d.module.there
}

// driverLeft lets go of what is left of the hooks. From now on packets are not seen,
// and those that come after are another driver's.
func (t *Tracer) driverLeft(since time.Time) {
	d := &t.driver
	d.refused = nil
	t.gaps.begin(event.GapDriverUnloaded, since)
	d.generations.begin(bootTime(), "the driver was unloaded before its code was read")
	t.wake()
	err := errors.Join(t.attachment.detachDriver(), t.attachment.setTransmit(0))
	if t.choice.Backend == event.Kprobe {
		err = errors.Join(err, t.attachment.forgetWindows())
	}
	if err != nil {
		t.notify(event.Notice{ID: event.NoticeDriverDetachFailed, Reason: err.Error()})
	}
	t.notify(event.Notice{ID: event.NoticeDriverUnloaded})
}

// driverCame hooks into the driver that was loaded.
func (t *Tracer) driverCame(loading kernel.Module) {
	d := &t.driver
	if err := t.attachment.attachAll(); err != nil {
		// What is attached by now may be gone at the next attempt.
		err = errors.Join(err, t.attachment.detachDriver())
		// A module can be seen before it can be hooked into, so it is tried again.
		if d.refused == nil || d.refused.Error() != err.Error() {
			d.refused = err
			t.notify(event.Notice{ID: event.NoticeDriverAttachFailed, Reason: explain(err).Error()})
		}
		return
	}
	d.module.hooked(time.Now(), loading)
	generation := d.generations.current()
	if gap, open := t.gaps.end(event.GapDriverUnloaded, time.Now()); open {
		t.notify(event.Notice{ID: event.NoticeDriverReloaded, DurationMS: gap.To.Sub(gap.From).Milliseconds()})
	}
	t.following.Go(func() { t.learnDriver(generation, loading) })
}

// learnDriver reads what there is to know of a driver that was loaded again.
func (t *Tracer) learnDriver(g *generation, loading kernel.Module) {
	f := &facts{types: kernel.NewTypes()}
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

// errOtherLayout: what is read of the driver's own structures would be wrong.
var errOtherLayout = errors.New("the structures of the xen-netfront that was loaded differ from those of the one before; restart xentrace")

// useDriver tells the kernel side of it, unless it has gone meanwhile.
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

// sameDriver reports whether what the kernel side was told of a driver holds for
// another one.
func sameDriver(a, b bpf.XentraceConfiguration) bool {
	b.ConsumeIsDrop = a.ConsumeIsDrop // of the kernel, not of the driver, and not always read
	return a == b
}

// holdsDriver says how to let go of the driver's module, once, when no interface is
// left that would be watched.
func (t *Tracer) holdsDriver() {
	if !t.choice.HoldsDriver || t.registry.anyNetfront() {
		return
	}
	t.sayHolds.Do(func() {
		t.notify(event.Notice{ID: event.NoticeDriverHeld})
	})
}

// privileges returns what following the driver takes.
func (d *driverModule) privileges() []kernel.Capability {
	if !d.follows {
		return nil
	}
	return []kernel.Capability{unix.CAP_SYSLOG}
}
