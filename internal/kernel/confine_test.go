//go:build !cgo

package kernel

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"xentrace/test/need"
	"xentrace/test/role"
)

// confined runs this test binary, or a copy, confined to a user, by way of the commands before it,
// and returns what each thread's status shows.
func confined(t *testing.T, user, binary string, before ...string) map[string][]string {
	t.Helper()
	need.Root(t, "to have privileges to drop")
	out, err := role.CommandOf("confined", append(before, binary, user)...).CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	found := make(map[string][]string)
	for line := range strings.Lines(string(out)) {
		if fields := strings.SplitN(strings.TrimSpace(line), " ", 3); len(fields) == 3 {
			found[fields[1]] = append(found[fields[1]], fields[2])
		}
	}
	return found
}

func wantAll(t *testing.T, found map[string][]string, want map[string]string) {
	t.Helper()
	for key, value := range want {
		if len(found[key]) == 0 {
			t.Errorf("no %s in %v", key, found)
		}
		for _, got := range found[key] {
			if got != value {
				t.Errorf("%s is %q, want %q", key, got, value)
			}
		}
	}
}

// CAP_SYSLOG is 34, CAP_BPF 39.
const keptSet = "0000008400000000"

func TestConfine(t *testing.T) {
	nobody := "65534 65534 65534 65534"
	found := confined(t, "nobody", os.Args[0])
	if len(found["CapEff"]) < 2 {
		t.Errorf("%d threads, want several", len(found["CapEff"]))
	}
	wantAll(t, found, map[string]string{
		"Uid": nobody, "Gid": nobody, "CapInh": "0000000000000000", "CapPrm": keptSet, "CapEff": keptSet,
		"CapBnd": keptSet, "CapAmb": "0000000000000000", "NoNewPrivs": "1", "securebits": "0xef", "dumpable": "0",
		"open:/etc/shadow": "true", "open:/proc/self/ns/net": "ok", "open:/proc/thread-self/ns/net": "ok",
		"child": "0000000000000000",
	})
}

// uid 0 has no special meaning afterwards, even if it stays.
func TestConfineAsRoot(t *testing.T) {
	wantAll(t, confined(t, "root", os.Args[0]), map[string]string{
		"Uid": "0 0 0 0", "CapEff": keptSet, "CapBnd": keptSet, "NoNewPrivs": "1", "child": "0000000000000000",
	})
}

// A user with ambient capabilities has no CAP_SETUID and no CAP_SETPCAP, and needs none.
func TestConfineUserWithAmbientCapabilities(t *testing.T) {
	need.Tool(t, "setpriv")
	capabilities := "+bpf,+perfmon,+syslog"
	found := confined(t, "nobody", os.Args[0], "setpriv", "--reuid=1234", "--regid=1234", "--clear-groups", "--inh-caps="+capabilities, "--ambient-caps="+capabilities)
	wantAll(t, found, map[string]string{
		"Uid": "1234 1234 1234 1234", "CapInh": "0000000000000000", "CapEff": keptSet, "CapAmb": "0000000000000000",
		"NoNewPrivs": "1", "dumpable": "0", "child": "0000000000000000",
	})
}

// What setcap gives to the file of a user without privileges is kept as far as it is needed.
func TestConfineUserWithFileCapabilities(t *testing.T) {
	need.Root(t, "to give capabilities to a file")
	need.Tool(t, "setpriv", "setcap")
	// Not t.TempDir, which only this user may enter.
	directory, err := os.MkdirTemp("", "xentrace-confine-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(directory) })
	binary := filepath.Join(directory, "confined")
	content, err := os.ReadFile(os.Args[0])
	if err := errors.Join(err, os.Chmod(directory, 0o755), os.WriteFile(binary, content, 0o755)); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("setcap", "cap_bpf,cap_perfmon,cap_syslog=ep", binary).CombinedOutput(); err != nil {
		t.Fatalf("setcap: %v: %s", err, out)
	}
	found := confined(t, "nobody", binary, "setpriv", "--reuid=1234", "--regid=1234", "--clear-groups")
	wantAll(t, found, map[string]string{"Uid": "1234 1234 1234 1234", "CapEff": keptSet, "CapPrm": keptSet, "NoNewPrivs": "1", "child": "0000000000000000"})
}
