package event

import (
	"os/exec"
	"slices"
	"strings"
	"testing"

	"xentrace/test/need"
)

func dependencies(t *testing.T, name string) []string {
	t.Helper()
	out, err := exec.Command("go", "list", "-deps", "xentrace/internal/"+name).Output()
	if err != nil {
		t.Fatal(err)
	}
	return strings.Fields(string(out))
}

// Events are plain data, which a recording can be read into on any machine.
func TestEventsAreForAnyProgram(t *testing.T) {
	need.Tool(t, "go")
	for _, path := range dependencies(t, "event") {
		if path != "xentrace/internal/event" && strings.HasPrefix(path, "xentrace/") || strings.Contains(path, "cilium/ebpf") {
			t.Errorf("event depends on %s", path)
		}
	}
}

// What judges and prints events works with a recording too: it needs no tracer.
func TestOnlySourcesDependOnTheTracer(t *testing.T) {
	need.Tool(t, "go")
	for _, name := range []string{"owner", "flow", "filter", "verdict", "remedy", "redact", "session", "output", "live", "record", "pcapng", "report"} {
		if slices.Contains(dependencies(t, name), "xentrace/internal/trace") {
			t.Errorf("%s depends on trace", name)
		}
	}
}
