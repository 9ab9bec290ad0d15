package kernel

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// realtimePath is there on kernels with the RT patches, and on newer ones without.
const realtimePath = "/sys/kernel/realtime"

// IsRealtime reports whether the running kernel is built with PREEMPT_RT.
func IsRealtime() (bool, error) {
	var name unix.Utsname
	if err := unix.Uname(&name); err != nil {
		return false, fmt.Errorf("kernel version: %w", err)
	}
	return isRealtime(unix.ByteSliceToString(name.Version[:]), realtimePath)
}

// isRealtime looks at what uname -v prints, which has PREEMPT_RT since 5.3, and at sysfs.
func isRealtime(version, path string) (bool, error) {
	if slices.Contains(strings.Fields(version), "PREEMPT_RT") {
		return true, nil
	}
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("preemption model: %w", err)
	}
	return bytes.Equal(bytes.TrimSpace(text), []byte("1")), nil
}
