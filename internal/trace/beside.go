package trace

import (
	"context"

	"github.com/cilium/ebpf"

	"xentrace/internal/netdev"
)

// What is measured beside the tracer, by programs of its own, shares with it how a
// kernel is found fit, which interfaces are meant, and the table by which the
// kernel side knows them.

// CheckKernel refuses what nothing of this program can trace on: no ring buffer, no
// privilege, lockdown, no BTF. The error wraps [ErrCannotRun] and says what is missing.
func CheckKernel() error { return checkKernel() }

// FindInterfaces returns the interfaces that the options mean, and waits for one
// if they say so. The error wraps [ErrCannotRun] if there is none.
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

// RegisterInterface makes the kernel side count an interface at a place of its own;
// the table is the map named interfaces.
func RegisterInterface(table *ebpf.Map, i netdev.Interface, place uint32) error {
	return interfaceTable{table}.insert(deviceKey{i.Index, i.Namespace}, place, i.IsNetfront())
}

// UnregisterInterface ends that.
func UnregisterInterface(table *ebpf.Map, i netdev.Interface) error {
	return interfaceTable{table}.remove(deviceKey{i.Index, i.Namespace})
}

// Explain gives an error of loading or attaching the sentence it deserves.
func Explain(err error) error { return explain(err) }
