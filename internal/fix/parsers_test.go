package fix

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"xentrace/test/need"
)

// inRoot runs a shell script in a root directory with the real parsers and the
// files that fix wrote, and returns all that it printed.
func (m *fakeMachine) inRoot(t *testing.T, script string) string {
	t.Helper()
	packages, err := filepath.Abs("../../build/parsers/root")
	if err != nil {
		t.Fatal(err)
	}
	need.Root(t, "to enter a root directory of the parsers")
	need.File(t, packages)
	files := t.TempDir()
	dispatch, err := os.ReadFile("testdata/dispatch.sh")
	if err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string][]byte{"test.sh": []byte("set -e\n" + script), "dispatch.sh": dispatch} {
		if err := os.WriteFile(filepath.Join(files, name), content, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.CopyFS(filepath.Join(files, "etc"), os.DirFS(filepath.Join(m.root, "etc"))); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("testdata/in-root.sh", packages, files, "sh", "/test.sh")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return string(bytes.TrimSpace(out))
}

// persisted applies steps to the fake machine's eth0 and leaves the files.
func persisted(t *testing.T, persist Persistence) *fakeMachine {
	t.Helper()
	m := newFakeMachine(t)
	delete(m.devices, 3)
	plan := m.plan(t, "single-pages", "sg-off", "mtu-1400")
	if err := m.fixer().Apply(t.Context(), plan, persist); err != nil {
		t.Fatal(err)
	}
	return m
}

// has fails the test unless text has every part.
func has(t *testing.T, text string, parts ...string) {
	t.Helper()
	for _, part := range parts {
		if !strings.Contains(text, part) {
			t.Errorf("no %q in\n%s", part, text)
		}
	}
}

// What eth0 is after a parser has done what the file says.
const (
	show     = "\necho; echo state; ethtool -k eth0 | grep tx-scatter-gather:; ip link show eth0\n"
	sgIsOff  = "tx-scatter-gather: off"
	mtuIs    = "mtu 1400"
	unitFile = "/etc/systemd/system/xentrace-fix-eth0.service"
)

func TestSystemdTakesTheFiles(t *testing.T) {
	m := persisted(t, Systemd)
	verified := m.inRoot(t, "systemd-analyze verify "+unitFile+" && echo accepted")
	if verified != "accepted" {
		t.Errorf("systemd-analyze verify says %q", verified)
	}
	// What it would run does what it should.
	out := m.inRoot(t, "sed -n 's/^ExecStart=//p' "+unitFile+" >/run/commands; sh -ex /run/commands"+show)
	has(t, out, sgIsOff, mtuIs)
	link, err := os.Readlink(filepath.Join(m.root, "etc/systemd/system/sys-subsystem-net-devices-eth0.device.wants/xentrace-fix-eth0.service"))
	if err != nil || link != unitFile {
		t.Errorf("the link that enables it: %q %v", link, err)
	}
}

// A unit that systemd does not take is reported, so that silence means something.
func TestSystemdTakesNotEverything(t *testing.T) {
	m := persisted(t, Systemd)
	out := m.inRoot(t, "sed -i s/ExecStart=/ExecSart=/ "+unitFile+"; systemd-analyze verify "+unitFile+" || true")
	has(t, out, "Unknown key", "'ExecSart'")
}

// The switch belongs to the machine and is not there in a new network namespace, so
// systemd-sysctl reports what it would have set.
func TestSysctlFileIsTaken(t *testing.T) {
	m := persisted(t, Systemd)
	out := m.inRoot(t, "SYSTEMD_LOG_LEVEL=debug /lib/systemd/systemd-sysctl "+sysctlFile+" || true")
	has(t, out, "net/core/high_order_alloc_disable")
	if strings.Contains(out, "not an assignment") || strings.Contains(out, "Line is") {
		t.Errorf("systemd-sysctl says %s", out)
	}
}

func TestUdevTakesTheFile(t *testing.T) {
	m := persisted(t, Udev)
	out := m.inRoot(t, "udevadm test --action=add /sys/class/net/eth0 2>&1")
	has(t, out, "Reading rules file: /etc/udev/rules.d/90-xentrace-fix-eth0.rules",
		"run: '/usr/sbin/ethtool -K eth0 tx-scatter-gather off'", "run: '/usr/sbin/ip link set dev eth0 mtu 1400'")
	for line := range strings.Lines(out) {
		if strings.Contains(line, "90-xentrace-fix-eth0.rules:") && !strings.Contains(line, "RUN '") {
			t.Errorf("udev objects: %s", line)
		}
	}
	peer := m.inRoot(t, "udevadm test --action=add /sys/class/net/peer 2>&1")
	if strings.Contains(peer, "ethtool") {
		t.Errorf("the rule is for another interface too:\n%s", peer)
	}
}

func TestIfupdownTakesTheFile(t *testing.T) {
	m := persisted(t, Ifupdown)
	const stanza = "mkdir -p /etc/network; printf 'iface eth0 inet manual\\niface peer inet manual\\n' >/etc/network/interfaces\n"
	out := m.inRoot(t, stanza+"ifquery eth0; ifup --no-act --verbose eth0 2>&1; run-parts --test /etc/network/if-up.d")
	has(t, out, "run-parts --exit-on-error --verbose /etc/network/if-up.d", "/etc/network/if-up.d/xentrace-fix-eth0")
	out = m.inRoot(t, stanza+"ifup peer"+show)
	if strings.Contains(out, sgIsOff) {
		t.Errorf("it is done for another interface:\n%s", out)
	}
	has(t, m.inRoot(t, stanza+"ifup --verbose eth0 2>&1"+show), sgIsOff, mtuIs)
}

func TestNetworkManagerTakesTheFile(t *testing.T) {
	m := persisted(t, NetworkManager)
	out := m.inRoot(t, "sh /dispatch.sh 2>&1"+show)
	has(t, out, `"/etc/NetworkManager/dispatcher.d/90-xentrace-fix-eth0" 1 ""`, sgIsOff, mtuIs)
}
