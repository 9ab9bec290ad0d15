// Package procfs parses files of /proc that several packages read.
package procfs

import (
	"bytes"
	"strconv"
	"time"
)

// Tick is the unit of times in /proc/PID/stat: USER_HZ is 100 on x86 and arm64.
const Tick = 10 * time.Millisecond

// StartTime returns starttime of /proc/PID/stat: when the process started, since boot
// (CLOCK_BOOTTIME), in whole ticks.
func StartTime(stat []byte) (time.Duration, bool) {
	// Field 2 is the name in parentheses, which may contain anything.
	_, rest, found := bytes.Cut(stat, []byte("("))
	if !found {
		return 0, false
	}
	const startTime = 22 - 3 // index of field 22 in a list that starts with field 3
	fields := bytes.Fields(rest[bytes.LastIndexByte(rest, ')')+1:])
	if len(fields) <= startTime {
		return 0, false
	}
	ticks, err := strconv.ParseInt(string(fields[startTime]), 10, 64)
	return time.Duration(ticks) * Tick, err == nil
}
