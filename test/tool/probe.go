package tool

import (
	"bytes"
	"encoding/json"
	"errors"
	"os/exec"
	"strings"
	"testing"

	"xentrace/test/schema"
)

// A Probe is a line of type probe.
type Probe struct {
	Type     string  `json:"type"`
	Time     string  `json:"time"`
	Ifname   string  `json:"ifname"`
	Flow     *Flow   `json:"flow"`
	Slots    *int    `json:"slots"`
	Limit    int     `json:"limit"`
	Verdict  *string `json:"verdict"`
	Cause    *string `json:"cause"`
	Attempts int     `json:"attempts"`
	Answer   *string `json:"answer"`
	Reason   *string `json:"reason"`
	Message  string  `json:"message"`
}

// probeKeys are those that every line has, in their order.
var probeKeys = []string{"type", "time", "ifname", "flow", "slots", "limit", "verdict", "cause", "attempts", "answer", "reason", "message"}

// Probed is what a run of probe left.
type Probed struct {
	Lines  []Probe
	Stdout string
	Stderr string
	Status int
}

// RunProbe runs the command, which ends in xentrace's arguments, to its end. With -o
// json among them every line is read, and must have all keys in their order.
func RunProbe(t testing.TB, command ...string) Probed {
	t.Helper()
	var stdout, stderr bytes.Buffer
	cmd := exec.CommandContext(t.Context(), command[0], command[1:]...)
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	p := Probed{Stdout: stdout.String(), Stderr: stderr.String(), Status: cmd.ProcessState.ExitCode()}
	if !strings.Contains(strings.Join(command, " "), " -o json") {
		return p
	}
	schema.Check(t, p.Stdout)
	for line := range strings.Lines(p.Stdout) {
		var probe Probe
		decoder := json.NewDecoder(strings.NewReader(line))
		decoder.DisallowUnknownFields()
		if err := decoder.Decode(&probe); err != nil {
			t.Fatalf("line %q: %v", line, err)
		}
		at := 0
		for _, key := range probeKeys {
			next := strings.Index(line[at:], `"`+key+`":`)
			if next < 0 {
				t.Fatalf("line %q: no key %s behind the ones before", line, key)
			}
			at += next + 1
		}
		p.Lines = append(p.Lines, probe)
	}
	return p
}

// Only returns the one line of type probe.
func (p *Probed) Only(t testing.TB) *Probe {
	t.Helper()
	if len(p.Lines) != 1 {
		t.Fatalf("status %d, %d lines, want 1:\n%s%s", p.Status, len(p.Lines), p.Stdout, p.Stderr)
	}
	return &p.Lines[0]
}

// Text is a string that may be null.
func Text(s *string) string {
	if s == nil {
		return "null"
	}
	return *s
}
