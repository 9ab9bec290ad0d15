package kernel

import (
	"fmt"
	"os"
	"strconv"
	"strings"
)

const paranoidPath = "/proc/sys/kernel/perf_event_paranoid"

// KprobesTakeSysAdmin reports whether attaching a kprobe takes CAP_SYS_ADMIN here: the
// kernels of Debian and Ubuntu open no perf event without it while
// kernel.perf_event_paranoid is above 2, as it is by default. Upstream has no such level,
// and CAP_PERFMON suffices.
func KprobesTakeSysAdmin() (bool, error) { return kprobesTakeSysAdmin(paranoidPath) }

func kprobesTakeSysAdmin(path string) (bool, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return false, fmt.Errorf("restriction of perf events: %w", err)
	}
	level, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		return false, fmt.Errorf("restriction of perf events, %s: %q is not a number", path, text)
	}
	return level > 2, nil
}
