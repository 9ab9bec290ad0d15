package fix

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"

	"xentrace/internal/kernel"
	"xentrace/internal/netdev"
	"xentrace/internal/trace"
)

// Running is the machine that this runs on.
type Running struct{}

// Open returns the machine that this runs on, to be changed. The error wraps
// trace.ErrCannotRun where the privilege for that is missing.
func Open() (Machine, error) {
	capabilities, err := kernel.ReadCapabilities()
	if err != nil {
		return nil, err
	}
	if !capabilities.Has(unix.CAP_NET_ADMIN) {
		return nil, fmt.Errorf("%w: missing privilege CAP_NET_ADMIN, to change the features and the MTU of an interface: run it as root, with sudo", trace.ErrCannotRun)
	}
	return Running{}, nil
}

// Sysctl implements [Machine].
func (Running) Sysctl(name string) (string, error) {
	content, err := os.ReadFile(sysctlPath(name))
	if err != nil {
		return "", fmt.Errorf("sysctl %s: %w", name, err)
	}
	return strings.TrimSpace(string(content)), nil
}

// SetSysctl implements [Machine].
func (Running) SetSysctl(name, value string) error {
	file, err := os.OpenFile(sysctlPath(name), os.O_WRONLY, 0)
	if err != nil {
		return fmt.Errorf("sysctl %s: %w", name, err)
	}
	_, err = file.WriteString(value + "\n")
	if err := errors.Join(err, file.Close()); err != nil {
		return fmt.Errorf("sysctl %s: %w", name, err)
	}
	return nil
}

func sysctlPath(name string) string { return "/proc/sys/" + strings.ReplaceAll(name, ".", "/") }

// Find implements [Machine]. Namespaces that may not be looked into are errors
// only if the interface is not found in the others.
func (Running) Find(ctx context.Context, meant Identity) (Device, error) {
	own, err := ownInterfaces()
	if err != nil {
		return nil, err
	}
	if found := best(own, meant, 4); found != nil {
		return found, nil
	}
	all, unseen := netdev.All(ctx)
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if found := best(append(all, own...), meant, 1); found != nil {
		return found, nil
	}
	if unseen != nil {
		return nil, fmt.Errorf("interface %s: not every network namespace can be looked into: %w", netdev.Interface{Name: meant.Name}, unseen)
	}
	return nil, &netdev.NotFoundError{Name: meant.Name, Namespace: meant.NetNS}
}

func ownInterfaces() ([]netdev.Interface, error) {
	own, err := netdev.Current()
	if err != nil {
		return nil, err
	}
	defer own.Close()
	return own.Interfaces()
}

// best returns the interface that fits best, if one fits well enough.
func best(all []netdev.Interface, meant Identity, enough int) Device {
	var found Device
	for _, i := range all {
		identity := IdentityOf(i)
		if fits := meant.same(identity); fits >= enough {
			found, enough = device{identity}, fits+1
		}
	}
	return found
}

// IdentityOf returns what the interface is known by.
func IdentityOf(i netdev.Interface) Identity {
	return Identity{Name: i.Name, Index: i.Index, NetNS: i.Namespace, Driver: i.Driver, BusInfo: i.BusInfo, Address: i.HardwareAddr.String()}
}

// A device is an interface of this machine. It keeps no namespace open, which
// would keep that alive.
type device struct{ identity Identity }

func (d device) Identity() Identity { return d.identity }

func (d device) MTU() (int, error) {
	i, err := ask(d, (*netdev.Namespace).ByIndex)
	return i.MTU, err
}

func (d device) SetMTU(mtu int) error {
	return d.in(func(ns *netdev.Namespace) error { return ns.SetMTU(d.identity.Index, mtu) })
}

func (d device) Counters() (netdev.Counters, error) { return ask(d, (*netdev.Namespace).Counters) }

func (d device) Features() (map[string]netdev.Feature, error) {
	return ask(d, (*netdev.Namespace).AllFeatures)
}

func (d device) SetFeatures(on map[string]bool) error {
	return d.in(func(ns *netdev.Namespace) error { return ns.SetFeatures(d.identity.Index, on) })
}

// ask reads something of the interface in its namespace.
func ask[T any](d device, read func(ns *netdev.Namespace, index int) (T, error)) (answer T, err error) {
	err = d.in(func(ns *netdev.Namespace) (err error) {
		answer, err = read(ns, d.identity.Index)
		return err
	})
	return answer, err
}

// in runs do with the interface's namespace open.
func (d device) in(do func(*netdev.Namespace) error) error {
	ns, err := d.open()
	if err != nil {
		return err
	}
	return errors.Join(do(ns), ns.Close())
}

// open opens the namespace that the interface was found in.
func (d device) open() (*netdev.Namespace, error) {
	own, err := netdev.Current()
	if err != nil || own.Inum() == d.identity.NetNS {
		return own, err
	}
	if err := own.Close(); err != nil {
		return nil, err
	}
	found, err := netdev.Namespaces(context.Background())
	if err != nil {
		return nil, err
	}
	for _, f := range found {
		if f.Inum == d.identity.NetNS {
			return f.Open()
		}
	}
	return nil, &netdev.NotFoundError{Name: d.identity.Name, Namespace: d.identity.NetNS}
}
