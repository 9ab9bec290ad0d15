//go:build xenlab

package guest

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"xentrace/internal/kernel"
)

// What is learned by experiment is what the kernel's own types say, where it has them, and with
// nothing else each backend that needs no BTF in the kernel counts to the packet.
func TestLearnedTypes(t *testing.T) {
	// Debian's kernels load them when they are wanted; this guest has no /dev/net/tun before.
	for _, module := range []string{"tun", "ifb"} {
		_ = exec.Command("modprobe", module).Run() // built in, or else learn says so
	}
	types, want := filepath.Join(t.TempDir(), "types"), "each where the kernel's own types have it"
	args := []string{program(t), "learn", "--to", types}
	if !kernel.HasKernelTypes() {
		types, want = kernel.LearnedFile(env(t, "XENTRACE_LAB_KERNEL")), "twice in the same places"
		args = args[:2]
		t.Cleanup(func() { _ = os.Remove(types) })
	}
	out, err := exec.Command(args[0], args[1:]...).CombinedOutput()
	t.Logf("%s", out)
	if status := exitCode(err); status != 0 || !strings.Contains(string(out), want) || !strings.Contains(string(out), types) {
		t.Fatalf("status %d, want 0, %q and %s", status, want, types)
	}
	for _, backend := range backends(t) {
		if backend == "fentry" {
			continue // needs the kernel's own
		}
		t.Run(backend, func(t *testing.T) {
			args := []string{program(t), "watch", "-o", "json", "--backend", backend}
			if kernel.HasKernelTypes() {
				args = append(args, "--btf", types)
			}
			countsRockets(t, args)
		})
	}
}
