//go:build xenlab

package guest

import (
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// realtime reports whether this is a kernel with PREEMPT_RT.
func realtime(t *testing.T) bool {
	t.Helper()
	return slices.Contains(strings.Fields(readFile(t, "/proc/version")), "PREEMPT_RT")
}

// With PREEMPT_RT what traces is refused and says why, and check works.
func TestRealtimeKernel(t *testing.T) {
	if !realtime(t) {
		t.Skip("this kernel is not built with PREEMPT_RT (--kernel 6.12-rt)")
	}
	for _, command := range [][]string{
		{"watch", "-d", "1s"},
		{"watch", "--backend", "fentry", "-d", "1s"},
		{"watch", "--backend", "kprobe", "-d", "1s"},
		{"watch", "--backend", "tracepoint", "-d", "1s"},
		{"hist", "-d", "1s"},
		{"record", "--dir", filepath.Join(t.TempDir(), "recording"), "-d", "1s"},
		{"congestion", "-d", "1s"},
	} {
		t.Run(strings.Join(command[:min(3, len(command))], " "), func(t *testing.T) {
			out, err := exec.Command(program(t), command...).CombinedOutput()
			if status := exitCode(err); status != 3 {
				t.Errorf("status %d, want 3", status)
			}
			want := "kernel " + env(t, "XENTRACE_LAB_KERNEL") + " is built with PREEMPT_RT"
			if !strings.Contains(string(out), want) {
				t.Errorf("output %q, want %q in it", out, want)
			}
		})
	}
	status, word := driverStatus(t)
	c := check(t, 0)
	c.is(t, "linearize", status, "read_from:running kernel", "file_says:"+word)
}
