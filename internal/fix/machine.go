package fix

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"xentrace/internal/kernel"
	"xentrace/internal/netdev"
	"xentrace/internal/trace"
)

// A Machine is what is changed: the one this runs on, or what a test puts in its
// place.
type Machine interface {
	// Sysctl returns the value of a setting, named with dots.
	Sysctl(name string) (string, error)
	SetSysctl(name, value string) error
	// Find returns the interface that was meant, under whatever name and in
	// whatever network namespace it is by now. The error wraps netdev.ErrNotFound
	// if it is certainly gone, and else ErrUnseen if it may be where one cannot look.
	Find(ctx context.Context, meant Identity) (Device, error)
}

// A Device is one network interface.
type Device interface {
	Identity() Identity
	MTU() (int, error)
	SetMTU(mtu int) error
	Counters() (netdev.Counters, error)
	// Features returns every offload by its name.
	Features() (map[string]netdev.Feature, error)
	// SetFeatures asks for offloads to be on or off, all at once.
	SetFeatures(on map[string]bool) error
}

// An Identity is what an interface is known by, when its name has changed too.
type Identity struct {
	Name    string `json:"name"`
	Index   int    `json:"index"`
	NetNS   uint32 `json:"netns"`
	Driver  string `json:"driver"`
	BusInfo string `json:"bus_info"`
	Address string `json:"address"`
}

// same reports how well an interface fits what was meant: 0 if not at all.
func (i Identity) same(found Identity) int {
	if i.Driver != found.Driver || i.BusInfo != found.BusInfo {
		return 0
	}
	switch {
	case i.NetNS == found.NetNS && i.Index == found.Index && (i.BusInfo != "" || i.Address == found.Address):
		return 4
	case i.BusInfo != "" && i.Address == found.Address:
		return 3 // moved, or attached again
	case i.BusInfo != "" && i.Name == found.Name:
		return 2 // with another address
	case i.Address == found.Address && i.Address != "" && i.Name == found.Name:
		return 1
	}
	return 0
}

// sameHardware reports that an interface of another boot is the one that was meant: names,
// indices and namespaces mean nothing then.
func (i Identity) sameHardware(found Identity) bool {
	return i.BusInfo != "" && i.Driver == found.Driver && i.BusInfo == found.BusInfo && i.Address == found.Address
}

// ErrUnseen means that an interface may be in a network namespace that cannot be found: one
// that no process is in and that is mounted nowhere.
var ErrUnseen = errors.New("the interface may be in a network namespace that cannot be found; run xentrace fix --revert in that namespace, or give --force to forget the interface's settings")

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
		return nil, fmt.Errorf("%w: missing privilege CAP_NET_ADMIN, to change the features and the MTU of an interface; %s", trace.ErrCannotRun, kernel.HowToGain(os.Geteuid()))
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
	if gone, err := isGone(ctx, meant); err != nil || !gone {
		return nil, cmp.Or(err, fmt.Errorf("interface %s: %w", netdev.Interface{Name: meant.Name}, ErrUnseen))
	}
	return nil, &netdev.NotFoundError{Name: meant.Name, Namespace: meant.NetNS}
}

// isGone reports whether an interface that is in no namespace that can be found is gone for
// certain: its device left the bus or, without a device, its namespace is there without it.
func isGone(ctx context.Context, meant Identity) (bool, error) {
	// Of drivers without a bus it is a word such as "tap".
	if meant.Driver == netdev.DriverNetfront || strings.Contains(meant.BusInfo, ":") {
		found, err := filepath.Glob("/sys/bus/*/devices/" + meant.BusInfo)
		return len(found) == 0, err
	}
	namespaces, err := netdev.Namespaces(ctx)
	return slices.ContainsFunc(namespaces, func(f netdev.Found) bool { return f.Inum == meant.NetNS }), err
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

func ask[T any](d device, read func(ns *netdev.Namespace, index int) (T, error)) (answer T, err error) {
	err = d.in(func(ns *netdev.Namespace) (err error) {
		answer, err = read(ns, d.identity.Index)
		return err
	})
	return answer, err
}

func (d device) in(do func(*netdev.Namespace) error) error {
	ns, err := d.open()
	if err != nil {
		return err
	}
	return errors.Join(do(ns), ns.Close())
}

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
