//go:build xenlab

package guest

import (
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// changes are how commands begin that change something; others only show.
var changes = []string{"ethtool -K ", "ip link set ", "sysctl -w ", "echo ", "modprobe "}

// advised lists the commands of a report that change something.
func (c *checked) advised() []string {
	var commands []string
	for _, f := range c.findings {
		for _, a := range f.Advice {
			if a.Command != nil && slices.ContainsFunc(changes, func(begin string) bool { return strings.HasPrefix(*a.Command, begin) }) {
				commands = append(commands, *a.Command)
			}
		}
	}
	slices.Sort(commands)
	return slices.Compact(commands)
}

var rank = map[string]int{"OK": 0, "UNKNOWN": 1, "WARN": 2, "FAIL": 3}

// Each command that check recommends works in the real guest: it succeeds, is not recommended
// again, and makes no finding worse. Of several, each is tried from the same state.
func TestAdviceIsCarriedOut(t *testing.T) {
	if err := os.MkdirAll("/etc/modprobe.d", 0o755); err != nil {
		t.Fatal(err)
	}
	several := atoi(t, env(t, "XENTRACE_LAB_VCPUS")) > 1
	for _, state := range []struct {
		name   string
		set    func(t *testing.T) (undo func())
		need   bool   // a command is advised in this state
		begins string // one of them
	}{
		{"as it comes", func(*testing.T) func() { return func() {} }, false, ""},
		{"scatter-gather off", func(t *testing.T) func() {
			scatterGather(t, "off")
			return func() { scatterGather(t, "on") }
		}, true, "ethtool -K " + ifname + " sg on"},
		{"TSO and GSO off", func(t *testing.T) func() {
			ethtool(t, "-K", ifname, "tso", "off", "gso", "off")
			return func() { ethtool(t, "-K", ifname, "tso", "on", "gso", "on") }
		}, true, "ethtool -K " + ifname + " tso on gso on"},
		{"an MTU of 65535", func(t *testing.T) func() {
			setMTU(t, "65535")
			return func() { setMTU(t, "1500") }
		}, true, "ip link set dev " + ifname + " mtu "},
		{"one queue", func(t *testing.T) func() { return reconnected(t, "max_queues", "1") }, several, "echo "},
	} {
		t.Run(state.name, func(t *testing.T) {
			undo := state.set(t)
			before := check(t, 0)
			commands := before.advised()
			undo()
			drops, _ := driverStatus(t)
			unlikely := drops == "FAIL" && !strings.Contains(state.begins, "mtu") && state.begins != "echo "
			if state.need && !unlikely && !slices.ContainsFunc(commands, func(c string) bool { return strings.HasPrefix(c, state.begins) }) {
				t.Errorf("no command begins %q: %q", state.begins, commands)
			}
			for _, command := range commands {
				undo := state.set(t)
				carryOut(t, &before, command)
				undo()
				putBack(t)
			}
		})
	}
}

func carryOut(t *testing.T, before *checked, command string) {
	t.Helper()
	if out, err := exec.Command("sh", "-c", command).CombinedOutput(); err != nil {
		t.Errorf("%s: %v\n%s", command, err, out)
		return
	}
	after := check(t, 0)
	if slices.Contains(after.advised(), command) {
		t.Errorf("%s is recommended again", command)
	}
	for id, f := range after.findings {
		if was, there := before.findings[id]; there && f.Type == "finding" && rank[f.Status] > rank[was.Status] && id != "tx_dropped" {
			t.Errorf("after %s %s is %s, was %s: %s", command, id, f.Status, was.Status, f.Message)
		}
	}
}

// putBack undoes what commands may have changed for the machine.
func putBack(t *testing.T) {
	t.Helper()
	_ = os.Remove("/etc/modprobe.d/xen-netfront-queues.conf")
	for path, value := range map[string]string{
		"/proc/sys/net/core/high_order_alloc_disable":        "0",
		"/sys/class/net/" + ifname + "/queues/rx-0/rps_cpus": "0",
	} {
		if err := os.WriteFile(path, []byte(value), 0); err != nil && !os.IsNotExist(err) {
			t.Error(err)
		}
	}
}

func setMTU(t *testing.T, mtu string) {
	t.Helper()
	if out, err := exec.Command("ip", "link", "set", "dev", ifname, "mtu", mtu).CombinedOutput(); err != nil {
		t.Fatalf("MTU %s: %v\n%s", mtu, err, out)
	}
}
