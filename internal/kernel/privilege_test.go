//go:build !cgo

package kernel

import (
	"os"
	"os/exec"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"xentrace/test/need"
)

// Giving up privileges is for good, so it is done in a process of its own.
func TestKeepOnly(t *testing.T) {
	if os.Getenv("KEEP_ONLY") != "" {
		if err := KeepOnly(unix.CAP_BPF, unix.CAP_SYSLOG); err != nil {
			t.Fatal(err)
		}
		tasks, err := os.ReadDir("/proc/self/task")
		if err != nil {
			t.Fatal(err)
		}
		for _, task := range tasks {
			status, err := os.ReadFile("/proc/self/task/" + task.Name() + "/status")
			if err != nil {
				t.Fatal(err)
			}
			// CAP_SYSLOG is 34, CAP_BPF 39.
			for _, set := range []string{"CapPrm", "CapEff"} {
				if !strings.Contains(string(status), set+":\t0000008400000000\n") {
					t.Errorf("thread %s: %s is not what was kept:\n%s", task.Name(), set, status)
				}
			}
		}
		return
	}
	need.Root(t, "to have privileges to give up")
	child := exec.Command(os.Args[0], "-test.run=^TestKeepOnly$")
	child.Env = append(os.Environ(), "KEEP_ONLY=1")
	if out, err := child.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}
