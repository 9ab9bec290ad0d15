//go:build xenlab

package guest

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"xentrace/test/rocket"
	"xentrace/test/schema"
)

const singlePages = "/proc/sys/net/core/high_order_alloc_disable"

// A fixed is an object of type "fix", as documented.
type fixed struct {
	Type    string
	Step    string
	Status  string
	Command *string
	Message *string
}

// changeable is all that fix may change, as it is now.
func changeable(t *testing.T) string {
	t.Helper()
	return fmt.Sprintf("%s\nmtu %s\nhigh_order_alloc_disable %s", ethtool(t, "-k", ifname),
		readFile(t, filepath.Join("/sys/class/net", ifname, "mtu")), readFile(t, singlePages))
}

// fix runs the command, which must end with this status, and reads what it writes.
func fix(t *testing.T, status int, args ...string) []fixed {
	t.Helper()
	cmd := exec.Command(program(t), append([]string{"fix", "-o", "json"}, args...)...)
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if exitCode(err) != status {
		t.Fatalf("fix %v: status %d, want %d; %s%s", args, exitCode(err), status, out, stderr.String())
	}
	schema.Check(t, out)
	var steps []fixed
	for line := range strings.Lines(string(out)) {
		var step fixed
		if err := json.Unmarshal([]byte(line), &step); err != nil || step.Type != "fix" {
			t.Fatalf("%q: %v", line, err)
		}
		t.Logf("%s %s %s", step.Status, step.Step, text(step.Message))
		steps = append(steps, step)
	}
	return steps
}

// became returns what was said of a step that came to this.
func became(t *testing.T, steps []fixed, name, status string) fixed {
	t.Helper()
	for _, step := range steps {
		if step.Step == name && step.Status == status {
			return step
		}
	}
	t.Fatalf("no step %s is %s: %+v", name, status, steps)
	return fixed{}
}

// gatewayToProbe makes the peer the default gateway, if what this driver does with a
// datagram of many slots after the fix is known: then fix has to report a probe.
func gatewayToProbe(t *testing.T) bool {
	t.Helper()
	switch env(t, "XENTRACE_LAB_DRIVER") {
	case "stock", "prefix":
		defaultRoutes(t)
		return true
	}
	return false
}

// provenByProbe checks what fix said of its probe: the driver linearized the datagram,
// or, if it is one that drops, none over the limit can be made any more.
func provenByProbe(t *testing.T, steps []fixed) {
	t.Helper()
	said, want := text(became(t, steps, "probe", "verified").Message), "the driver copied it into one buffer and sent it"
	if _, word := driverStatus(t); word == "drops" {
		want = "no datagram of more than 18 slots could be made: new page fragments are single pages"
	}
	if !strings.Contains(said, want) {
		t.Errorf("the probe: %s; want %s", said, want)
	}
	if watched := text(became(t, steps, "watch", "verified").Message); strings.Contains(watched, "probe") {
		t.Errorf("the watch reports the probe, too: %s", watched)
	}
}

// during runs work again and again until the function that it returns is called.
func during(t *testing.T, work func(context.Context) error) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		for ctx.Err() == nil {
			if err := work(ctx); err != nil && ctx.Err() == nil {
				done <- err
				return
			}
		}
		done <- nil
	}()
	return func() {
		t.Helper()
		cancel()
		if err := <-done; err != nil {
			t.Errorf("traffic: %v", err)
		}
	}
}

// With scatter-gather off small packets are dropped; fix ends that while they are
// being sent, and puts everything back.
func TestFixScatterGather(t *testing.T) {
	const held, sent, port = 8000, 480, 7010
	whole := changeable(t)
	scatterGather(t, "off")
	t.Cleanup(func() { scatterGather(t, "on") })
	before, state := changeable(t), filepath.Join(t.TempDir(), "state", "fix.json")
	probed := gatewayToProbe(t)
	to := netip.AddrPortFrom(peerAddr(t, "ipv4"), port)
	stop := during(t, func(ctx context.Context) error {
		heads, err := rocket.Hold(ctx, held, 300)
		if err != nil {
			return err
		}
		sendSizes(t, to, sent)
		return heads.Close()
	})
	steady := during(t, func(context.Context) error { // while the others hold what they need
		sendSizes(t, to, 10)
		time.Sleep(100 * time.Millisecond)
		return nil
	})
	steps := fix(t, 0, "--apply", "--state", state)
	if _, word := driverStatus(t); word == "drops" {
		became(t, steps, "single-pages", "verified")
	}
	became(t, steps, "sg-on", "applied")
	became(t, steps, "sg-on", "verified")
	if probed {
		provenByProbe(t, steps)
	}
	watched := text(became(t, steps, "watch", "verified").Message)
	dropped, packets := counter(t, "tx_dropped"), counter(t, "tx_packets")
	if smallHeads(t) && (dropped == 0 || !strings.Contains(watched, "The drops have ended") || !strings.Contains(watched, "(sg_off ")) {
		t.Errorf("%d dropped in all; %s", dropped, watched)
	}
	for counter(t, "tx_packets") < packets+3*sent {
		time.Sleep(100 * time.Millisecond)
	}
	stop()
	steady()
	if now := counter(t, "tx_dropped"); now != dropped {
		t.Errorf("%d packets were dropped after the fix", now-dropped)
	}
	if now := changeable(t); smallHeads(t) && now != whole {
		t.Errorf("fixed, and not as the guest came:\n%s\n%s", whole, now)
	}
	became(t, fix(t, 0, "--revert", "--state", state), "restore-interface", "reverted")
	if now := changeable(t); now != before {
		t.Errorf("before:\n%s\nreverted:\n%s", before, now)
	}
}

// A driver that drops what is over the limit: fix ends the drops of connections that
// are made while it runs, and frees one that hung if the MTU was large.
func TestFixOverTheLimit(t *testing.T) {
	const hungPort, port = 7011, 7012
	if _, word := driverStatus(t); word != "drops" {
		if steps := fix(t, 0); len(steps) != 0 {
			t.Errorf("a plan for a driver that linearizes: %+v", steps)
		}
		return
	}
	before, state := changeable(t), filepath.Join(t.TempDir(), "fix.json")
	jumbo := atoi(t, readFile(t, filepath.Join("/sys/class/net", ifname, "mtu"))) >= 9001
	probed := gatewayToProbe(t)
	var hung *rocket.TCP
	if jumbo {
		hung = newRocket(t, hungPort, rocket.Options{WriteLength: 512})
		if _, err := hung.Send(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	var acknowledged atomic.Int64
	stop := during(t, func(ctx context.Context) error { return oneSegment(ctx, t, port, &acknowledged) })
	steps := fix(t, 0, "--apply", "--state", state)
	became(t, steps, "single-pages", "verified")
	became(t, steps, "update-kernel", "planned")
	if jumbo {
		became(t, steps, "mtu-1500", "verified")
	}
	if probed {
		provenByProbe(t, steps)
	}
	watched := text(became(t, steps, "watch", "verified").Message)
	if !strings.Contains(watched, "The drops have ended") || !strings.Contains(watched, "(too_many_slots ") {
		t.Errorf("%s", watched)
	}
	dropped, arrived := counter(t, "tx_dropped"), acknowledged.Load()
	for acknowledged.Load() < arrived+20 {
		time.Sleep(100 * time.Millisecond)
	}
	if jumbo {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if err := hung.WaitAcknowledged(ctx); err != nil {
			t.Errorf("the connection still hangs: %v", err)
		}
	}
	stop()
	if now := counter(t, "tx_dropped"); now != dropped {
		t.Errorf("%d packets were dropped after the fix", now-dropped)
	}
	became(t, fix(t, 0, "--revert", "--state", state), "restore-sysctl", "reverted")
	if now := changeable(t); now != before {
		t.Errorf("before:\n%s\nreverted:\n%s", before, now)
	}
}

func newRocket(t *testing.T, port uint16, options rocket.Options) *rocket.TCP {
	t.Helper()
	sender, err := rocket.NewTCP(t.Context(), netip.AddrPortFrom(peerAddr(t, "ipv4"), port), options)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = sender.Abort() })
	return sender
}

// oneSegment connects, sends one segment of 17 writes that straddle page boundaries
// where the kernel has such fragments to give, and waits a second for it to arrive.
func oneSegment(ctx context.Context, t *testing.T, port uint16, acknowledged *atomic.Int64) error {
	sender, err := rocket.NewTCP(ctx, netip.AddrPortFrom(peerAddr(t, "ipv4"), port), rocket.Options{})
	if err != nil {
		return err
	}
	defer func() { _ = sender.Abort() }()
	if _, err := sender.Send(ctx); err != nil {
		return err
	}
	patience, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	if sender.WaitAcknowledged(patience) == nil {
		acknowledged.Add(1)
	}
	return nil
}

// Killed anywhere, --revert gives back what was there.
func TestFixKilled(t *testing.T) {
	const rounds = 8
	before, state := changeable(t), filepath.Join(t.TempDir(), "fix.json")
	changed, unfinished := 0, 0
	for round := range rounds {
		cmd := exec.Command(program(t), "fix", "--apply", "--force", "--watch", "0s", "--state", state,
			"--step", "single-pages", "--step", "sg-off", "--step", "tso-gso-off", "--step", "mtu-1400")
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		for cmd.ProcessState == nil {
			if _, err := os.Stat(state); err == nil {
				break
			}
		}
		time.Sleep(time.Duration(rand.IntN(10*round+1)) * time.Millisecond)
		_ = cmd.Process.Kill()
		err := cmd.Wait()
		if changeable(t) != before {
			changed++
		}
		if err != nil {
			unfinished++
		}
		fix(t, 0, "--revert", "--state", state)
		if now := changeable(t); now != before {
			t.Fatalf("round %d: before:\n%s\nreverted:\n%s", round, before, now)
		}
	}
	t.Logf("of %d runs %d were cut off, and %d had changed something", rounds, unfinished, changed)
	if unfinished == 0 || changed == 0 {
		t.Errorf("of %d runs %d were cut off, and %d had changed something: that shows nothing", rounds, unfinished, changed)
	}
}

// A workaround that does harm here is refused, and nothing is changed.
func TestFixRefuses(t *testing.T) {
	before, state := changeable(t), filepath.Join(t.TempDir(), "fix.json")
	harmful := "tso-gso-off"
	if _, word := driverStatus(t); word == "drops" {
		harmful = "mtu-9001"
	}
	became(t, fix(t, 1, "--apply", "--state", state, "--step", harmful), harmful, "refused")
	if smallHeads(t) {
		became(t, fix(t, 1, "--apply", "--state", state, "--step", "sg-off"), "sg-off", "refused")
	}
	if now := changeable(t); now != before {
		t.Errorf("before:\n%s\nafter:\n%s", before, now)
	}
}
