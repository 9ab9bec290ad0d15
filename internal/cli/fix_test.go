package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"xentrace/internal/check"
	"xentrace/internal/event"
	"xentrace/internal/fix"
	"xentrace/internal/netdev"
	"xentrace/internal/probe"
	"xentrace/internal/trace"
	"xentrace/test/schema"
)

// A mendable machine has the interface eth0 of fakeMachine.
type mendable struct {
	features map[string]netdev.Feature
	mtu      int
}

func newMendable() *mendable {
	m := &mendable{mtu: 1500, features: map[string]netdev.Feature{}}
	for _, name := range []string{"tx-scatter-gather", "tx-tcp-segmentation"} {
		m.features[name] = netdev.Feature{Changeable: true, Requested: name != "tx-scatter-gather"}
	}
	return m
}

func (m *mendable) Sysctl(string) (string, error)                          { return "0", nil }
func (m *mendable) SetSysctl(string, string) error                         { return nil }
func (m *mendable) Find(context.Context, fix.Identity) (fix.Device, error) { return m, nil }
func (m *mendable) Identity() fix.Identity {
	return fix.Identity{Name: "eth0", Index: 2, NetNS: 4026531840, Driver: netdev.DriverNetfront, BusInfo: "vif-0"}
}
func (m *mendable) MTU() (int, error)                  { return m.mtu, nil }
func (m *mendable) SetMTU(mtu int) error               { m.mtu = mtu; return nil }
func (m *mendable) Counters() (netdev.Counters, error) { return netdev.Counters{}, nil }
func (m *mendable) Features() (map[string]netdev.Feature, error) {
	return maps.Clone(m.features), nil
}

func (m *mendable) SetFeatures(on map[string]bool) error {
	for name, want := range on {
		f := m.features[name]
		f.Requested, f.Active = want, want
		m.features[name] = f
	}
	return nil
}

// runFixOn runs fix on a machine whose scatter-gather is off.
func runFixOn(t *testing.T, m *mendable, fake *fakeTracer, state string, args ...string) result {
	t.Helper()
	var stdout, stderr bytes.Buffer
	system := System{Stdout: &stdout, Stderr: &stderr, Getenv: func(string) string { return "" }, Machine: fakeSource(m)}
	if fake != nil {
		system.Start = fake.start
	}
	system.Probe = func(context.Context, probe.Tracer, uint32, int, int) (event.Probe, error) {
		return event.Probe{}, fmt.Errorf("%w: it has no default gateway", trace.ErrCannotRun)
	}
	system.Changeable = func() (fix.Machine, error) {
		if m == nil {
			return nil, fmt.Errorf("%w: missing privilege", trace.ErrCannotRun)
		}
		return m, nil
	}
	err := Run(t.Context(), append([]string{"fix", "--state", state}, args...), system)
	if slices.Contains(args, "json") {
		schema.Check(t, stdout.String())
	}
	Report(&stderr, err)
	return result{stdout.String(), stderr.String(), Status(err), err}
}

// fakeSource is fakeMachine with the features of the mendable one.
func fakeSource(m *mendable) func() (check.Source, error) {
	return func() (check.Source, error) {
		source, err := fakeMachine()
		links := source.Links
		source.Links = func(ctx context.Context, names []string) (check.Links, error) {
			found, err := links(ctx, names)
			if err == nil && m != nil {
				f := &found.Judged[0].Features.Value
				f.ScatterGather, f.TSO, f.TSO6, f.GSO = m.features["tx-scatter-gather"], m.features["tx-tcp-segmentation"], m.features["tx-tcp6-segmentation"], netdev.Feature{Active: true, Requested: true}
			}
			return found, err
		}
		return source, err
	}
}

func TestFixPlansAppliesAndReverts(t *testing.T) {
	m, state := newMendable(), filepath.Join(t.TempDir(), "fix.json")
	before := fmt.Sprint(m)
	plan := runFixOn(t, m, nil, state)
	if plan.status != 0 || plan.stderr != "" || fmt.Sprint(m) != before {
		t.Fatalf("plan: %+v", plan)
	}
	for _, part := range []string{"planned  sg-on eth0\n", "       # ethtool -K eth0 sg on\n", "Nothing is changed yet. --apply"} {
		if !strings.Contains(plan.stdout, part) {
			t.Errorf("no %q in\n%s", part, plan.stdout)
		}
	}
	fake := newFake()
	fake.records = 0
	applied := runFixOn(t, m, fake, state, "--apply", "--watch", "10ms")
	if applied.status != 0 || !m.features["tx-scatter-gather"].Active {
		t.Fatalf("apply: %+v", applied)
	}
	for _, part := range []string{"applied  sg-on eth0", "verified sg-on eth0: Read back", "verified watch: No packet was dropped", "No probe was made out of eth0: it has no default"} {
		if !strings.Contains(applied.stdout, part) {
			t.Errorf("no %q in\n%s", part, applied.stdout)
		}
	}
	if nothing := runFixOn(t, m, nil, state); nothing.status != 0 || !strings.Contains(nothing.stdout, "There is nothing to fix.") {
		t.Errorf("mended: %+v", nothing)
	}
	reverted := runFixOn(t, m, nil, state, "--revert")
	if now := m.features["tx-scatter-gather"]; reverted.status != 0 || now.Requested || now.Active {
		t.Errorf("revert: %+v, %+v", reverted, now)
	}
	if again := runFixOn(t, m, nil, state, "--revert"); again.status != 0 || !strings.Contains(again.stdout, "There is nothing to revert") {
		t.Errorf("revert again: %+v", again)
	}
}

// A tracer that keeps counting drops.
type dropping struct {
	*fakeTracer
	until  int // calls of Totals
	sends  int // calls of Totals
	called int
}

func (d *dropping) Totals(ctx context.Context) (event.Totals, error) {
	totals, err := d.fakeTracer.Totals(ctx)
	d.called++
	i := &totals.Interfaces[0]
	i.Packets = uint64(100 * min(d.called, d.sends))
	i.Dropped = uint64(7 * min(d.called, d.until))
	i.Causes[event.SGOff] = i.Dropped
	return totals, err
}

func TestFixTellsWhetherDropsEnded(t *testing.T) {
	for name, c := range map[string]struct {
		until  int
		sends  int // 0: all the time
		status int
		want   string
	}{
		"at once":     {until: 2, want: "The drops have ended: 7 of 100 packets dropped (sg_off 7) in the 10ms before, none of 100 in the last 10ms."},
		"after a bit": {until: 5, want: "In between 7 more were dropped, made before the change."},
		"not known":   {until: 2, sends: 2, want: "Whether drops have ended is not known: nothing was sent in the last 10ms. Before the change: 7 of 100 packets dropped (sg_off 7)."},
		"never":       {until: 1000, status: 1, want: "Packets are still dropped: 7 of 100 packets dropped (sg_off 7) in the last 10ms. What was applied stays."},
	} {
		t.Run(name, func(t *testing.T) {
			m := newMendable()
			tracer := &dropping{fakeTracer: newFake(), until: c.until, sends: c.sends}
			if c.sends == 0 {
				tracer.sends = 1000
			}
			var stdout, stderr bytes.Buffer
			err := Run(t.Context(), strings.Fields("fix --apply --color never --watch 10ms -o json --state "+filepath.Join(t.TempDir(), "s")), System{
				Stdout: &stdout, Stderr: &stderr, Getenv: func(string) string { return "" }, Machine: fakeSource(m),
				Changeable: func() (fix.Machine, error) { return m, nil },
				Start: func(ctx context.Context, o trace.Options) (Tracer, error) {
					tracer.began = time.Now()
					return tracer, nil
				},
				Probe: func(context.Context, probe.Tracer, uint32, int, int) (event.Probe, error) {
					return event.Probe{}, errors.New("no gateway")
				},
			})
			if Status(err) != c.status || !strings.Contains(stdout.String(), c.want) {
				t.Errorf("status %d, want %d and %q in\n%s", Status(err), c.status, c.want, stdout.String())
			}
			if !m.features["tx-scatter-gather"].Active {
				t.Error("scatter-gather is off")
			}
		})
	}
}

func TestFixInJSON(t *testing.T) {
	got := runFixOn(t, newMendable(), nil, filepath.Join(t.TempDir(), "s"), "-o", "json", "--step", "sg-off", "--step", "sg-on")
	if got.status != 1 || strings.Count(got.stdout, "\n") != 2 {
		t.Fatalf("%+v", got)
	}
	for line := range strings.Lines(got.stdout) {
		var step map[string]any
		if err := json.Unmarshal([]byte(line), &step); err != nil {
			t.Fatal(err)
		}
		for _, key := range []string{"type", "step", "ifname", "netns", "command", "effect", "cost", "status", "message", "path", "content"} {
			if _, there := step[key]; !there {
				t.Errorf("no %s in %s", key, line)
			}
		}
		if want := map[any]string{"sg-on": "planned", "sg-off": "refused"}[step["step"]]; step["status"] != want {
			t.Errorf("%s, want %s", line, want)
		}
	}
}

func TestFixIsRefused(t *testing.T) {
	for args, want := range map[string]struct {
		status int
		part   string
	}{
		"--apply --revert":      {2, "exclude each other"},
		"--revert --step sg-on": {2, "restores everything in the state file"},
		"--step sg":             {2, "not one of single-pages"},
		"--persist rc.local":    {2, "not one of systemd, ifupdown, networkmanager, udev"},
		"--watch -1s":           {2, "must be >= 0"},
		"--apply":               {3, "missing privilege"},
		"--revert":              {3, "missing privilege"},
		"-i nothere":            {3, "nothere"},
		"--watch 3s":            {2, "fix: --watch and --no-probe need --apply"},
		"--watch 5s":            {2, "fix: --watch and --no-probe need --apply"},
		"--no-probe --revert":   {2, "fix: --watch and --no-probe need --apply"},
		"--force":               {2, "fix: --force needs --apply or --revert; see xentrace help fix"},
	} {
		got := runFixOn(t, nil, nil, filepath.Join(t.TempDir(), "s"), strings.Fields(args)...)
		if got.status != want.status || !strings.Contains(got.stderr, want.part) || strings.Count(got.stderr, "\n") != 1 {
			t.Errorf("fix %s: %+v, want %d and %q", args, got, want.status, want.part)
		}
	}
}

// A file of something else is named, with what to do, and no lock file is left beside it.
func TestFixOfAnotherStateFile(t *testing.T) {
	t.Parallel()
	for _, args := range []string{"--revert", "--apply --watch 1s", "--persist systemd"} {
		path := filepath.Join(t.TempDir(), "passwd")
		if err := os.WriteFile(path, []byte("root:x:0:0\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		got := runFixOn(t, newMendable(), newFake(), path, append(strings.Fields(args), "--color", "never")...)
		want := "xentrace: fix: state file " + path + ": not one of xentrace fix, or damaged; name another one with --state, or move this one away; see xentrace help fix\n"
		if got.status != 2 || got.stderr != want {
			t.Errorf("%s: status %d, %q; want 2, %q", args, got.status, got.stderr, want)
		}
		if left, _ := os.ReadDir(filepath.Dir(path)); len(left) != 1 {
			t.Errorf("%s: left behind: %v", args, left)
		}
	}
}

// What was not examined is not called fine.
func TestFixWithoutAXenInterface(t *testing.T) {
	eth0 := netdev.Interface{Name: "eth0", Index: 2, Namespace: 4026531840, Driver: netdev.DriverNetfront, BusInfo: "vif-0"}
	lo := netdev.Interface{Name: "lo", Index: 1, Namespace: 4026531840}
	for name, c := range map[string]struct {
		interfaces []netdev.Interface
		unseen     string
		args       string
		status     int
		want       string
	}{
		"none":              {nil, "", "", 3, "no xen-netfront interface found, so nothing was examined; run it on a Xen guest"},
		"none, to apply":    {nil, "", "--apply", 3, "no xen-netfront interface found"},
		"none, one step":    {nil, "", "--step sg-off", 3, "no xen-netfront interface found"},
		"none, not as root": {nil, "that needs root", "", 3, "other network namespaces were not checked: that needs root"},
		"loopback":          {[]netdev.Interface{lo}, "", "", 3, "lo: not driven by xen-netfront, so nothing was examined"},
		"loopback, a step":  {[]netdev.Interface{lo}, "", "--step sg-off", 1, "refused  sg-off lo: The interface is not driven by xen-netfront."},
		"both":              {[]netdev.Interface{eth0, lo}, "", "", 0, "Not examined, since xen-netfront does not drive it: lo.\n"},
		"one, not as root":  {[]netdev.Interface{eth0}, "that needs root", "", 0, "Other network namespaces were not checked: that needs root.\n"},
	} {
		t.Run(name, func(t *testing.T) {
			var stdout, stderr bytes.Buffer
			err := Run(t.Context(), append([]string{"fix", "--state", filepath.Join(t.TempDir(), "s")}, strings.Fields(c.args)...), System{
				Stdout: &stdout, Stderr: &stderr, Getenv: func(string) string { return "" },
				Changeable: func() (fix.Machine, error) { return newMendable(), nil },
				Machine: func() (check.Source, error) {
					source, err := fakeMachine()
					source.Links = func(context.Context, []string) (check.Links, error) {
						links := check.Links{NetNS: 4026531840, Unseen: c.unseen, Again: func(*check.Interface) (netdev.Counters, error) { return netdev.Counters{}, nil }}
						for _, i := range c.interfaces {
							links.Judged = append(links.Judged, check.Interface{Interface: i})
						}
						return links, nil
					}
					return source, err
				},
			})
			Report(&stderr, err)
			if text := stdout.String() + stderr.String(); Status(err) != c.status || !strings.Contains(text, c.want) {
				t.Errorf("status %d, want %d and %q in\n%s", Status(err), c.status, c.want, text)
			}
		})
	}
}

// An interrupt at any time before the probe puts everything back; during the probe, without
// privileges, it is reported that the changes stay.
func TestFixInterruptedAfterTheChange(t *testing.T) {
	for name, c := range map[string]struct {
		args   string
		at     string // what is reported when the interrupt comes
		during bool   // the probe
		on     bool   // the change stays
		want   []string
	}{
		"before the watch": {"--watch 100ms", "verified sg-on", false, false, []string{"Interrupted.", "reverted restore-interface eth0", "All changes were undone."}},
		"without a watch":  {"--watch 0", "verified sg-on", false, false, []string{"Interrupted.", "All changes were undone."}},
		"during the probe": {"--watch 1ms", "", true, true, []string{"verified watch", "The changes stay: undoing them takes privileges", "Undo with: xentrace fix --revert --state "}},
	} {
		t.Run(name, func(t *testing.T) {
			m, state := newMendable(), filepath.Join(t.TempDir(), "fix.json")
			before := fmt.Sprint(m)
			ctx, interrupt := context.WithCancel(t.Context())
			defer interrupt()
			fake := newFake()
			fake.records = 0
			stdout := &interrupting{at: c.at, interrupt: interrupt}
			var stderr bytes.Buffer
			err := Run(ctx, append(strings.Fields("fix --apply --color never --state "+state), strings.Fields(c.args)...), System{
				Stdout: stdout, Stderr: &stderr, Getenv: func(string) string { return "" }, Machine: fakeSource(m),
				Changeable: func() (fix.Machine, error) { return m, nil },
				Start:      fake.start,
				Probe: func(ctx context.Context, _ probe.Tracer, _ uint32, _, _ int) (event.Probe, error) {
					interrupt()
					return event.Probe{}, ctx.Err()
				},
			})
			_, missing := os.Stat(state)
			if Status(err) != 0 || (fmt.Sprint(m) != before) != c.on || (missing == nil) != c.on {
				t.Errorf("status %d, changed: %v, state file: %v\n%s", Status(err), fmt.Sprint(m) != before, missing, stdout.String())
			}
			text := strings.Join(strings.Fields(stdout.String()), " ") // as sentences are wrapped
			for _, part := range c.want {
				if !strings.Contains(text, part) {
					t.Errorf("no %q in\n%s", part, stdout.String())
				}
			}
		})
	}
}

// interrupting is standard output of a command that is interrupted when it has written a text.
type interrupting struct {
	bytes.Buffer
	at        string
	interrupt func()
}

func (i *interrupting) Write(b []byte) (int, error) {
	if i.at != "" && bytes.Contains(b, []byte(i.at)) {
		i.interrupt()
	}
	return i.Buffer.Write(b)
}
