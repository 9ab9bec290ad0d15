//go:build !cgo

package main

import (
	"os"
	"os/exec"
	"strings"
	"testing"

	"xentrace/test/need"
)

func TestWithoutTypes(t *testing.T) {
	need.Root(t, "to hide the kernel's types")
	c := exec.Command("unshare", "-m", "-n", "sh", "-c", `mount -t tmpfs none /sys/kernel/btf && exec "$0" -i lo`, os.Args[0])
	c.Env = append(os.Environ(), runVariable+"=1")
	out, _ := c.CombinedOutput()
	if status := c.ProcessState.ExitCode(); status != 3 || !strings.Contains(string(out), "name its vmlinux with --btf FILE") {
		t.Errorf("status %d, want 3 and the way out:\n%s", status, out)
	}
}
