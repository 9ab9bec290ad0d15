//go:build xenlab

package guest

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// The kernel side's own tests, on this kernel's verifier and structures: every
// slot vector, every fate of a packet, flows and sockets, on fake packets.
func TestKernelSide(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	// The guest has no C compiler, and so not the test of the header on the host.
	tests := exec.Command(filepath.Join(filepath.Dir(self), "bpf.test"), "-test.v", "-test.skip", "OnHost")
	out, err := tests.CombinedOutput()
	passed := strings.Count(string(out), "--- PASS: ")
	if err != nil || passed < 50 {
		t.Fatalf("%v, %d tests passed, want at least 50\n%s", err, passed, out)
	}
	t.Logf("%d tests passed", passed)
}
