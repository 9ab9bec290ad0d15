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
	"xentrace/test/role"
)

// TestMain is also the processes of TestKilledForReal, in a network namespace of their own.
func TestMain(m *testing.M) {
	role.Main(map[string]role.Role{"survivor": survive, "victim": die})
	os.Exit(m.Run())
}

// A veth is v0 of this network namespace, and what is to be done to it.
type veth struct {
	fixer    *Fixer
	plan     *Plan
	identity Identity
}

// makeVeth makes v0 in this network namespace.
func makeVeth() error {
	for _, words := range []string{"link add v0 mtu 9000 type veth peer name v1", "link set v0 up", "link set v1 up"} {
		if out, err := exec.Command("ip", strings.Fields(words)...).CombinedOutput(); err != nil {
			return fmt.Errorf("ip %s: %w %s", words, err, out)
		}
	}
	return nil
}

// onVeth plans steps for v0. What was there before goes into the file state.
func onVeth(state string) (*veth, error) {
	own, err := netdev.Current()
	if err != nil {
		return nil, err
	}
	defer own.Close()
	i, err := own.ByName("v0")
	if err != nil {
		return nil, err
	}
	v := &veth{identity: IdentityOf(i), plan: &Plan{}}
	v.fixer = &Fixer{Machine: Running{}, State: state, Emit: func(s event.FixStep) { fmt.Printf("%s %s: %s\n", s.Status, s.Name, s.Message) }}
	todo, err := chosen([]string{"sg-off", "tso-gso-off", "mtu-1400"})
	for _, a := range todo {
		v.plan.Steps = append(v.plan.Steps, Step{FixStep: event.FixStep{Name: a.name, Interface: "v0"}, identity: v.identity, change: a.change})
	}
	return v, err
}

// snapshot is what the kernel says of v0.
func (v *veth) snapshot(ctx context.Context) (string, error) {
	device, err := Running{}.Find(ctx, v.identity)
	if err != nil {
		return "", err
	}
	features, err := device.Features()
	if err != nil {
		return "", err
	}
	mtu, err := device.MTU()
	return fmt.Sprint(mtu, features), err
}

// die applies the plan and is killed at a point of it, if it has so many.
func die(args []string) error {
	v, err := onVeth(args[0])
	if err != nil {
		return err
	}
	at, err := strconv.Atoi(args[1])
	if err != nil {
		return err
	}
	v.fixer.between = func() {
		if at--; at == 0 {
			_ = unix.Kill(unix.Getpid(), unix.SIGKILL)
		}
	}
	v.fixer.Machine = counted{v.fixer.between}
	return v.fixer.Apply(context.Background(), v.plan, "")
}

// survive kills a process at each point and reverts.
func survive(args []string) error {
	ctx := context.Background()
	if err := makeVeth(); err != nil {
		return err
	}
	v, err := onVeth(args[0])
	if err != nil {
		return err
	}
	before, err := v.snapshot(ctx)
	if err != nil {
		return err
	}
	changed := 0
	for at := 1; ; at++ {
		out, err := role.Command("victim", args[0], strconv.Itoa(at)).CombinedOutput()
		var exit *exec.ExitError
		whole := err == nil
		if !whole && (!errors.As(err, &exit) || exit.Exited()) {
			return fmt.Errorf("killed at %d: %w\n%s", at, err, out)
		}
		now, err := v.snapshot(ctx)
		if err != nil {
			return err
		}
		if now != before {
			changed++
		}
		if err := v.fixer.Revert(ctx, false); err != nil && !errors.Is(err, ErrNothing) {
			return fmt.Errorf("killed at %d: %w\n%s", at, err, out)
		}
		if now, err = v.snapshot(ctx); err != nil || now != before {
			return fmt.Errorf("killed at %d: before\n%s\nreverted\n%s %v", at, before, now, err)
		}
		if whole {
			if at < 8 || changed < 4 {
				return fmt.Errorf("only %d points, and after %d of them something was changed", at, changed)
			}
			fmt.Printf("killed everywhere: %d points, after %d of which something was changed\n", at, changed)
			return nil
		}
	}
}

// A process on a real interface, killed between any two steps: a revert by another
// gives back the very same features and MTU.
func TestKilledForReal(t *testing.T) {
	need.Root(t, "to make network namespaces")
	need.Tool(t, "ip")
	cmd := role.Command("survivor", filepath.Join(t.TempDir(), "fix.json"))
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNET}
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "killed everywhere") {
		t.Fatalf("%v\n%s", err, out)
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
