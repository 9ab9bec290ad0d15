package netns

import (
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// What each command says and does on a kernel without BTF and without a vmlinux in the usual
// places: what traces names the way out and what works, and the rest works.
func TestWithoutTypes(t *testing.T) {
	newLab(t)
	defaultRoute(t, farAddress.Addr())
	const refused = "no BTF type information in /sys/kernel/btf/vmlinux; /boot, /usr/lib/debug and /lib/modules have no vmlinux of it; " +
		"name its vmlinux with --btf FILE, run xentrace learn once, or boot a kernel built with CONFIG_DEBUG_INFO_BTF; check, fix, and replay, report and compare of recordings work without"
	change := "fix -i near --apply --force --step mtu-1400 --watch 100ms --state " + filepath.Join(t.TempDir(), "fix.json")
	for _, test := range []struct {
		command string
		status  int
		says    string
	}{
		{"watch -i near -d 100ms", 3, refused},
		{"watch -i near -d 100ms --backend tracepoint", 3, refused},
		{"hist -i near -d 100ms", 3, refused},
		{"congestion -i near -d 100ms", 3, refused},
		{"record -i near -d 100ms --dir " + t.TempDir(), 3, refused},
		{"probe -i near", 3, refused},
		{"demo", 3, refused},
		{"watch -i near -d 100ms --btf /dev/null", 3, "it has to be a vmlinux of kernel"},
		{"version", 0, "no BTF"},
		{"check", 0, "0 FAIL"},
		{"check -i near --observe 100ms", 3, "no xen-netfront interface found; run check without it"},
		{change, 0, "the interfaces' own counters are read instead"},
	} {
		// Not in subtests: the interface is in this thread's network namespace.
		cmd := exec.Command("unshare", "-m", "sh", "-c", "mount -t tmpfs none /sys/kernel/btf && exec "+xentrace+" "+test.command)
		out, _ := cmd.CombinedOutput()
		text := strings.Join(strings.Fields(string(out)), " ")
		if status := cmd.ProcessState.ExitCode(); status != test.status || !strings.Contains(text, test.says) {
			t.Errorf("%s: status %d, want %d and %q:\n%s", test.command, status, test.status, test.says, out)
		}
	}
}
