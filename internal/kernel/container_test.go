package kernel

import (
	"errors"
	"testing"

	"golang.org/x/sys/unix"

	"xentrace/test/need"
	"xentrace/test/refuse"
)

func TestTryBPF(t *testing.T) {
	need.Root(t, "to be allowed bpf()")
	if err := TryBPF(); err != nil {
		t.Errorf("%v, want it allowed", err)
	}
	refuse.Call(t, unix.SYS_BPF, func() {
		if err := TryBPF(); !errors.Is(err, ErrBPFRefused) || errors.Is(err, unix.EPERM) {
			t.Errorf("error %v, want ErrBPFRefused alone", err)
		}
	})
	refuse.Command(t, unix.SYS_BPF, unix.BPF_MAP_CREATE, func() {
		if err := TryBPF(); err != nil {
			t.Errorf("%v, want it allowed: another command is refused", err)
		}
	})
}
