package fix

import (
	"os"
	"strings"
)

// machineID identifies the installed system; empty if it has no machine-id(5).
func (d *disk) machineID() string { return d.line("/etc/machine-id") }

// bootID identifies the time since the kernel started.
func (d *disk) bootID() string { return d.line("/proc/sys/kernel/random/boot_id") }

func (d *disk) line(path string) string {
	content, err := os.ReadFile(d.path(path))
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(content))
}

// other reports that two ids are known and differ.
func other(a, b string) bool { return a != "" && b != "" && a != b }
