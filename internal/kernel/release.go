// Package kernel reads what the running kernel is: symbols, types, lockdown, missing
// capabilities, loaded modules and machine code.
//
// Every fact comes from the kernel that is asked, none from a table of
// versions. The release number serves messages only.
package kernel

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// ReadRelease returns what uname -r prints. It is for messages and for the names of files, and
// never compared with another: distributions carry changes back under old numbers.
func ReadRelease() (string, error) {
	var name unix.Utsname
	if err := unix.Uname(&name); err != nil {
		return "", fmt.Errorf("kernel release: %w", err)
	}
	return unix.ByteSliceToString(name.Release[:]), nil
}

// TicksPerSecond is the kernel's HZ, for values kept in jiffies. The coarse
// clock's resolution is the length of one tick.
func TicksPerSecond() (int, error) {
	var tick unix.Timespec
	if err := unix.ClockGetres(unix.CLOCK_MONOTONIC_COARSE, &tick); err != nil {
		return 0, fmt.Errorf("kernel tick: %w", err)
	}
	return ticksPerSecond(time.Duration(tick.Nano()))
}

func ticksPerSecond(tick time.Duration) (int, error) {
	if tick <= 0 || tick > time.Second {
		return 0, fmt.Errorf("kernel tick of %s is not believable", tick)
	}
	return int(math.Round(float64(time.Second) / float64(tick))), nil
}

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
