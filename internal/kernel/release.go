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
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// A Release is what uname -r prints. It is for messages; facts about the kernel and the driver never
// come from it, since distributions carry changes back.
type Release struct {
	Major, Minor, Patch int
	Text                string
}

// ReadRelease asks the running kernel.
func ReadRelease() (Release, error) {
	var name unix.Utsname
	if err := unix.Uname(&name); err != nil {
		return Release{}, fmt.Errorf("kernel release: %w", err)
	}
	return ParseRelease(unix.ByteSliceToString(name.Release[:]))
}

// ParseRelease reads the numbers a release begins with: "6.12.117+deb12-amd64",
// "7.3-rc7". A missing patch level is 0.
func ParseRelease(text string) (Release, error) {
	release := Release{Text: text}
	rest := text
	for i, number := range []*int{&release.Major, &release.Minor, &release.Patch} {
		digits := len(rest) - len(strings.TrimLeft(rest, "0123456789"))
		value, err := strconv.Atoi(rest[:digits])
		if err != nil {
			return Release{}, fmt.Errorf("kernel release %q is not understood", text)
		}
		*number = value
		rest = rest[digits:]
		if !strings.HasPrefix(rest, ".") || i == 2 {
			if i == 0 {
				return Release{}, fmt.Errorf("kernel release %q has no minor number", text)
			}
			return release, nil
		}
		rest = rest[1:]
	}
	return release, nil
}

// AtLeast compares the first two numbers.
func (r Release) AtLeast(major, minor int) bool {
	return r.Major > major || r.Major == major && r.Minor >= minor
}

// String is the release as uname prints it.
func (r Release) String() string { return r.Text }

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
