package fix

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"xentrace/internal/event"
	"xentrace/internal/netdev"
	"xentrace/test/need"
)

// What a process that a test starts is to do, in the network namespace it is in.
const (
	playsRole = "XENTRACE_FIX_ROLE"
	killedAt  = "XENTRACE_FIX_KILLED_AT"
	stateAt   = "XENTRACE_FIX_STATE"
)

// onVeth plans steps for v0 of this machine.
func onVeth(t *testing.T) (*Fixer, *Plan, Identity) {
	t.Helper()
	own, err := netdev.Current()
	if err != nil {
		t.Fatal(err)
	}
	defer own.Close()
	i, err := own.ByName("v0")
	if err != nil {
		t.Fatal(err)
	}
	identity := IdentityOf(i)
	fixer := &Fixer{Machine: Running{}, State: os.Getenv(stateAt), Emit: func(s event.FixStep) { t.Logf("%s %s: %s", s.Status, s.Name, s.Message) }}
	todo, err := chosen([]string{"sg-off", "tso-gso-off", "mtu-1400"})
	if err != nil {
		t.Fatal(err)
	}
	plan := &Plan{}
	for _, a := range todo {
		plan.Steps = append(plan.Steps, Step{FixStep: event.FixStep{Name: a.name, Interface: "v0"}, identity: identity, change: a.change})
	}
	return fixer, plan, identity
}

// realSnapshot is what the kernel says of v0.
func realSnapshot(t *testing.T, identity Identity) string {
	t.Helper()
	device, err := Running{}.Find(t.Context(), identity)
	if err != nil {
		t.Fatal(err)
	}
	features, err := device.Features()
	if err != nil {
		t.Fatal(err)
	}
	mtu, err := device.MTU()
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprint(mtu, features)
}

// self runs a test of this binary in a process of its own.
func self(role string, environment ...string) *exec.Cmd {
	cmd := exec.Command(os.Args[0], "-test.run=^TestRoles$", "-test.v")
	cmd.Env = append(append(os.Environ(), playsRole+"="+role), environment...)
	return cmd
}

// A process on a real interface, killed between any two steps: a revert by another
// gives back the very same features and MTU.
func TestKilledForReal(t *testing.T) {
	need.Root(t, "to make network namespaces")
	need.Tool(t, "ip")
	cmd := self("survivor", stateAt+"="+filepath.Join(t.TempDir(), "fix.json"))
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNET}
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "killed everywhere") {
		t.Fatalf("%v\n%s", err, out)
	}
}

// TestRoles is not a test but what the others run.
func TestRoles(t *testing.T) {
	switch os.Getenv(playsRole) {
	case "victim":
		fixer, plan, _ := onVeth(t)
		at, _ := strconv.Atoi(os.Getenv(killedAt))
		fixer.between = func() {
			if at--; at == 0 {
				_ = unix.Kill(unix.Getpid(), unix.SIGKILL)
			}
		}
		fixer.Machine = counted{fixer.between}
		if err := fixer.Apply(t.Context(), plan, ""); err != nil {
			t.Fatal(err)
		}
	case "survivor":
		survive(t)
	}
}

// survive kills a process at each point and reverts.
func survive(t *testing.T) {
	for _, words := range []string{"link add v0 mtu 9000 type veth peer name v1", "link set v0 up", "link set v1 up"} {
		if out, err := exec.Command("ip", strings.Fields(words)...).CombinedOutput(); err != nil {
			t.Fatalf("ip %s: %v %s", words, err, out)
		}
	}
	fixer, _, identity := onVeth(t)
	before, changed := realSnapshot(t, identity), 0
	for at := 1; ; at++ {
		out, err := self("victim", killedAt+"="+strconv.Itoa(at)).CombinedOutput()
		var exit *exec.ExitError
		if killed := errors.As(err, &exit); err != nil && !killed {
			t.Fatal(err)
		}
		if realSnapshot(t, identity) != before {
			changed++
		}
		if revert := fixer.Revert(t.Context(), false); revert != nil && !errors.Is(revert, ErrNothing) {
			t.Fatalf("killed at %d: %v\n%s", at, revert, out)
		}
		if now := realSnapshot(t, identity); now != before {
			t.Fatalf("killed at %d: before\n%s\nreverted\n%s", at, before, now)
		}
		if err == nil {
			if at < 8 || changed < 4 {
				t.Fatalf("only %d points, and after %d of them something was changed", at, changed)
			}
			t.Logf("killed everywhere: %d points, after %d of which something was changed", at, changed)
			return
		}
	}
}

// counted is this machine, with a point before and after each change.
type counted struct{ point func() }

func (c counted) Sysctl(name string) (string, error) { return Running{}.Sysctl(name) }
func (c counted) SetSysctl(name, value string) error { return Running{}.SetSysctl(name, value) }

func (c counted) Find(ctx context.Context, meant Identity) (Device, error) {
	found, err := Running{}.Find(ctx, meant)
	return countedDevice{found, c.point}, err
}

type countedDevice struct {
	Device
	point func()
}

func (c countedDevice) SetMTU(mtu int) error {
	c.point()
	err := c.Device.SetMTU(mtu)
	c.point()
	return err
}

func (c countedDevice) SetFeatures(on map[string]bool) error {
	c.point()
	err := c.Device.SetFeatures(on)
	c.point()
	return err
}
