package netns

import (
	"encoding/json"
	"errors"
	"net/netip"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"

	"xentrace/test/rocket"
	"xentrace/test/schema"
)

// A fixed is what a line of type fix says that these tests are about.
type fixed struct {
	Step    string
	Status  string
	Ifname  *string
	Message *string
}

// lowerMTU has fix change the near interface, and returns its lines and exit status.
func lowerMTU(t *testing.T, args ...string) (lines []fixed, status int) {
	t.Helper()
	command := append([]string{"fix", "-i", "near", "--apply", "--force", "--step", "mtu-1400", "--watch", "200ms", "-o", "json",
		"--state", filepath.Join(t.TempDir(), "fix.json")}, args...)
	var stderr strings.Builder
	cmd := exec.CommandContext(t.Context(), xentrace, command...)
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	schema.Check(t, out)
	for line := range strings.Lines(string(out)) {
		var f fixed
		must(t, json.Unmarshal([]byte(line), &f))
		lines = append(lines, f)
	}
	t.Logf("%s%s", out, &stderr)
	link, err := netlink.LinkByName("near")
	must(t, err)
	if mtu := link.Attrs().MTU; mtu != 1400 {
		t.Errorf("the MTU is %d, want 1400", mtu)
	}
	return lines, cmd.ProcessState.ExitCode()
}

// saidOf returns what was said of a step in the end, nil if nothing was.
func saidOf(lines []fixed, step string) *fixed {
	for n := len(lines) - 1; n >= 0; n-- {
		if lines[n].Step == step {
			return &lines[n]
		}
	}
	return nil
}

// manySlots is reported the probe: it has 27 slots, or 28 where its head straddles two pages.
var manySlots = regexp.MustCompile(`^A datagram to the default gateway, 10\.98\.0\.2, had 2[78] slots \(the limit is 18\)\. `)

// After the change one datagram of many slots goes to the interface's own gateway, and
// nothing else leaves; what became of it is reported.
func TestFixProbes(t *testing.T) {
	l := newLab(t)
	defaultRoute(t, farAddress.Addr())
	sink := l.udpSinkAt(netip.AddrPortFrom(farAddress.Addr(), 9))
	before := transmitted(t, l.near)
	lines, status := lowerMTU(t)
	said := saidOf(lines, "probe")
	if status != 0 || said == nil || said.Status != "verified" || *said.Ifname != "near" ||
		!manySlots.MatchString(*said.Message) {
		t.Errorf("status %d, %+v", status, lines)
	}
	// The veth pair counts it, and it came before the watch.
	watch := saidOf(lines, "watch")
	if watch == nil || watch.Status != "verified" || !strings.Contains(*watch.Message, "(0 sent)") || strings.Contains(*watch.Message, "probe") {
		t.Errorf("watch: %+v", watch)
	}
	eventually(t, "arrival", func() bool { return sink.Received().Datagrams == 1 })
	if got := sink.Received(); got != (rocket.UDPReceived{Datagrams: 1, Bytes: 1120}) {
		t.Errorf("received %+v, want one datagram of 1120 bytes", got)
	}
	if sent := transmitted(t, l.near) - before; sent != 1 {
		t.Errorf("%d packets left, want 1", sent)
	}
}

// Where no probe can be made, or the driver is not handed it, the watch says why, and
// the exit status is that of the watch.
func TestFixSaysWhyItDidNotProbe(t *testing.T) {
	silent := netip.MustParseAddr("10.98.0.77")
	for _, test := range []struct {
		name   string
		before func(*testing.T)
		args   []string
		says   string
	}{
		{"no gateway", func(*testing.T) {}, nil, " No probe was made out of near: it has no default gateway."},
		{"a gateway that does not answer", func(t *testing.T) { defaultRoute(t, silent) }, nil,
			" A probe out of near shows nothing: 10.98.0.77 does not answer ARP requests on interface near"},
		{"a packet filter", func(t *testing.T) {
			defaultRoute(t, farAddress.Addr())
			dropAt(t, outputHook)
		}, nil, " A probe out of near shows nothing: the kernel dropped the datagram on its way to the driver, for the reason NETFILTER_DROP"},
		{"not wanted", func(t *testing.T) { defaultRoute(t, farAddress.Addr()) }, []string{"--no-probe"}, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			l := newLab(t)
			test.before(t)
			l.awaitSilence()
			before := transmitted(t, l.near)
			lines, status := lowerMTU(t, test.args...)
			watch := saidOf(lines, "watch")
			if status != 0 || saidOf(lines, "probe") != nil || watch == nil || !strings.Contains(*watch.Message, test.says) {
				t.Errorf("status %d, %+v: want no line of the probe, and %q", status, lines, test.says)
			}
			if test.says == "" && watch != nil && strings.Contains(*watch.Message, "probe") {
				t.Errorf("says %s", *watch.Message)
			}
			if sent := transmitted(t, l.near) - before; sent != 0 && test.name != "a gateway that does not answer" {
				t.Errorf("%d packets left, want none", sent)
			}
		})
	}
}

// By the time of the probe what changed the machine has given up the right to.
func TestFixProbesWithoutPrivileges(t *testing.T) {
	l := newLab(t)
	defaultRoute(t, farAddress.Addr())
	sink := l.udpSinkAt(netip.AddrPortFrom(farAddress.Addr(), 9))
	cmd := exec.Command(xentrace, "fix", "-i", "near", "--apply", "--force", "--step", "mtu-1400", "--watch", "5s", "--state", filepath.Join(t.TempDir(), "fix.json"))
	must(t, cmd.Start())
	eventually(t, "the datagram", func() bool { return sink.Received().Datagrams > 0 })
	// CAP_SYSLOG is 34, CAP_PERFMON 38, CAP_BPF 39.
	if got := capabilities(t, cmd.Process.Pid); len(got) != 1 || got[0] != "000000c400000000" {
		t.Errorf("its threads have %v, want 000000c400000000 only", got)
	}
	if err := cmd.Wait(); err != nil {
		t.Errorf("%v, want status 0", err)
	}
}
