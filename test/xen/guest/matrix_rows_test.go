//go:build xenlab && matrix

package guest

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// groups are the paths, by the driver and the state of it that they want. The ports
// from 7017 on are those that variants/faults.sed strikes.
func groups() []*group {
	return []*group{
		{name: "stock", driver: "stock", rows: []row{
			{path: "completions", port: 7001, prepare: smallerSegments, send: completions},
			{path: "too_big", port: 7002, prepare: mtu("65535"), send: tooBig, verdict: "dropped", cause: "too_big"},
			{path: "linearized", port: 7003, send: manySlots, verdict: "linearized"},
			{path: "bounced", port: 7004, prepare: tap(shortHeads), send: forwarded, verdict: "bounced"},
			{path: "sg_off", port: 7005, prepare: both(tap(wholeFrames), sgOff), send: forwarded, verdict: "dropped", cause: "sg_off"},
			{path: "sg_off_local", port: 7006, prepare: sgOff, send: smallDatagrams, verdict: "dropped", cause: "sg_off", impossible: noSmallHeads},
		}},
		{name: "untrusted", driver: "stock", untrusted: true, rows: []row{
			{path: "bounced_untrusted", port: 7007, send: plain, verdict: "bounced", unreported: true},
			{path: "bounced_then_dropped", port: 7008, prepare: both(tap(heldFrames), sgOff), send: forwarded, verdict: "dropped", cause: "sg_off"},
		}},
		{name: "prefix", driver: "prefix", rows: []row{
			{path: "too_many_slots", port: 7009, send: manySlots, verdict: "dropped", cause: "too_many_slots"},
		}},
		{name: "faults", driver: "faults", rows: []row{
			{path: "no_queues", port: 7017, send: plain, verdict: "dropped", cause: "no_queues"},
			{path: "device_broken", port: 7018, send: plain, verdict: "dropped", cause: "device_broken"},
			{path: "linearize_failed", port: 7019, send: manySlots, verdict: "dropped", cause: "linearize_failed"},
			{path: "bounce_failed_untrusted", port: 7020, send: plain, verdict: "dropped", cause: "bounce_failed"},
			{path: "bounce_failed", port: 7021, prepare: tap(shortHeads), send: forwarded, verdict: "dropped", cause: "bounce_failed"},
			{path: "no_carrier", port: 7022, send: plain, verdict: "dropped", cause: "no_carrier"},
			{path: "linearized_then_dropped", port: 7023, send: manySlots, verdict: "dropped", cause: "sg_off"},
			{path: "needs_gso", port: 7024, send: segments, verdict: "dropped", cause: "needs_gso"},
		}},
		{name: "nocheck", driver: "nocheck", flags: []string{"--rejected"}, rows: []row{
			{path: "rejected", port: 7012, send: manySlots, verdict: "rejected"},
		}},
		{name: "released", driver: "stock", alone: released, rows: []row{{path: "released", port: 7010}}},
	}
}

// both prepares the interface in two ways.
func both(first, second func(t *testing.T) func()) func(t *testing.T) func() {
	return func(t *testing.T) func() {
		undoFirst := first(t)
		undoSecond := second(t)
		return func() {
			undoSecond()
			undoFirst()
		}
	}
}

// mtu sets the interface's MTU.
func mtu(to string) func(t *testing.T) func() {
	return func(t *testing.T) func() {
		before := readFile(t, filepath.Join("/sys/class/net", ifname, "mtu"))
		command(t, "ip", "link", "set", ifname, "mtu", to)
		return func() { command(t, "ip", "link", "set", ifname, "mtu", before) }
	}
}

// smallerSegments makes runs of TCP segments 48 KiB at most: of 64 KiB in four fragments
// that straddle page boundaries, an ordinary stream needs 19 slots now and then.
func smallerSegments(t *testing.T) func() {
	before := shell(t, "ip -d -o link show dev "+ifname+" | grep -o 'gso_max_size [0-9]*'")
	command(t, "ip", "link", "set", "dev", ifname, "gso_max_size", "49152")
	return func() { shell(t, "ip link set dev "+ifname+" "+before) }
}

// sgOff switches scatter-gather off.
func sgOff(t *testing.T) func() {
	scatterGather(t, "off")
	return func() { command(t, "ethtool", "-K", ifname, "sg", "on", "tso", "on") }
}

// noSmallHeads says why no small head crosses a page here.
func noSmallHeads(t *testing.T) string {
	if smallHeads(t) {
		return ""
	}
	if _, err := os.Stat("/sys/kernel/slab/skbuff_small_head"); errors.Is(err, os.ErrNotExist) {
		return "the heads of small packets have sizes that are powers of two on this kernel (before 6.3): none straddles a page boundary"
	}
	return "the heads of small packets do not cross pages with this kernel's slabs"
}

// sysctl sets a kernel parameter.
func sysctl(t *testing.T, assignment string) {
	t.Helper()
	if out, err := exec.Command("sysctl", "-qw", assignment).CombinedOutput(); err != nil {
		t.Fatalf("sysctl %s: %v\n%s", assignment, err, out)
	}
}
