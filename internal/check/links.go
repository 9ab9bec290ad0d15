package check

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"golang.org/x/sys/unix"

	"xentrace/internal/kernel"
	"xentrace/internal/netdev"
	"xentrace/internal/trace"
)

// readLinks asks the kernel, over netlink.
func readLinks(ctx context.Context, names []string) (Links, error) {
	own, err := netdev.Current()
	if errors.Is(err, netdev.ErrNamespaceNotFound) {
		return Links{}, fmt.Errorf("%w: network interfaces: %w; is /proc mounted?", trace.ErrCannotRun, err)
	}
	if err != nil {
		return Links{}, fmt.Errorf("network interfaces: %w", err)
	}
	defer own.Close()
	links := Links{NetNS: own.Inum(), Again: counters}
	all, err := own.Interfaces()
	if err != nil {
		return Links{}, err
	}
	for _, name := range names {
		named, err := own.ByName(name) // alternative names too
		if errors.Is(err, netdev.ErrNotFound) {
			return Links{}, fmt.Errorf("%w: %w", trace.ErrCannotRun, err)
		}
		if err != nil {
			return Links{}, err
		}
		links.Judged = append(links.Judged, look(own, named))
	}
	for _, i := range all {
		switch {
		case links.judges(i):
		case len(names) == 0 && i.IsNetfront():
			links.Judged = append(links.Judged, look(own, i))
		default:
			links.Others = append(links.Others, look(own, i))
		}
	}
	if len(names) == 0 {
		return links, links.addOtherNamespaces(ctx)
	}
	return links, nil
}

func (l *Links) judges(i netdev.Interface) bool {
	return slices.ContainsFunc(l.Judged, func(j Interface) bool { return j.Index == i.Index && j.Namespace == i.Namespace })
}

// addOtherNamespaces adds the frontend's interfaces in other namespaces.
func (l *Links) addOtherNamespaces(ctx context.Context) error {
	capabilities, err := kernel.ReadCapabilities()
	if err != nil {
		return err
	}
	if !capabilities.Has(unix.CAP_SYS_ADMIN) { // not even all of them would be found
		l.Unseen = errNeedsRoot.Error()
		return nil
	}
	found, err := netdev.Namespaces(ctx)
	if err != nil {
		return err
	}
	for _, f := range found {
		if err := ctx.Err(); err != nil {
			return err
		}
		if f.Inum == l.NetNS {
			continue
		}
		if err := l.addNamespace(f); err != nil && !errors.Is(err, netdev.ErrNamespaceNotFound) {
			l.Unseen = why(err)
		}
	}
	return nil
}

func (l *Links) addNamespace(f netdev.Found) error {
	ns, err := f.Open()
	if err != nil {
		return err
	}
	defer ns.Close()
	interfaces, err := ns.Interfaces()
	for _, i := range interfaces {
		if i.IsNetfront() {
			l.Judged = append(l.Judged, look(ns, i))
		}
	}
	return err
}

// look reads what else the kernel says of an interface.
func look(ns *netdev.Namespace, i netdev.Interface) Interface {
	counters, err := ns.Counters(i.Index)
	return Interface{
		Interface: i, Path: ns.Path(),
		Features: tried(ns.Features(i.Index)), Counters: tried(Counters{Counters: counters}, err),
	}
}

// counters reads an interface's counters again.
func counters(i *Interface) (netdev.Counters, error) {
	ns, err := netdev.Found{Inum: i.Namespace, Path: i.Path}.Open()
	if err != nil {
		return netdev.Counters{}, err
	}
	defer ns.Close()
	return ns.Counters(i.Index)
}
