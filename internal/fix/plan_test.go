package fix

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"xentrace/internal/check"
	"xentrace/internal/event"
	"xentrace/internal/netdev"
	"xentrace/internal/netfront"
	"xentrace/internal/remedy"
)

// A machine with one interface of the frontend, and what was found of it.
type found struct{ machine *check.Machine }

// newFound is a driver that linearizes or drops, on a kernel where some small heads
// cross a page, with all features on.
func newFound(code event.Status) *found {
	on := netdev.Feature{Active: true, Requested: true, Changeable: true}
	f := &found{machine: &check.Machine{NetNS: 1, Slab: check.Known[check.Slab]{Value: crossing}}}
	switch code {
	case event.OK:
		f.machine.Code.Live.Value.Value = netfront.Linearizes
	case event.Fail:
		f.machine.Code.Live.Value.Value = netfront.Drops
	default:
		f.machine.Code.Live.Missing, f.machine.Code.File.Missing = "no BTF", "no file"
	}
	f.machine.Facts.SinglePages = remedy.Off
	i := check.Interface{Path: "/run/netns/x", Interface: netdev.Interface{Name: "eth0", Index: 2, Namespace: 1, Driver: netdev.DriverNetfront, BusInfo: "vif-0", MTU: 1500}}
	i.Features.Value = netdev.Features{ScatterGather: on, TSO: on, TSO6: on, GSO: on}
	f.machine.Interfaces = []check.Interface{i}
	return f
}

// Objects of 704 bytes straddle a page boundary where 23 of them, and not where 11 of them, are in a slab.
var (
	crossing    = check.Slab{Bytes: 704, Objects: 23, Tail: 320}
	notCrossing = check.Slab{Bytes: 704, Objects: 11, Tail: 320}
)

// noSwitch has no setting for single pages: none in this kernel, or none that is visible.
func (f *found) noSwitch(why string) {
	f.machine.SinglePages.Missing, f.machine.Facts.SinglePages = why, remedy.Absent
	if why == check.SwitchElsewhere {
		f.machine.Facts.SinglePages = remedy.NotKnown
	}
}

func (f *found) off(features ...string) {
	for _, feature := range features {
		state := netdev.Feature{Changeable: true}
		all := &f.machine.Interfaces[0].Features.Value
		switch feature {
		case "sg":
			all.ScatterGather = state
			all.TSO.Active, all.TSO6.Active = false, false
		case "tso":
			all.TSO, all.TSO6 = state, state
		case "gso":
			all.GSO = state
		}
	}
}

// listed lists the steps with what they came to.
func listed(p *Plan) string {
	var all []string
	for _, s := range p.Steps {
		all = append(all, strings.TrimSpace(fmt.Sprintf("%s %s %s", s.Status, s.Name, s.Interface)))
	}
	return strings.Join(all, ", ")
}

func TestPlan(t *testing.T) {
	for name, c := range map[string]struct {
		code   event.Status
		change func(*found)
		choice Choice
		want   string
	}{
		"nothing wrong":                     {code: event.OK},
		"scatter-gather off":                {code: event.OK, change: func(f *found) { f.off("sg") }, want: "planned sg-on eth0"},
		"an old way around left behind":     {code: event.OK, change: func(f *found) { f.off("tso", "gso") }, want: "planned tso-gso-on eth0"},
		"both":                              {code: event.OK, change: func(f *found) { f.off("sg", "tso") }, want: "planned sg-on eth0, planned tso-gso-on eth0"},
		"the backend offers none":           {code: event.OK, change: func(f *found) { f.machine.Interfaces[0].Features.Value.ScatterGather.Active = false }},
		"an MTU too large":                  {code: event.OK, change: func(f *found) { f.machine.Interfaces[0].MTU = 65535 }, want: "planned mtu-65517 eth0"},
		"another driver":                    {code: event.Fail, change: func(f *found) { f.machine.Interfaces[0].Driver = "veth" }},
		"a driver that drops":               {code: event.Fail, want: "planned single-pages, planned update-kernel"},
		"with a large MTU":                  {code: event.Fail, change: func(f *found) { f.machine.Interfaces[0].MTU = 9001 }, want: "planned single-pages, planned mtu-1500 eth0, planned update-kernel"},
		"with single pages already":         {code: event.Fail, change: func(f *found) { f.machine.Facts.SinglePages = remedy.On }, want: "planned update-kernel"},
		"that drops, scatter-gather off":    {code: event.Fail, change: func(f *found) { f.off("sg") }, want: "planned single-pages, planned sg-on eth0, planned update-kernel"},
		"that drops, TSO and GSO off":       {code: event.Fail, change: func(f *found) { f.off("tso", "gso") }, want: "planned single-pages, planned update-kernel"},
		"that drops, without the switch":    {code: event.Fail, change: func(f *found) { f.noSwitch(check.NoSwitch) }, want: "planned tso-gso-off eth0, planned update-kernel"},
		"neither, scatter-gather off":       {code: event.Fail, change: func(f *found) { f.noSwitch(check.NoSwitch); f.off("sg") }, want: "planned update-kernel"},
		"that drops, in a container":        {code: event.Fail, change: func(f *found) { f.noSwitch(check.SwitchElsewhere); f.off("sg") }, want: "refused single-pages, planned update-kernel"},
		"unknown code, scatter-gather off":  {code: event.Unknown, change: func(f *found) { f.off("sg") }},
		"asked for: scatter-gather off":     {code: event.OK, choice: Choice{Steps: []string{"sg-off"}}, want: "refused sg-off eth0"},
		"forced":                            {code: event.OK, choice: Choice{Steps: []string{"sg-off"}, Force: true}, want: "planned sg-off eth0"},
		"off where it does no harm":         {code: event.Fail, change: func(f *found) { f.machine.Slab.Value = notCrossing }, choice: Choice{Steps: []string{"sg-off"}}, want: "planned sg-off eth0"},
		"off where that is not known":       {code: event.Fail, change: func(f *found) { f.machine.Slab.Missing = "not shown" }, choice: Choice{Steps: []string{"sg-off"}}, want: "refused sg-off eth0"},
		"TSO off for nothing":               {code: event.OK, choice: Choice{Steps: []string{"tso-gso-off"}}, want: "refused tso-gso-off eth0"},
		"TSO on for a driver that drops":    {code: event.Fail, choice: Choice{Steps: []string{"tso-gso-on"}}, want: "refused tso-gso-on eth0"},
		"TSO on after single pages":         {code: event.Fail, choice: Choice{Steps: []string{"tso-gso-on", "single-pages"}}, want: "planned single-pages, planned tso-gso-on eth0"},
		"scatter-gather on, driver drops":   {code: event.Fail, change: func(f *found) { f.off("sg") }, choice: Choice{Steps: []string{"sg-on"}}, want: "refused sg-on eth0"},
		"what ec2rl advises, sg off":        {code: event.OK, change: func(f *found) { f.off("sg") }, choice: Choice{Steps: []string{"mtu-9001"}}, want: "refused mtu-9001 eth0"},
		"the same with a driver that drops": {code: event.Fail, choice: Choice{Steps: []string{"mtu-9001"}}, want: "refused mtu-9001 eth0"},
		"the same with one that linearizes": {code: event.OK, choice: Choice{Steps: []string{"mtu-9001"}}, want: "planned mtu-9001 eth0"},
		"too large an MTU":                  {code: event.OK, choice: Choice{Steps: []string{"mtu-65535"}}, want: "refused mtu-65535 eth0"},
		"no force against dom0":             {code: event.OK, change: func(f *found) { f.machine.Interfaces[0].Features.Value.ScatterGather.Active = false }, choice: Choice{Steps: []string{"sg-on"}, Force: true}, want: "refused sg-on eth0"},
		"another driver, asked for":         {code: event.OK, change: func(f *found) { f.machine.Interfaces[0].Driver = "veth" }, choice: Choice{Steps: []string{"mtu-1400"}}, want: "refused mtu-1400 eth0"},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFound(c.code)
			if c.change != nil {
				c.change(f)
			}
			plan, err := NewPlan(f.machine, nil, c.choice)
			if err != nil {
				t.Fatal(err)
			}
			if got := listed(plan); got != c.want {
				t.Errorf("%s, want %s", got, c.want)
			}
			for _, s := range plan.Steps {
				if s.Status == event.Refused && !strings.HasSuffix(s.Message, ".") || s.Effect == "" {
					t.Errorf("%s: message %q, effect %q", s.Name, s.Message, s.Effect)
				}
				if strings.Contains(s.Command, "{") || s.Command == "" && !s.manual {
					t.Errorf("%s: command %q", s.Name, s.Command)
				}
			}
			if unknown := c.code == event.Unknown; (plan.Unknown != "") != unknown {
				t.Errorf("unknown: %q", plan.Unknown)
			}
		})
	}
}

// A step of the machine changes every interface that was planned for, another its own.
func TestChanged(t *testing.T) {
	for _, c := range []struct {
		steps []string
		want  string
	}{
		{[]string{"single-pages"}, "[eth0 eth1]"},
		{[]string{"tso-gso-on", "mtu-1400"}, "[eth0]"}, // refused for eth1, of another driver
		{[]string{"tso-gso-on"}, "[eth0]"},
	} {
		f := newFound(event.OK)
		f.off("tso", "gso")
		other := f.machine.Interfaces[0]
		other.Name, other.Index, other.Driver = "eth1", 3, "veth"
		f.machine.Interfaces = append(f.machine.Interfaces, other)
		plan, err := NewPlan(f.machine, nil, Choice{Steps: c.steps})
		if err != nil {
			t.Fatal(err)
		}
		var names []string
		for _, i := range plan.Changed() {
			names = append(names, i.Name)
		}
		if fmt.Sprint(names) != c.want {
			t.Errorf("%v: %v, want %s", c.steps, names, c.want)
		}
	}
}

func TestCommandOfAnotherNamespace(t *testing.T) {
	f := newFound(event.OK)
	f.off("sg")
	f.machine.NetNS = 7
	findings := []event.Finding{{ID: check.Queues, Status: event.Warn, Interface: "eth0"}, {ID: check.MTU, Status: event.Warn}}
	plan, err := NewPlan(f.machine, findings, Choice{})
	if err != nil {
		t.Fatal(err)
	}
	if got, want := plan.Steps[0].Command, "nsenter --net=/run/netns/x -- ethtool -K eth0 sg on"; got != want {
		t.Errorf("command %q, want %q", got, want)
	}
	if got := strings.Join(plan.Left, ", "); got != "queues eth0" {
		t.Errorf("left: %q", got)
	}
}

func TestStepNames(t *testing.T) {
	for _, name := range []string{"", "sg", "mtu-", "mtu-67", "mtu-65536", "mtu-x", "update-kernel"} {
		if CheckName(name) == nil {
			t.Errorf("%q is taken", name)
		}
	}
	names, does := Names()
	for _, name := range names {
		if err := CheckName(strings.ReplaceAll(name, "N", "1280")); err != nil || does[name] == "" {
			t.Errorf("%s: %v, does %q", name, err, does[name])
		}
	}
	for _, r := range rules {
		if _, err := actionNamed(string(r.step)); err != nil && r.step != remedy.UpdateKernel {
			t.Errorf("rule for %s: %v", r.step, err)
		}
	}
	for _, o := range objections {
		if _, err := actionNamed(string(o.step)); err != nil && o.step != "" && o.step != "mtu-" {
			t.Errorf("objection to %s: %v", o.step, err)
		}
	}
}

// A file that is there and is not ours, or was changed since, is never overwritten,
// and only what is ours is removed.
func TestFilesOfOthers(t *testing.T) {
	const rule = "etc/udev/rules.d/90-xentrace-fix-eth0.rules"
	for name, c := range map[string]struct {
		there string
		want  string
	}{
		"somebody's":      {"ACTION==\"add\"\n", "was not written by xentrace"},
		"changed by hand": {mark("ACTION==\"add\"\n") + "# and this\n", "was changed by hand"},
	} {
		t.Run(name, func(t *testing.T) {
			m := newFakeMachine(t)
			write(t, filepath.Join(m.root, rule), c.there)
			before := m.snapshot()
			for _, force := range []bool{false, true} {
				plan := m.plan(t, "single-pages", "sg-off")
				if _, err := m.fixer().Preview(plan, Udev); err == nil || !strings.Contains(err.Error(), c.want) {
					t.Errorf("shown (force: %v): %v, want %q", force, err, c.want)
				}
				if err := m.fixer().Apply(t.Context(), plan, Udev); err == nil || !strings.Contains(err.Error(), c.want) {
					t.Errorf("applied: %v, want %q", err, c.want)
				}
			}
			if after := m.snapshot(); after != before {
				t.Errorf("before:\n%s\nafter:\n%s", before, after)
			}
		})
	}
	m := newFakeMachine(t)
	before := m.snapshot()
	if err := m.fixer().Apply(t.Context(), m.plan(t, "sg-off"), Udev); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(m.root, rule)
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	write(t, path, string(content)+"# mine\n")
	if err := m.fixer().Revert(t.Context(), false); !errors.Is(err, ErrRefused) {
		t.Errorf("reverted: %v", err)
	}
	if last := fmt.Sprint(m.emitted); !strings.Contains(last, "changed by hand") {
		t.Errorf("no reason in %s", last)
	}
	if kept, err := os.ReadFile(path); err != nil || !strings.HasSuffix(string(kept), "# mine\n") {
		t.Errorf("the changed file is gone: %v", err)
	}
	if err := m.fixer().Revert(t.Context(), true); err != nil {
		t.Fatal(err)
	}
	if after := m.snapshot(); after != before {
		t.Errorf("before:\n%s\nafter:\n%s", before, after)
	}
}

func write(t *testing.T, path, content string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
}

func TestPersistIsRefused(t *testing.T) {
	for name, c := range map[string]struct {
		spoil func(*fakeMachine)
		want  string
	}{
		"no systemd":        {func(m *fakeMachine) { _ = os.RemoveAll(filepath.Join(m.root, "etc/systemd")) }, "there is no /etc/systemd/system on this machine: choose another, one of ifupdown, networkmanager, udev"},
		"no ethtool":        {func(m *fakeMachine) { _ = os.Remove(filepath.Join(m.root, "usr/sbin/ethtool")) }, "the file would call ethtool, which is not installed"},
		"another namespace": {func(m *fakeMachine) { m.devices[2].identity.NetNS = 5 }, "is in another network namespace"},
		"an odd name":       {func(m *fakeMachine) { m.devices[2].identity.Name = "$(reboot)" }, "is none that a configuration file can safely hold"},
	} {
		t.Run(name, func(t *testing.T) {
			m := newFakeMachine(t)
			c.spoil(m)
			before := m.snapshot()
			err := m.fixer().Apply(t.Context(), m.plan(t, "sg-off"), Systemd)
			if err == nil || !strings.Contains(err.Error(), c.want) || !strings.HasPrefix(err.Error(), "cannot run here: ") {
				t.Errorf("%v, want %q", err, c.want)
			}
			if m.snapshot() != before {
				t.Error("something was changed")
			}
		})
	}
}
