package check

import (
	"errors"
	"testing"

	"golang.org/x/sys/unix"

	"xentrace/internal/kernel"
	"xentrace/test/need"
	"xentrace/test/refuse"
)

// Root whom a seccomp profile forbids bpf() is not advised to become root.
func TestLiveCodeWithoutBPF(t *testing.T) {
	need.Root(t, "to have every privilege")
	source, err := Running()
	if err != nil {
		t.Fatal(err)
	}
	refuse.Call(t, unix.SYS_BPF, func() {
		if _, err := source.LiveCode(t.Context()); !errors.Is(err, kernel.ErrBPFRefused) {
			t.Errorf("error %v, want %v", err, kernel.ErrBPFRefused)
		}
	})
}
