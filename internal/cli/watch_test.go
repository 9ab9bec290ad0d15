package cli

import (
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"xentrace/internal/event"
	"xentrace/internal/trace"
)

func TestWatchJSON(t *testing.T) {
	t.Parallel()
	fake := newFake()
	fake.records = 500
	got := runWith(t, fake, "watch", "-o", "json", "-d", "200ms", "-i", "eth0", "-i", "eth1", "-i", "eth0",
		"--backend", "kprobe", "--ring-size", "512KiB", "--wait")
	if got.status != 0 {
		t.Fatalf("status %d: %v", got.status, got.err)
	}
	lines := strings.Split(strings.TrimSuffix(got.stdout, "\n"), "\n")
	if len(lines) != 501 {
		t.Fatalf("%d lines, want 500 packets and a summary", len(lines))
	}
	for i, line := range lines {
		var object struct {
			Type       string
			TCP        *struct{ Seq uint32 }
			DurationMS int `json:"duration_ms"`
			Events     int
		}
		if err := json.Unmarshal([]byte(line), &object); err != nil {
			t.Fatalf("line %d: %v: %s", i, err, line)
		}
		switch {
		case i < 500 && (object.Type != "packet" || object.TCP != nil && object.TCP.Seq != uint32(3012345678+i)):
			t.Fatalf("line %d is not packet %d: %s", i, i, line)
		case i == 500 && (object.Type != "summary" || object.Events != 500 || object.DurationMS < 200):
			t.Errorf("last line is %s", line)
		}
	}
	o := fake.options
	if !slices.Equal(o.Interfaces, []string{"eth0", "eth1"}) || o.Backend != event.Kprobe || o.RingBytes != 512<<10 || !o.Wait || !o.Records {
		t.Errorf("options are %+v", o)
	}
	if !fake.stopped.Load() || !fake.closed.Load() {
		t.Error("the tracer was left attached")
	}
	if want := "xentrace: watching eth0 (xen-netfront) with backend kprobe; fentry did not attach (-v shows why)\n"; got.stderr != want {
		t.Errorf("stderr is %q", got.stderr)
	}
}

func TestWatchVerboseShowsWhy(t *testing.T) {
	got := runWith(t, newFake(), "watch", "-v", "-d", "10ms")
	for _, part := range []string{"fentry did not attach: xen-netfront: the driver has no BTF\n", "the ring buffer has 4096 KiB\n"} {
		if !strings.Contains(got.stderr, part) {
			t.Errorf("stderr is %q, want %q in it", got.stderr, part)
		}
	}
}

func TestWatchCount(t *testing.T) {
	fake := newFake()
	fake.records = 1 << 30
	got := runWith(t, fake, "watch", "-o", "json", "--count", "7")
	if n := strings.Count(got.stdout, `"type":"packet"`); n != 7 || got.status != 0 {
		t.Errorf("%d packets, status %d", n, got.status)
	}
	if n := strings.Count(got.stdout, `"type":"summary"`); n != 1 {
		t.Errorf("%d summaries", n)
	}
}

func TestWatchExitCode(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		verdict event.Verdict
		records int
		want    int
	}{{event.Dropped, 1, 1}, {event.Dropped, 0, 0}, {event.Linearized, 3, 0}, {event.OverLimit, 3, 0}} {
		fake := newFake()
		fake.verdict, fake.records = c.verdict, c.records
		got := runWith(t, fake, "watch", "-d", "50ms", "--exit-code")
		if got.status != c.want || strings.Count(got.stderr, "\n") != 1 {
			t.Errorf("%d %s: status %d, want %d; stderr %q", c.records, c.verdict, got.status, c.want, got.stderr)
		}
	}
}

// Filters choose what is shown and counted by --count, and what --exit-code acts on.
func TestWatchFilters(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		args    string
		shown   int
		leftOut uint64
		status  int
	}{
		{"", 14, 0, 1},
		{"--port 53", 2, 12, 1},
		{"--port 53 --port 443", 4, 10, 1},
		{"--host 2001:db8::/32", 2, 12, 1},
		{"--host 10.0.0.9 --min-slots 25", 6, 8, 1},
		{"--comm odd", 7, 7, 1},
		{"--pid 1003 --pid 1004", 1, 13, 1},
		{"--cause sg_off", 0, 14, 0},
		{"--cause sg_off --cause too_many_slots --verdict dropped", 14, 0, 1},
		{"--verdict linearized", 0, 14, 0},
		{"--comm odd --count 3", 3, 3, 1},
	} {
		fake := newFake()
		fake.records, fake.owned = 14, true
		args := append([]string{"watch", "-o", "json", "-d", "100ms", "--exit-code"}, strings.Fields(c.args)...)
		got := runWith(t, fake, args...)
		var summary struct {
			LeftOut uint64 `json:"left_out"`
			Filter  []string
		}
		lines := strings.Split(strings.TrimSuffix(got.stdout, "\n"), "\n")
		if err := json.Unmarshal([]byte(lines[len(lines)-1]), &summary); err != nil {
			t.Fatal(err)
		}
		if n := strings.Count(got.stdout, `"type":"packet"`); n != c.shown || summary.LeftOut != c.leftOut || got.status != c.status {
			t.Errorf("%s: %d shown, %d left out, status %d: want %d, %d, %d", c.args, n, summary.LeftOut, got.status, c.shown, c.leftOut, c.status)
		}
		if !strings.Contains(c.args, strings.Join(summary.Filter, " ")) {
			t.Errorf("filter %q, want %q", summary.Filter, c.args)
		}
	}
}

func TestWatchDropsElsewhere(t *testing.T) {
	for _, c := range []struct {
		args  []string
		drops event.Drops
		hook  trace.DropsHook
		said  bool
	}{
		{nil, event.DropsDriver, trace.DropsTracepoint, false},
		{[]string{"--drops", "driver"}, event.DropsDriver, trace.DropsTracepoint, false},
		{[]string{"--drops=all"}, event.DropsAll, trace.DropsTracepoint, true},
		{[]string{"--drops", "all", "--drops-hook", "kprobe"}, event.DropsAll, trace.DropsKprobe, true},
	} {
		fake := newFake()
		got := runWith(t, fake, append([]string{"watch", "--count", "1"}, c.args...)...)
		if got.status != 0 || fake.options.Drops != c.drops || fake.options.DropsHook != c.hook {
			t.Errorf("%v: status %d, drops %q by %q, want %q by %q", c.args, got.status, fake.options.Drops, fake.options.DropsHook, c.drops, c.hook)
		}
		if said := strings.Contains(got.stderr, "; drops elsewhere by "+string(c.hook)); said != c.said {
			t.Errorf("%v: standard error %q", c.args, got.stderr)
		}
	}
}

func TestHist(t *testing.T) {
	t.Parallel()
	fake := newFake()
	began := time.Now()
	got := runWith(t, fake, "hist", "-d", "100ms")
	if took := time.Since(began); took < 100*time.Millisecond || got.status != 0 {
		t.Errorf("took %v, status %d", took, got.status)
	}
	if fake.options.Records {
		t.Error("records were asked for")
	}
	for _, part := range []string{"slots  packets    share", "--- limit: 18 slots ---", "1,000 packets seen, 0 events, 0 lost"} {
		if !strings.Contains(got.stdout, part) {
			t.Errorf("no %q in\n%s", part, got.stdout)
		}
	}
}

func TestReadFailureIsReportedAfterTheSummary(t *testing.T) {
	fake := newFake()
	fake.readErr = errors.New("ring: torn record")
	got := runWith(t, fake, "watch", "-o", "json")
	if got.status != 4 || !strings.Contains(got.stderr, "xentrace: ring: torn record\n") {
		t.Errorf("status %d, stderr %q", got.status, got.stderr)
	}
	if !strings.Contains(got.stdout, `"type":"summary"`) || !fake.closed.Load() {
		t.Errorf("no summary, or left attached: %s", got.stdout)
	}
}

// With -v it says how to released a driver that it keeps from being unloaded.
func TestHeldDriverIsSaid(t *testing.T) {
	const says = "module cannot be unloaded"
	for _, holds := range []bool{false, true} {
		f := newFake()
		f.choice.HoldsDriver = holds
		if got := runWith(t, f, "watch", "-v", "-d", "10ms"); strings.Contains(got.stderr, says) != holds {
			t.Errorf("a driver that is held: %v; standard error %q", holds, got.stderr)
		}
		if got := runWith(t, f, "watch", "-d", "10ms"); strings.Contains(got.stderr, says) {
			t.Errorf("without -v: standard error %q", got.stderr)
		}
	}
}

// watch has numbers of flows in its summary, hist has none and says why.
func TestSummariesTellOfFlows(t *testing.T) {
	for _, command := range []string{"watch", "hist"} {
		got := runWith(t, newFake(), command, "-o", "json", "-d", "50ms")
		lines := strings.Split(strings.TrimSpace(got.stdout), "\n")
		var summary struct {
			FlowsStalled *uint64 `json:"flows_stalled"`
			Lost         struct{ Flows *uint64 }
			Missing      map[string]string
		}
		if err := json.Unmarshal([]byte(lines[len(lines)-1]), &summary); err != nil {
			t.Fatalf("%v: %s", err, got.stdout)
		}
		known := summary.FlowsStalled != nil && *summary.FlowsStalled == 0 && summary.Lost.Flows != nil && *summary.Lost.Flows == 0
		if known != (command == "watch") || (summary.Missing["flows"] == "") != (command == "watch") {
			t.Errorf("%s: %s", command, lines[len(lines)-1])
		}
	}
}
