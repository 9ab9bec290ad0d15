package fix

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"xentrace/internal/event"
	"xentrace/internal/trace"
	"xentrace/test/need"
)

// plan plans these steps for eth0 and eth1, in the order in which they are done.
func (m *fakeMachine) plan(t *testing.T, names ...string) *Plan {
	t.Helper()
	todo, err := chosen(names)
	if err != nil {
		t.Fatal(err)
	}
	plan := &Plan{}
	for _, a := range todo {
		for _, index := range slices.Sorted(maps.Keys(m.devices)) {
			step := Step{FixStep: event.FixStep{Name: a.name, Command: a.command}, change: a.change}
			if a.change.sysctl == "" {
				step.Interface, step.identity = m.devices[index].identity.Name, m.devices[index].identity
				step.has = map[string]bool{"tx-scatter-gather": true, "tx-tcp-segmentation": true}
			}
			plan.Steps = append(plan.Steps, step)
			if a.change.sysctl != "" {
				break
			}
		}
	}
	return plan
}

// spoil makes eth0 an interface with scatter-gather off, and eth1 one with a large
// MTU, so that every kind of change is made.
func (m *fakeMachine) spoil(t *testing.T) {
	t.Helper()
	if err := m.devices[2].SetFeatures(map[string]bool{"tx-scatter-gather": false, "tx-tcp-segmentation": false}); err != nil {
		t.Fatal(err)
	}
	m.devices[3].mtu = 9001
}

func TestApplyAndRevert(t *testing.T) {
	for _, persist := range append(Persistences(), "") {
		t.Run(string(persist), func(t *testing.T) {
			m := newFakeMachine(t)
			m.spoil(t)
			before := m.snapshot()
			plan := m.plan(t, "single-pages", "sg-on", "tso-gso-on", "mtu-1400")
			if err := m.fixer().Apply(t.Context(), plan, persist); err != nil {
				t.Fatal(err)
			}
			for index, d := range m.devices {
				if d.mtu != 1400 || !d.features["tx-scatter-gather"].Active || !d.features["tx-tcp-segmentation"].Active {
					t.Errorf("interface %d: MTU %d, %v", index, d.mtu, d.features)
				}
			}
			if m.sysctls[HighOrder] != "1" {
				t.Errorf("%s is %s", HighOrder, m.sysctls[HighOrder])
			}
			info, err := os.Stat(m.fixer().State)
			if err != nil || info.Mode() != 0o600 {
				t.Errorf("state file: %v %v, want mode 0600", info, err)
			}
			if err := m.fixer().Revert(t.Context(), false); err != nil {
				t.Fatal(err)
			}
			if after := m.snapshot(); after != before {
				t.Errorf("before:\n%s\nafter:\n%s", before, after)
			}
			if left, err := os.ReadDir(filepath.Dir(m.fixer().State)); err != nil || len(left) != 0 {
				t.Errorf("left beside the state: %v %v", left, err)
			}
			if err := m.fixer().Revert(t.Context(), false); !errors.Is(err, ErrNothing) {
				t.Errorf("reverting again: %v, want ErrNothing", err)
			}
		})
	}
}

// A crash at every point of an apply, and then at every point of the revert: the
// next revert gives back what was there.
func TestCrashAtEveryPoint(t *testing.T) {
	for _, persist := range append(Persistences(), "") {
		t.Run(string(persist), func(t *testing.T) {
			t.Parallel()
			whole := newFakeMachine(t)
			whole.spoil(t)
			apply := func(m *fakeMachine) error {
				return m.fixer().Apply(t.Context(), m.plan(t, "single-pages", "sg-on", "mtu-1400"), persist)
			}
			whole.points = 0
			if err := apply(whole); err != nil {
				t.Fatal(err)
			}
			total := whole.points
			if total < 20 {
				t.Fatalf("%d points, want more", total)
			}
			for at := 1; at <= total; at++ {
				crashTwice(t, at, apply)
			}
		})
	}
}

// crashTwice crashes an apply at a point, and reverts of it at each of theirs.
func crashTwice(t *testing.T, at int, apply func(*fakeMachine) error) {
	t.Helper()
	for second := 0; ; second++ {
		m := newFakeMachine(t)
		m.spoil(t)
		before := m.snapshot()
		m.points, m.crashAt = 0, at
		if m.survives(func() { _ = apply(m) }) {
			t.Fatalf("no crash at point %d", at)
		}
		m.points, m.crashAt = 0, second
		reverted := second == 0 || m.survives(func() { _ = m.fixer().Revert(t.Context(), false) })
		m.crashAt = 0
		if err := m.fixer().Revert(t.Context(), false); err != nil && !errors.Is(err, ErrNothing) {
			t.Fatalf("crash at %d, then at %d of the revert: %v", at, second, err)
		}
		if after := m.snapshot(); after != before {
			t.Fatalf("crash at %d, then at %d of the revert: before\n%s\nafter\n%s", at, second, before, after)
		}
		if left, _ := os.ReadDir(filepath.Dir(m.fixer().State)); len(left) != 0 {
			t.Fatalf("crash at %d, then at %d of the revert: %v is left", at, second, left)
		}
		if second > 0 && reverted || at%5 != 0 {
			return // every fifth crash with all of the second ones
		}
	}
}

// If one step fails, those before it are undone, and nothing is left.
func TestAllOrNothing(t *testing.T) {
	for name, c := range map[string]struct {
		refuse string
		err    error
		broken string
		want   string
	}{
		"the last step fails":            {refuse: "mtu eth1", err: unix.EINVAL, want: "step mtu-1400: invalid argument"},
		"a step in the middle fails":     {refuse: "features eth1", err: unix.EIO, want: "step sg-on: input/output error"},
		"the driver declines in silence": {broken: "eth0 tx-scatter-gather", want: "tx-scatter-gather is off although it was asked for"},
		"read-only sysctls":              {refuse: "sysctl", err: unix.EROFS, want: "start the container with --privileged"},
		"not root":                       {refuse: "sysctl", err: unix.EACCES, want: "run with sudo"},
	} {
		t.Run(name, func(t *testing.T) {
			m := newFakeMachine(t)
			m.spoil(t)
			before := m.snapshot()
			if c.broken != "" {
				m.broken = c.broken
			}
			if c.refuse != "" {
				m.refuse[c.refuse] = c.err
			}
			err := m.fixer().Apply(t.Context(), m.plan(t, "single-pages", "sg-on", "mtu-1400"), Systemd)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Fatalf("%v, want %q", err, c.want)
			}
			if cannot := errors.Is(err, trace.ErrCannotRun); cannot != (c.err != nil && c.err != unix.EIO) {
				t.Errorf("%v: cannot run here: %v", err, cannot)
			}
			m.broken = ""
			for _, d := range m.devices {
				_ = d.SetFeatures(nil) // what is asked for is what counts
			}
			if after := m.snapshot(); after != before {
				t.Errorf("before:\n%s\nafter:\n%s", before, after)
			}
			if _, err := os.Stat(m.fixer().State); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("a state file is left: %v", err)
			}
		})
	}
}

// What was there before the first of two runs is what comes back.
func TestAppliedTwice(t *testing.T) {
	m := newFakeMachine(t)
	m.spoil(t)
	before := m.snapshot()
	for n, steps := range [][]string{{"sg-on"}, {"sg-on", "mtu-1400"}, {"mtu-1300", "single-pages"}} {
		if err := m.fixer().Apply(t.Context(), m.plan(t, steps...), Udev); err != nil {
			t.Fatalf("run %d: %v", n, err)
		}
	}
	rule, err := os.ReadFile(filepath.Join(m.root, "etc/udev/rules.d/90-xentrace-fix-eth0.rules"))
	if err != nil || !strings.Contains(string(rule), "tx-scatter-gather on") || !strings.Contains(string(rule), "mtu 1300") {
		t.Errorf("the file holds not all that was applied: %s %v", rule, err)
	}
	m.refuse["mtu eth1"] = unix.EIO // a run that fails takes back what it did, and no more
	middle := m.snapshot()
	if err := m.fixer().Apply(t.Context(), m.plan(t, "mtu-1200"), Udev); err == nil {
		t.Fatal("no error")
	}
	if now := m.snapshot(); now != middle {
		t.Errorf("before:\n%s\nafter:\n%s", middle, now)
	}
	delete(m.refuse, "mtu eth1")
	if err := m.fixer().Revert(t.Context(), false); err != nil {
		t.Fatal(err)
	}
	if after := m.snapshot(); after != before {
		t.Errorf("before:\n%s\nafter:\n%s", before, after)
	}
}

// What cannot be undone stays written down, for a revert when it can.
func TestNotUndone(t *testing.T) {
	m := newFakeMachine(t)
	m.spoil(t)
	before := m.snapshot()
	fixer := m.fixer()
	fixer.Emit = func(s event.FixStep) {
		if s.Name == "sg-on" && s.Status == event.Applied { // from here on nothing can be changed
			for _, what := range []string{"sysctl", "features eth0", "features eth1", "mtu eth0", "mtu eth1"} {
				m.refuse[what] = unix.EIO
			}
		}
	}
	err := fixer.Apply(t.Context(), m.plan(t, "single-pages", "sg-on", "mtu-1400"), "")
	if !errors.Is(err, ErrNotUndone) || !strings.Contains(err.Error(), "xentrace fix --revert --state "+m.fixer().State+" tries again") {
		t.Fatalf("%v, want ErrNotUndone", err)
	}
	if err := m.fixer().Revert(t.Context(), false); err == nil || errors.Is(err, ErrNothing) || !strings.Contains(err.Error(), "the state file stays") {
		t.Fatalf("reverted though nothing can be changed: %v", err)
	}
	clear(m.refuse)
	if err := m.fixer().Revert(t.Context(), false); err != nil {
		t.Fatal(err)
	}
	if after := m.snapshot(); after != before {
		t.Errorf("before:\n%s\nafter:\n%s", before, after)
	}
}

// An interrupt between two steps undoes those before it.
func TestInterrupted(t *testing.T) {
	m := newFakeMachine(t)
	m.spoil(t)
	before := m.snapshot()
	ctx, cancel := context.WithCancel(t.Context())
	fixer := m.fixer()
	fixer.Emit = func(s event.FixStep) {
		if s.Status == event.Applied {
			cancel()
		}
	}
	if err := fixer.Apply(ctx, m.plan(t, "single-pages", "sg-on"), Udev); !errors.Is(err, context.Canceled) || errors.Is(err, ErrNotUndone) {
		t.Fatalf("%v, want canceled", err)
	}
	if after := m.snapshot(); after != before {
		t.Errorf("before:\n%s\nafter:\n%s", before, after)
	}
}

func TestInterfaceGoneOrRenamed(t *testing.T) {
	m := newFakeMachine(t)
	m.spoil(t)
	before := fmt.Sprint(m.devices[3].mtu, m.devices[3].features, m.sysctls)
	if err := m.fixer().Apply(t.Context(), m.plan(t, "single-pages", "sg-on", "mtu-1400"), ""); err != nil {
		t.Fatal(err)
	}
	delete(m.devices, 2)
	m.devices[3].identity.Name, m.devices[3].identity.Index, m.devices[3].identity.NetNS = "enX1", 77, 5
	m.emitted = nil
	if err := m.fixer().Revert(t.Context(), false); err != nil {
		t.Fatal(err)
	}
	if after := fmt.Sprint(m.devices[3].mtu, m.devices[3].features, m.sysctls); after != before {
		t.Errorf("before %s, after %s", before, after)
	}
	said := fmt.Sprint(m.emitted)
	for _, part := range []string{"The interface is gone", "It was eth1 and is enX1 in network namespace 5 by now"} {
		if !strings.Contains(said, part) {
			t.Errorf("no %q in %s", part, said)
		}
	}
}

func TestTwoAtOnce(t *testing.T) {
	m := newFakeMachine(t)
	held, err := m.fixer().store().lock()
	if err != nil {
		t.Fatal(err)
	}
	before := m.snapshot()
	for name, err := range map[string]error{
		"apply":  m.fixer().Apply(t.Context(), m.plan(t, "sg-off"), ""),
		"revert": m.fixer().Revert(t.Context(), false),
	} {
		if err == nil || !strings.Contains(err.Error(), "another xentrace fix is at work") {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := held.release(); err != nil || m.snapshot() != before {
		t.Errorf("%v, or something was changed", err)
	}
}

func TestStateIsNotTrusted(t *testing.T) {
	for name, spoil := range map[string]func(path string) error{
		"writable by others": func(path string) error { return os.Chmod(path, 0o666) },
		"another's":          func(path string) error { return os.Chown(path, 65534, 65534) },
		"a link": func(path string) error {
			return errors.Join(os.Rename(path, path+"2"), os.Symlink(path+"2", path))
		},
		"a directory": func(path string) error { return errors.Join(os.Remove(path), os.Mkdir(path, 0o700)) },
		"no JSON":     func(path string) error { return os.WriteFile(path, []byte("eth0"), 0o600) },
		"text behind": func(path string) error {
			content, err := os.ReadFile(path)
			return errors.Join(err, os.WriteFile(path, append(content, "{}\n"...), 0o600))
		},
		"half a record behind": func(path string) error {
			content, err := os.ReadFile(path)
			return errors.Join(err, os.WriteFile(path, append(content, content[:len(content)/2]...), 0o600))
		},
		"zeros behind": func(path string) error {
			info, err := os.Stat(path)
			return errors.Join(err, os.Truncate(path, info.Size()+100))
		},
		"cut off": func(path string) error {
			info, err := os.Stat(path)
			return errors.Join(err, os.Truncate(path, info.Size()-10))
		},
		"another form":  func(path string) error { return os.WriteFile(path, []byte(`{"version":99}`), 0o600) },
		"a named pipe":  func(path string) error { return errors.Join(os.Remove(path), unix.Mkfifo(path, 0o600)) }, // not waited for
		"an empty file": func(path string) error { return os.Truncate(path, 0) },
	} {
		t.Run(name, func(t *testing.T) {
			if name == "another's" {
				need.Root(t, "to give a file away")
			}
			m := newFakeMachine(t)
			if err := m.fixer().Apply(t.Context(), m.plan(t, "sg-off"), ""); err != nil {
				t.Fatal(err)
			}
			if err := spoil(m.fixer().State); err != nil {
				t.Fatal(err)
			}
			before, lying := m.snapshot(), whatLies(m.fixer().State)
			if err := m.fixer().Revert(t.Context(), false); errors.Is(err, ErrNothing) || !errors.As(err, new(*StateError)) ||
				!strings.HasPrefix(err.Error(), "state file "+m.fixer().State+": ") || !strings.HasSuffix(err.Error(), "or move this one away") {
				t.Errorf("reverted: %v", err)
			}
			if err := m.fixer().Apply(t.Context(), m.plan(t, "mtu-1400"), Udev); !errors.As(err, new(*StateError)) {
				t.Errorf("applied: %v", err)
			}
			if m.snapshot() != before {
				t.Error("something was changed")
			}
			if now := whatLies(m.fixer().State); now != lying {
				t.Errorf("in the state file's place was %s, and is %s", lying, now)
			}
		})
	}
}

// whatLies at a path: its mode, and the content of a regular file.
func whatLies(path string) string {
	info, err := os.Lstat(path)
	switch {
	case err != nil:
		return err.Error()
	case !info.Mode().IsRegular():
		return info.Mode().String()
	}
	content, err := os.ReadFile(path)
	return fmt.Sprint(info.Mode(), string(content), err)
}

// What a run changed is undone afterwards; what an earlier one changed stays, with its state.
func TestUndoOfTheLastRun(t *testing.T) {
	m := newFakeMachine(t)
	m.spoil(t)
	if err := m.fixer().Apply(t.Context(), m.plan(t, "sg-on"), ""); err != nil {
		t.Fatal(err)
	}
	before := m.snapshot()
	fixer := m.fixer()
	if err := fixer.Apply(t.Context(), m.plan(t, "single-pages", "mtu-1400"), Udev); err != nil {
		t.Fatal(err)
	}
	if err := fixer.Undo(t.Context()); err != nil {
		t.Fatal(err)
	}
	if after := m.snapshot(); after != before {
		t.Errorf("before:\n%s\nafter:\n%s", before, after)
	}
}

// After another run in between nothing is undone: what it noted would be wrong.
func TestUndoAfterAnotherRun(t *testing.T) {
	m := newFakeMachine(t)
	m.spoil(t)
	fixer := m.fixer()
	if err := fixer.Apply(t.Context(), m.plan(t, "single-pages"), ""); err != nil {
		t.Fatal(err)
	}
	if err := m.fixer().Apply(t.Context(), m.plan(t, "mtu-1400"), ""); err != nil {
		t.Fatal(err)
	}
	before := m.snapshot()
	if err := fixer.Undo(t.Context()); !errors.Is(err, ErrNotUndone) {
		t.Errorf("%v, want that it is not undone", err)
	}
	if after := m.snapshot(); after != before {
		t.Errorf("before:\n%s\nafter:\n%s", before, after)
	}
}
