package netns

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"xentrace/test/need"
	"xentrace/test/tool"
)

// Once attached it keeps only what it still needs, on every thread.
func TestPrivilegesAreGivenUp(t *testing.T) {
	need.Root(t, "to have privileges to give up")
	for _, test := range []struct {
		name string
		args []string
		want string // CapPrm, in hexadecimal
	}{
		// CAP_PERFMON is 38, CAP_BPF 39.
		{"named interfaces", []string{"watch", "-i", "lo", "-o", "json"}, "000000c000000000"},
		// CAP_SYSLOG is 34: modules that are loaded later have functions too.
		{"drops elsewhere", []string{"watch", "-i", "lo", "-o", "json", "--drops", "all"}, "000000c400000000"},
	} {
		t.Run(test.name, func(t *testing.T) {
			run := tool.Start(t, append([]string{xentrace}, test.args...)...)
			var got []string
			for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
				if got = capabilities(t, run.PID()); len(got) == 1 && got[0] == test.want {
					break // they are given up right after the ready file is there
				}
			}
			if len(got) != 1 || got[0] != test.want {
				t.Errorf("its threads have %v, want %s only", got, test.want)
			}
			if output := run.Stop(); output.Status != 0 || output.Only(t).TxDroppedDelta == nil {
				t.Errorf("status %d, tx_dropped_delta %v: want 0 and a number", output.Status, output.Only(t).TxDroppedDelta)
			}
		})
	}
}

// capabilities returns the different permitted sets of a process's threads.
func capabilities(t *testing.T, pid int) []string {
	t.Helper()
	tasks := fmt.Sprintf("/proc/%d/task", pid)
	entries, err := os.ReadDir(tasks)
	if err != nil {
		t.Fatal(err)
	}
	seen := make(map[string]bool)
	var sets []string
	for _, entry := range entries {
		status, err := os.ReadFile(tasks + "/" + entry.Name() + "/status")
		if err != nil {
			continue // the thread has ended
		}
		for line := range strings.Lines(string(status)) {
			if set, found := strings.CutPrefix(line, "CapPrm:\t"); found && !seen[set] {
				seen[set] = true
				sets = append(sets, strings.TrimSpace(set))
			}
		}
	}
	return sets
}
