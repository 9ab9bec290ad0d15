package fix

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"xentrace/internal/event"
	"xentrace/internal/netdev"
)

// crashed is what a fake machine panics with where the process is killed.
type crashed struct{}

// A fakeMachine has one sysctl and two interfaces that behave as xen-netfront's.
// Every change of it, and every step on the disk, is a point at which it can crash.
type fakeMachine struct {
	t       *testing.T
	root    string
	sysctls map[string]string
	devices map[int]*fakeDevice // by index
	emitted []event.FixStep

	points  int              // that were passed
	crashAt int              // the point to crash at; 0 for none
	unseen  bool             // interfaces may be where nobody can look
	refuse  map[string]error // what fails: "sysctl", "features eth0", "mtu eth0"
	broken  string           // "eth0 FEATURE": stays off whatever is asked for
}

type fakeDevice struct {
	machine  *fakeMachine
	identity Identity
	mtu      int
	features map[string]netdev.Feature
	counters netdev.Counters
}

func newFakeMachine(t *testing.T) *fakeMachine {
	m := &fakeMachine{t: t, root: t.TempDir(), sysctls: map[string]string{HighOrder: "0"}, devices: map[int]*fakeDevice{}, refuse: map[string]error{}}
	for n, name := range []string{"eth0", "eth1"} {
		d := &fakeDevice{machine: m, mtu: 1500, features: map[string]netdev.Feature{
			"tx-lockless":   {},
			"rx-gro":        {Active: true, Requested: true, Changeable: true},
			"tx-gso-robust": {Active: true, Requested: true},
		}}
		d.identity = Identity{Name: name, Index: 2 + n, NetNS: ownNamespace(t), Driver: netdev.DriverNetfront, BusInfo: fmt.Sprintf("vif-%d", n), Address: fmt.Sprintf("00:16:3e:00:00:0%d", n)}
		for _, feature := range []string{"tx-scatter-gather", "tx-tcp-segmentation", "tx-tcp6-segmentation", "tx-generic-segmentation"} {
			d.features[feature] = netdev.Feature{Active: true, Requested: true, Changeable: true}
		}
		m.devices[d.identity.Index] = d
	}
	for _, directory := range []string{"etc/systemd/system", "etc/network/if-up.d", "etc/NetworkManager/dispatcher.d", "etc/udev/rules.d", "usr/sbin"} {
		if err := os.MkdirAll(filepath.Join(m.root, directory), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for _, tool := range []string{"ethtool", "ip"} {
		if err := os.WriteFile(filepath.Join(m.root, "usr/sbin", tool), nil, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return m
}

// ownNamespace is the test's, in which its interfaces are.
func ownNamespace(t *testing.T) uint32 {
	t.Helper()
	own, err := netdev.Current()
	if err != nil {
		t.Fatal(err)
	}
	defer own.Close()
	return own.Inum()
}

func (m *fakeMachine) fixer() *Fixer {
	return &Fixer{
		Machine: m, Root: m.root, State: filepath.Join(m.root, "var", "fix.json"),
		Emit: func(s event.FixStep) { m.emitted = append(m.emitted, s) }, between: m.point,
	}
}

// point is passed between any two changes.
func (m *fakeMachine) point() {
	m.points++
	if m.points == m.crashAt {
		panic(crashed{})
	}
}

// survives runs do and reports whether it was not cut off by a crash.
func (m *fakeMachine) survives(do func()) (survived bool) {
	defer func() {
		if r := recover(); r != nil {
			if _, is := r.(crashed); !is {
				panic(r)
			}
		}
	}()
	do()
	return true
}

func (m *fakeMachine) Sysctl(name string) (string, error) {
	value, is := m.sysctls[name]
	if !is {
		return "", fmt.Errorf("sysctl %s: %w", name, os.ErrNotExist)
	}
	return value, nil
}

func (m *fakeMachine) SetSysctl(name, value string) error {
	if err := m.refuse["sysctl"]; err != nil {
		return fmt.Errorf("sysctl %s: %w", name, err)
	}
	m.point()
	m.sysctls[name] = value
	m.point()
	return nil
}

func (m *fakeMachine) Find(_ context.Context, meant Identity) (Device, error) {
	for _, d := range m.devices {
		if meant.same(d.identity) > 0 {
			return d, nil
		}
	}
	if m.unseen {
		return nil, ErrUnseen
	}
	return nil, &netdev.NotFoundError{Name: meant.Name, Namespace: meant.NetNS}
}

func (d *fakeDevice) Identity() Identity                 { return d.identity }
func (d *fakeDevice) MTU() (int, error)                  { return d.mtu, nil }
func (d *fakeDevice) Counters() (netdev.Counters, error) { return d.counters, nil }
func (d *fakeDevice) Features() (map[string]netdev.Feature, error) {
	return maps.Clone(d.features), nil
}

func (d *fakeDevice) SetMTU(mtu int) error {
	if err := d.machine.refuse["mtu "+d.identity.Name]; err != nil {
		return err
	}
	if mtu > 1500 && !d.features["tx-scatter-gather"].Active {
		return fmt.Errorf("MTU %d: %w", mtu, unix.EINVAL)
	}
	d.machine.point()
	d.mtu = mtu
	d.machine.point()
	return nil
}

// SetFeatures does as the driver: TSO needs scatter-gather, and without that the
// MTU is at most 1500.
func (d *fakeDevice) SetFeatures(on map[string]bool) error {
	if err := d.machine.refuse["features "+d.identity.Name]; err != nil && len(on) > 0 {
		return err
	}
	for name := range on {
		if !d.features[name].Changeable {
			return errors.ErrUnsupported
		}
	}
	d.machine.point()
	for name, want := range on {
		f := d.features[name]
		f.Requested = want
		d.features[name] = f
	}
	sg := d.features["tx-scatter-gather"].Requested
	for name, f := range d.features {
		if f.Changeable {
			f.Active = f.Requested && d.identity.Name+" "+name != d.machine.broken && (sg || name == "rx-gro")
			d.features[name] = f
		}
	}
	if !sg {
		d.mtu = min(d.mtu, 1500)
	}
	d.machine.point()
	return nil
}

// A snapshot is everything that must be as it was.
func (m *fakeMachine) snapshot() string {
	text := fmt.Sprintln(m.sysctls)
	for index := 2; index < 4; index++ {
		if d := m.devices[index]; d != nil {
			text += fmt.Sprintln(d.identity.Index, d.mtu, d.features)
		}
	}
	err := filepath.WalkDir(m.root, func(path string, entry os.DirEntry, err error) error {
		if err == nil && !strings.HasPrefix(path, filepath.Join(m.root, "var")) {
			info, _ := entry.Info()
			content, _ := os.ReadFile(path)
			text += fmt.Sprintln(path, info.Mode(), string(content))
		}
		return err
	})
	if err != nil {
		m.t.Fatal(err)
	}
	return text
}
