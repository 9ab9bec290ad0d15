//go:build xenlab && matrix

package guest

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// copyProbe counts the calls of skb_copy_header, which the driver's bounce ends in
// (5.10 to 7.2): a witness of bounces that shares nothing with xentrace.
const copyProbe = "lab_copy"

// countCopies counts them until the test ends.
func countCopies(t *testing.T) {
	t.Helper()
	if !hasKprobeEvents() {
		set(t, filepath.Join(tracing, "set_ftrace_filter"), "skb_copy_header")
		set(t, filepath.Join(tracing, "current_tracer"), "function")
		t.Cleanup(func() { set(t, filepath.Join(tracing, "current_tracer"), "nop") })
		return
	}
	events := filepath.Join(tracing, "kprobe_events")
	enable := filepath.Join(tracing, "events/lab", copyProbe, "enable")
	// Nobody reads the events. Without this the scheduler's code would be patched too,
	// which an emulated machine of two CPUs does not always survive.
	set(t, filepath.Join(tracing, "options/record-cmd"), "0")
	set(t, events, fmt.Sprintf("p:lab/%s skb_copy_header", copyProbe))
	set(t, enable, "1")
	t.Cleanup(func() {
		set(t, enable, "0")
		set(t, events, fmt.Sprintf("-:lab/%s", copyProbe))
	})
}

// copies reads the probe's count; a miss would make it wrong, so there is none.
func copies(t *testing.T) uint64 {
	t.Helper()
	if !hasKprobeEvents() {
		return tracedCalls(t)
	}
	for line := range strings.Lines(readFile(t, filepath.Join(tracing, "kprobe_profile"))) {
		fields := strings.Fields(line)
		if len(fields) != 3 || fields[0] != copyProbe {
			continue
		}
		hits, err := strconv.ParseUint(fields[1], 10, 64)
		if err != nil || fields[2] != "0" {
			t.Fatalf("kprobe_profile: %q: %v", line, err)
		}
		return hits
	}
	t.Fatal("kprobe_profile has no line for the probe")
	return 0
}

// tracedCalls is how many calls the function tracer has written down, those that later
// ones overwrote included.
func tracedCalls(t *testing.T) (n uint64) {
	t.Helper()
	buffers, err := filepath.Glob(filepath.Join(tracing, "per_cpu/cpu*/stats"))
	if err != nil || len(buffers) == 0 {
		t.Fatalf("no buffers of the function tracer: %v", err)
	}
	for _, buffer := range buffers {
		for line := range strings.Lines(readFile(t, buffer)) {
			name, value, _ := strings.Cut(strings.TrimSpace(line), ": ")
			if name != "entries" && name != "overrun" {
				continue
			}
			calls, err := strconv.ParseUint(value, 10, 64)
			if err != nil {
				t.Fatalf("%s: %q: %v", buffer, line, err)
			}
			n += calls
		}
	}
	return n
}

// set writes a file of tracefs, which wants it appended.
func set(t *testing.T, path, value string) {
	t.Helper()
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := file.WriteString(value); err != nil {
		t.Fatalf("%s: %q: %v", path, value, err)
	}
	if err := file.Close(); err != nil {
		t.Fatal(err)
	}
}
