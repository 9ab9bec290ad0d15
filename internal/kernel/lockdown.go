package kernel

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
)

const lockdownPath = "/sys/kernel/security/lockdown"

// A Lockdown is how far the kernel defends itself against its own root.
type Lockdown string

const (
	// LockdownAbsent means that the kernel has no lockdown, or that securityfs is
	// not mounted and does not show.
	LockdownAbsent          Lockdown = "absent"
	LockdownNone            Lockdown = "none"
	LockdownIntegrity       Lockdown = "integrity"
	LockdownConfidentiality Lockdown = "confidentiality"
)

// ReadLockdown asks the running kernel.
func ReadLockdown() (Lockdown, error) { return readLockdown(lockdownPath) }

func readLockdown(path string) (Lockdown, error) {
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return LockdownAbsent, nil
	}
	if err != nil {
		return "", fmt.Errorf("lockdown mode: %w", err)
	}
	return parseLockdown(string(text))
}

// parseLockdown reads "none [integrity] confidentiality".
func parseLockdown(text string) (Lockdown, error) {
	_, rest, opened := strings.Cut(text, "[")
	mode, _, closed := strings.Cut(rest, "]")
	if opened && closed {
		switch mode := Lockdown(mode); mode {
		case LockdownNone, LockdownIntegrity, LockdownConfidentiality:
			return mode, nil
		}
	}
	return "", fmt.Errorf("lockdown mode %q is not understood", strings.TrimSpace(text))
}

// Forbids reports in a sentence what the mode forbids a tracer, and is empty where
// it forbids nothing.
func (l Lockdown) Forbids() string {
	switch l {
	case LockdownConfidentiality:
		return "Kernel lockdown is in confidentiality mode: it forbids BPF programs to read kernel memory, and kprobes and tracefs altogether, " +
			"so no packet can be looked at. Boot with lockdown=integrity or lockdown=none on the kernel command line."
	case LockdownIntegrity:
		return "Kernel lockdown is in integrity mode: it allows tracing, but no module without a valid signature is loaded, a driver built by hand among them."
	default:
		return ""
	}
}

// ForbidsTracing reports whether no backend can work.
func (l Lockdown) ForbidsTracing() bool { return l == LockdownConfidentiality }
