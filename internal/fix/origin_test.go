package fix

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"xentrace/internal/event"
	"xentrace/internal/netdev"
	"xentrace/internal/trace"
	"xentrace/test/need"
	"xentrace/test/unshared"
)

const bootFile = "proc/sys/kernel/random/boot_id"

// starts makes the machine one that was started with these ids.
func (m *fakeMachine) starts(machine, boot string) {
	m.t.Helper()
	for name, id := range map[string]string{"etc/machine-id": machine, bootFile: boot} {
		path := filepath.Join(m.root, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			m.t.Fatal(err)
		}
		write(m.t, path, id+"\n")
	}
}

func (m *fakeMachine) said() string { return fmt.Sprint(m.emitted) }

func TestStateOfAnotherMachine(t *testing.T) {
	m := newFakeMachine(t)
	m.starts("one", "a")
	if err := m.fixer().Apply(t.Context(), m.plan(t, "sg-off"), ""); err != nil {
		t.Fatal(err)
	}
	m.starts("two", "a")
	before := m.snapshot()
	for name, err := range map[string]error{
		"revert": m.fixer().Revert(t.Context(), true),
		"apply":  m.fixer().Apply(t.Context(), m.plan(t, "mtu-1400"), ""),
	} {
		if !errors.As(err, new(*StateError)) || !strings.Contains(err.Error(), "another machine") {
			t.Errorf("%s: %v", name, err)
		}
	}
	if after := m.snapshot(); after != before {
		t.Errorf("before:\n%s\nafter:\n%s", before, after)
	}
}

// After a restart only what is again as fix set it is put back.
func TestStateOfAnotherBoot(t *testing.T) {
	for name, c := range map[string]struct {
		restart func(*fakeMachine)
		mtu     int
		sg      bool   // on, after the revert
		sysctl  string // after the revert
		says    string
	}{
		"the files set it again": {func(*fakeMachine) {}, 1500, true, "0", "What fix set is what it was"},
		"nothing set it again": {func(m *fakeMachine) {
			d := m.devices[2]
			d.mtu, d.features["tx-scatter-gather"] = 9000, netdev.Feature{Active: true, Requested: true, Changeable: true}
			m.sysctls[HighOrder] = "0"
		}, 9000, true, "0", "the rest (MTU 9000) as it is since the machine was restarted"},
		"others set it": {func(m *fakeMachine) { m.devices[2].mtu = 1280; m.sysctls[HighOrder] = "7" }, 1280, true, "7", "which fix did not set: it stays"},
		"another interface of that name and address": {func(m *fakeMachine) { m.devices[2].identity.BusInfo = "" }, 1400, false, "0", "not there since the machine was restarted"},
	} {
		t.Run(name, func(t *testing.T) {
			m := newFakeMachine(t)
			delete(m.devices, 3)
			m.starts("one", "a")
			if err := m.fixer().Apply(t.Context(), m.plan(t, "single-pages", "sg-off", "mtu-1400"), ""); err != nil {
				t.Fatal(err)
			}
			m.starts("one", "b")
			c.restart(m)
			m.emitted = nil
			if err := m.fixer().Revert(t.Context(), false); err != nil {
				t.Fatal(err)
			}
			d := m.devices[2]
			if d.mtu != c.mtu || d.features["tx-scatter-gather"].Requested != c.sg || m.sysctls[HighOrder] != c.sysctl {
				t.Errorf("MTU %d, %+v, %v: want %+v", d.mtu, d.features["tx-scatter-gather"], m.sysctls, c)
			}
			if !strings.Contains(m.said(), c.says) {
				t.Errorf("no %q in %s", c.says, m.said())
			}
		})
	}
}

// An interface that cannot be found may be where one cannot look: its state is kept.
func TestInterfaceThatIsNotSeen(t *testing.T) {
	m := newFakeMachine(t)
	if err := m.fixer().Apply(t.Context(), m.plan(t, "sg-off"), ""); err != nil {
		t.Fatal(err)
	}
	hidden := m.devices[2]
	delete(m.devices, 2)
	m.unseen = true
	if err := m.fixer().Revert(t.Context(), false); !errors.Is(err, ErrUnseen) {
		t.Fatalf("%v, want ErrUnseen", err)
	}
	m.devices[2] = hidden
	if err := m.fixer().Revert(t.Context(), false); err != nil || !hidden.features["tx-scatter-gather"].Active {
		t.Errorf("%v, %+v: want the interface restored once it is seen", err, hidden.features)
	}
}

func TestInterfaceThatIsNotSeenIsForgotten(t *testing.T) {
	m := newFakeMachine(t)
	if err := m.fixer().Apply(t.Context(), m.plan(t, "sg-off"), ""); err != nil {
		t.Fatal(err)
	}
	clear(m.devices)
	m.unseen = true
	if err := m.fixer().Revert(t.Context(), true); err != nil || !strings.Contains(m.said(), "Forgotten") {
		t.Errorf("%v, %s", err, m.said())
	}
	if err := m.fixer().Revert(t.Context(), false); !errors.Is(err, ErrNothing) {
		t.Errorf("%v, want ErrNothing", err)
	}
}

// On the running machine: a namespace that only a descriptor keeps alive is not found.
func TestFindInHiddenNamespace(t *testing.T) {
	need.Root(t, "to make network namespaces")
	for _, c := range []struct {
		meant Identity
		want  error
	}{
		{Identity{Name: "eth7", NetNS: ownNamespace(t), Driver: "veth", Index: 1 << 20}, netdev.ErrNotFound},
		{Identity{Name: "eth7", NetNS: 12, Driver: "veth", Index: 1 << 20}, ErrUnseen},
		{Identity{Name: "eth7", NetNS: ownNamespace(t), Driver: netdev.DriverNetfront, BusInfo: "vif-99"}, netdev.ErrNotFound},
		{Identity{Name: "eth7", NetNS: ownNamespace(t), Driver: netdev.DriverNetfront, BusInfo: someDevice(t)}, ErrUnseen},
	} {
		if _, err := (Running{}).Find(t.Context(), c.meant); !errors.Is(err, c.want) {
			t.Errorf("%+v: %v, want %v", c.meant, err, c.want)
		}
	}
}

// someDevice is the name of a device on some bus of this machine.
func someDevice(t *testing.T) string {
	t.Helper()
	found, err := filepath.Glob("/sys/bus/*/devices/*")
	if err != nil || len(found) == 0 {
		t.Fatalf("no devices: %v", err)
	}
	return filepath.Base(found[0])
}

// What is not xentrace's is left, and the state stays until that is settled or forced.
func TestRevertRefuses(t *testing.T) {
	const rule = "etc/udev/rules.d/90-xentrace-fix-eth0.rules"
	for name, spoil := range map[string]func(*testing.T, *fakeMachine){
		"another's file": func(t *testing.T, m *fakeMachine) { write(t, filepath.Join(m.root, rule), "ACTION==\"add\"\n") },
		"a file for a directory": func(t *testing.T, m *fakeMachine) {
			write(t, filepath.Join(m.root, "etc/precious"), "text")
			state, err := m.fixer().store().load()
			if err != nil {
				t.Fatal(err)
			}
			state.Files = append(state.Files, FileState{Path: "/etc/precious", Directory: true})
			if err := m.fixer().store().save(state); err != nil {
				t.Fatal(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			m := newFakeMachine(t)
			if err := m.fixer().Apply(t.Context(), m.plan(t, "sg-off"), Udev); err != nil {
				t.Fatal(err)
			}
			spoil(t, m)
			kept := []string{rule, "etc/precious"}
			before := existing(m, kept)
			for range 2 { // nothing is forgotten
				if err := m.fixer().Revert(t.Context(), false); !errors.Is(err, ErrRefused) {
					t.Fatalf("%v, want ErrRefused", err)
				}
			}
			if !m.devices[2].features["tx-scatter-gather"].Active {
				t.Error("the interface is not restored")
			}
			if err := m.fixer().Revert(t.Context(), true); err != nil {
				t.Fatal(err)
			}
			if name == "a file for a directory" && existing(m, kept[1:]) == "" || name == "another's file" && existing(m, kept[:1]) == "" {
				t.Errorf("removed, there was %s", before)
			}
			refused := 0
			for _, step := range m.emitted {
				if step.Status == event.Refused {
					refused++
				}
			}
			if refused != 3 {
				t.Errorf("%d steps refused in 3 reverts, want 1 each: %s", refused, m.said())
			}
		})
	}
}

func existing(m *fakeMachine, names []string) string {
	found := ""
	for _, name := range names {
		if _, err := os.Lstat(filepath.Join(m.root, name)); err == nil {
			found += name + " "
		}
	}
	return found
}

func TestNothingToRevertMakesNoDirectory(t *testing.T) {
	m := newFakeMachine(t)
	fixer := m.fixer()
	fixer.State = filepath.Join(m.root, "new", "deep", "fix.json")
	if err := fixer.Revert(t.Context(), false); !errors.Is(err, ErrNothing) {
		t.Errorf("%v, want ErrNothing", err)
	}
	if _, err := os.Stat(filepath.Join(m.root, "new")); err == nil {
		t.Error("a directory was made")
	}
}

func TestStateInADirectoryOfOthers(t *testing.T) {
	need.Root(t, "to give a directory away")
	for name, spoil := range map[string]func(string) error{
		"writable":                 func(path string) error { return os.Chmod(filepath.Dir(path), 0o777) },
		"writable one level above": func(path string) error { return os.Chmod(filepath.Dir(filepath.Dir(path)), 0o777) },
		"another's":                func(path string) error { return os.Chown(filepath.Dir(path), 1234, 1234) },
	} {
		t.Run(name, func(t *testing.T) {
			m := newFakeMachine(t)
			if err := m.fixer().Apply(t.Context(), m.plan(t, "sg-off"), ""); err != nil {
				t.Fatal(err)
			}
			if err := spoil(m.fixer().State); err != nil {
				t.Fatal(err)
			}
			if err := m.fixer().Revert(t.Context(), false); !errors.As(err, new(*StateError)) || !strings.Contains(err.Error(), "other users can write to") {
				t.Errorf("%v, want that it is not trusted", err)
			}
		})
	}
}

// /etc is that of the machine's own namespace, not of the one that fix runs in.
func TestPersistInAnotherNamespace(t *testing.T) {
	unshared.Do(t, func() {
		m := newFakeMachine(t)
		before := m.snapshot()
		err := m.fixer().Apply(t.Context(), m.plan(t, "sg-off"), Udev)
		if !errors.Is(err, trace.ErrCannotRun) || !strings.Contains(err.Error(), "not the machine's own network namespace") || m.snapshot() != before {
			t.Errorf("%v", err)
		}
	})
}
