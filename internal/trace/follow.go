package trace

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"xentrace/internal/event"
	"xentrace/internal/netdev"
)

// namespaceInterval is how often network namespaces are listed and read: the kernel reports no
// new ones. An interface that sends before its namespace is found is reported by the BPF
// programs.
const namespaceInterval = time.Second

type selector struct {
	names []string // in the caller's namespace; none: all that xen-netfront drives, anywhere
}

func (s selector) named() bool { return len(s.names) > 0 }

func (s selector) wants(i netdev.Interface) bool {
	if s.named() {
		return slices.Contains(s.names, i.Name)
	}
	return i.IsNetfront()
}

// find returns the wanted interfaces that are there now. Names that are not
// there give an error wrapping netdev.ErrNotFound, alongside the others.
func (s selector) find(ctx context.Context) ([]netdev.Interface, error) {
	if !s.named() {
		all, err := netdev.All(ctx)
		found := slices.DeleteFunc(all, func(i netdev.Interface) bool { return !i.IsNetfront() })
		if len(found) > 0 {
			err = nil // a namespace that cannot be read does not matter then
		}
		return found, err
	}
	namespace, err := netdev.Current()
	if err != nil {
		return nil, err
	}
	defer func() { _ = namespace.Close() }() // only read from
	var found []netdev.Interface
	var missing error
	for _, name := range s.names {
		i, err := namespace.ByName(name)
		if err != nil {
			missing = errors.Join(missing, err)
			continue
		}
		if !slices.ContainsFunc(found, func(known netdev.Interface) bool { return known.Index == i.Index }) { // its alternative name
			found = append(found, i)
		}
	}
	return found, missing
}

// watch sends what happens to interfaces: of the caller's namespace for named
// ones, else of all namespaces. done ends what the watch holds open.
func (s selector) watch(ctx context.Context) (events <-chan netdev.Event, done func(), err error) {
	if !s.named() {
		events, err = netdev.WatchAll(ctx, namespaceInterval)
		return events, func() {}, err
	}
	namespace, err := netdev.Current()
	if err != nil {
		return nil, nil, err
	}
	events, err = namespace.Watch(ctx)
	if err != nil {
		return nil, nil, errors.Join(err, namespace.Close())
	}
	return events, func() { _ = namespace.Close() }, nil
}

// wait returns once at least one wanted interface is there.
func (s selector) wait(ctx context.Context) ([]netdev.Interface, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	events, done, err := s.watch(ctx)
	if err != nil {
		return nil, err
	}
	defer done()
	var failure error
	for event := range events {
		if event.Kind == netdev.Failed {
			// Without names it may be any user's namespace that cannot be watched.
			failure = fmt.Errorf("watch for interfaces: %w", event.Err)
			continue
		}
		if event.Kind != netdev.Disappeared && event.Kind != netdev.Moved && s.wants(event.Interface) {
			return []netdev.Interface{event.Interface}, nil
		}
	}
	return nil, cmp.Or(ctx.Err(), failure)
}

// follow keeps the registry as the interfaces are, until ctx ends.
func (t *Tracer) follow(ctx context.Context, changes <-chan netdev.Event) {
	for change := range changes {
		switch change.Kind {
		case netdev.Appeared, netdev.Renamed, netdev.Changed:
			t.followPresent(ctx, change)
		case netdev.Disappeared, netdev.Moved:
			t.followGone(change)
		case netdev.Failed:
			t.notify(NamespaceNotice(change))
		}
	}
}

// NamespaceNotice is the notice of a watch that failed.
func NamespaceNotice(change netdev.Event) event.Notice {
	return event.Notice{ID: event.NoticeNamespaceUnwatched, Device: event.Device{NetNS: change.Namespace}, Reason: change.Err.Error()}
}

// InterfaceNotice is a notice of an interface; err is the reason for it, or nil.
func InterfaceNotice(id event.NoticeID, i netdev.Interface, err error) event.Notice {
	n := event.Notice{ID: id, Device: event.Device{Name: i.Name, Index: i.Index, NetNS: i.Namespace}}
	if err != nil {
		n.Reason = err.Error()
	}
	return n
}

func (t *Tracer) followPresent(ctx context.Context, change netdev.Event) {
	i := change.Interface
	if _, known := t.registry.lookUp(deviceKey{i.Index, i.Namespace}); !known && !t.selector.wants(i) {
		return
	}
	if t.choice.Backend != event.Tracepoint && !i.IsNetfront() {
		n := InterfaceNotice(event.NoticeInterfaceUnsupported, i, nil)
		n.Driver, n.Backend = i.Driver, t.choice.Backend
		t.notify(n)
		return
	}
	if !t.add(ctx, i, false) && change.Kind == netdev.Renamed {
		n := InterfaceNotice(event.NoticeInterfaceRenamed, i, nil)
		n.Previous = change.Previous.Name
		t.notify(n)
	}
}

// add registers an interface and reports whether that is settled: it is new, or failed.
func (t *Tracer) add(ctx context.Context, i netdev.Interface, reportedByBPF bool) bool {
	t.checkDriver() // the interface is of the driver that is loaded now
	added, err := t.registry.add(ctx, i, reportedByBPF)
	switch {
	case err != nil:
		t.notify(InterfaceNotice(event.NoticeInterfaceFailed, i, err))
	case added:
		t.notify(InterfaceNotice(event.NoticeInterfaceAdded, i, nil))
	}
	return added || err != nil
}

func (t *Tracer) followGone(change netdev.Event) {
	i, known, err := t.registry.remove(deviceKey{change.Interface.Index, change.Interface.Namespace})
	if err != nil {
		t.notify(InterfaceNotice(event.NoticeInterfaceFailed, i, err))
	}
	if !known {
		return
	}
	if change.Kind == netdev.Moved {
		t.notify(InterfaceNotice(event.NoticeInterfaceMoved, i, nil))
		return
	}
	t.notify(InterfaceNotice(event.NoticeInterfaceRemoved, i, nil))
	t.holdsDriver()
}

// addReported registers an interface that sent packets before the watch reported it.
func (t *Tracer) addReported(ctx context.Context, d event.Device) {
	namespace, err := netdev.OpenNamespace(ctx, d.NetNS)
	if err != nil {
		return // gone again; what it sent stays counted at index 0
	}
	i, err := namespace.ByIndex(d.Index)
	if errors.Join(err, namespace.Close()) != nil {
		return
	}
	t.add(ctx, i, true)
}

// FindInterfaces returns the interfaces that the options mean, and waits for one
// if Options.Wait is set. The error wraps [ErrCannotRun] if there is none.
func FindInterfaces(ctx context.Context, o Options) ([]netdev.Interface, error) {
	t := &Tracer{options: o, selector: selector{o.Interfaces}}
	return t.interfaces(ctx)
}

// WatchInterfaces sends what happens to interfaces until ctx ends: in the caller's network
// namespace for named ones, else in all. done frees what the watch holds, after that.
func WatchInterfaces(ctx context.Context, names []string) (events <-chan netdev.Event, done func(), err error) {
	return selector{names}.watch(ctx)
}

// Wanted reports whether an interface is one of those named, or driven by xen-netfront if
// none is.
func Wanted(names []string, i netdev.Interface) bool { return selector{names}.wants(i) }
