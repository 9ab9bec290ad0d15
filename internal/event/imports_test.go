package event

import (
	"os/exec"
	"slices"
	"strings"
	"testing"

	"xentrace/test/need"
)

const internal = "xentrace/internal/"

// dependencies returns what each internal package is built from, by its name below internal/.
func dependencies(t *testing.T) map[string][]string {
	t.Helper()
	need.Tool(t, "go")
	out, err := exec.Command("go", "list", "-f", `{{.ImportPath}} {{join .Deps " "}}`, internal+"...").Output()
	if err != nil {
		t.Fatal(err)
	}
	of := make(map[string][]string)
	for line := range strings.Lines(string(out)) {
		paths := strings.Fields(line)
		of[strings.TrimPrefix(paths[0], internal)] = paths[1:]
	}
	return of
}

// Events are plain data, which a recording can be read into on any machine.
func TestEventsAreForAnyProgram(t *testing.T) {
	of := dependencies(t)["event"]
	if len(of) == 0 {
		t.Fatal("no dependencies of event are listed")
	}
	for _, path := range of {
		if strings.HasPrefix(path, "xentrace/") || strings.Contains(path, "cilium/ebpf") {
			t.Errorf("event depends on %s", path)
		}
	}
}

// Data flows one way. What judges and prints events works with a recording too: it needs no
// tracer.
func TestDataFlowsOneWay(t *testing.T) {
	sinks := []string{"output", "live", "record", "pcapng", "report"}
	rules := []string{"verdict", "remedy", "facts", "header", "redact"}
	stages := []string{"owner", "flow", "filter", "session"}
	deps := dependencies(t)
	none := func(of []string, forbidden ...string) {
		t.Helper()
		for _, name := range of {
			if len(deps[name]) == 0 {
				t.Errorf("no dependencies of %s are listed", name)
			}
			for _, other := range forbidden {
				if other != name && slices.Contains(deps[name], internal+other) {
					t.Errorf("%s depends on %s", name, other)
				}
			}
		}
	}
	none(slices.Concat(stages, rules, sinks), "trace")
	none([]string{"trace"}, slices.Concat(stages, rules, sinks)...)
	for n, stage := range stages {
		none([]string{stage}, slices.Concat(stages[n+1:], sinks, []string{"cli"})...)
	}
	none(rules, slices.Concat(stages, sinks)...)
	none(slices.Concat(sinks, []string{"check", "fix", "probe", "congestion", "demo", "exporter"}), "session", "cli")
}
