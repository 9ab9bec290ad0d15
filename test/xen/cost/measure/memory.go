package main

import (
	"fmt"
	"os"
	"strconv"
	"strings"
)

// status returns a figure in KiB of the process's /proc/PID/status.
func (c *command) status(field string) (int, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", c.process.Pid))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(text)) {
		if value, found := strings.CutPrefix(line, field); found {
			return strconv.Atoi(strings.TrimSuffix(strings.TrimSpace(value), " kB"))
		}
	}
	return 0, fmt.Errorf("no %s in /proc/%d/status", field, c.process.Pid)
}
