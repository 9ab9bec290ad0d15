package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/spf13/cobra"

	"xentrace/internal/event"
	"xentrace/internal/trace"
	"xentrace/test/schema"
)

// A result is what one command line brought.
type result struct {
	stdout, stderr string
	status         int
	err            error
}

func runWith(t *testing.T, fake *fakeTracer, args ...string) result {
	t.Helper()
	var stdout, stderr bytes.Buffer
	system := System{Stdout: &stdout, Stderr: &stderr, Getenv: func(string) string { return "" }, Machine: fakeMachine}
	if fake != nil {
		system.Start = fake.start
	}
	err := Run(t.Context(), args, system)
	Report(&stderr, err)
	if strings.Contains(strings.Join(args, " "), "-o json") {
		schema.Check(t, stdout.String())
	}
	return result{stdout.String(), stderr.String(), Status(err), err}
}

func manyInterfaces(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, " -i eth%d", i)
	}
	return b.String()
}

func TestSixtyFourInterfacesAreAccepted(t *testing.T) {
	fake := newFake()
	if got := runWith(t, fake, strings.Fields("hist -d 1ms -i eth0"+manyInterfaces(64))...); got.status != 0 || len(fake.options.Interfaces) != 64 {
		t.Errorf("status %d, %d interfaces: %s", got.status, len(fake.options.Interfaces), got.stderr)
	}
}

func TestUsageErrors(t *testing.T) {
	for name, c := range map[string]struct {
		args string
		want []string // parts of the one line on standard error
	}{
		"no command":          {"", []string{"xentrace: missing argument COMMAND: one of check, compare, completion", "; see xentrace help\n"}},
		"unknown command":     {"frobnicate", []string{`command "frobnicate": unknown`, "watch"}},
		"mistyped command":    {"wacth", []string{"did you mean watch?"}},
		"another command":     {"top", []string{`command "top": unknown`}},
		"flag of no command":  {"-i eth0", []string{"xentrace: unknown shorthand flag: 'i' in -i; see xentrace help\n"}},
		"odd switch":          {"watch -v=maybe", []string{`"maybe"`, "--verbose", "not true or false"}},
		"unknown flag":        {"watch --frob", []string{"watch: unknown flag: --frob", "xentrace help watch"}},
		"stray argument":      {"hist eth0", []string{`unexpected argument "eth0"`}},
		"interface alone":     {"watch eth0", []string{`watch: filter expression: "eth0" at column 1: unknown word`, "-i"}},
		"odd expression":      {"watch -i eth0 tcp port http", []string{`watch: filter expression: "http" at column 10: names are not looked up`, "see xentrace help watch"}},
		"expression of hist":  {"hist tcp port 80", []string{`unexpected argument "tcp"`}},
		"capture of hist":     {"hist -o pcapng", []string{`"pcapng"`, "--output", "not one of text, json"}},
		"a screen of packets": {"watch --live -o pcapng", []string{"watch: --live and -o pcapng exclude each other"}},
		"two arguments":       {"man watch hist", []string{`unexpected argument "hist"`}},
		"argument missing":    {"completion", []string{"completion: missing argument SHELL: one of bash, zsh, fish, powershell; see xentrace help completion\n"}},
		"unknown shell":       {"completion tcsh", []string{`shell "tcsh": not one of bash, zsh, fish, powershell`}},
		"unknown format":      {"watch -o xml", []string{`"xml"`, "--output", "not one of text, json, pcapng"}},
		"unknown backend":     {"watch --backend ebpf", []string{`"ebpf"`, "not one of auto, fentry, kprobe, tracepoint"}},
		"unknown colour":      {"watch --color maybe", []string{`"maybe"`, "not one of auto, always, never"}},
		"negative duration":   {"hist -d -5s", []string{`"-5s"`, "--duration", "must be >= 0"}},
		"no duration":         {"hist -d soon", []string{`"soon"`, "not a duration"}},
		"no address":          {"watch --host example.org", []string{`"example.org"`, "--host", "not an address such as 10.0.0.1"}},
		"no port":             {"watch --port http", []string{`"http"`, "--port", "a number from 1 to 65535"}},
		"no process":          {"watch --pid nginx", []string{`"nginx"`, "--pid", "not a process"}},
		"too long a name":     {"watch --comm sixteen-letters-", []string{`"sixteen-letters-"`, "--comm", "1 to 15 bytes"}},
		"unknown cause":       {"watch --cause rocket", []string{`"rocket"`, "--cause", "not one of no_queues, device_broken, too_big, too_many_slots"}},
		"unknown verdict":     {"watch --verdict sent", []string{`"sent"`, "--verdict", "not one of dropped, linearized, bounced, over_limit, rejected"}},
		"no slots":            {"watch --min-slots 0", []string{`"0"`, "--min-slots", "not a number from 1 to 255"}},
		"filter elsewhere":    {"hist --port 80", []string{"hist: unknown flag: --port"}},
		"no count":            {"watch --count 0", []string{`"0"`, "--count", "must be >= 1"}},
		"odd ring":            {"watch --ring-size 3MiB", []string{`"3MiB"`, "--ring-size", "not a power of two"}},
		"small ring":          {"watch --ring-size 1KiB", []string{"less than a page"}},
		"huge ring":           {"watch --ring-size 2048MiB", []string{"not between one page and 1024MiB"}},
		"ring of words":       {"watch --ring-size big", []string{"not a size such as"}},
		"ring flag elsewhere": {"hist --ring-size 4MiB", []string{"unknown flag: --ring-size"}},
		"unknown drops":       {"watch --drops some", []string{`"some"`, "--drops", "not one of driver, all"}},
		"unknown drops hook":  {"watch --drops all --drops-hook magic", []string{`"magic"`, "--drops-hook", "not one of tracepoint, kprobe"}},
		"hook for no drops":   {"watch --drops-hook kprobe", []string{"--drops-hook: needs --drops all"}},
		"drops of hist":       {"hist --drops all", []string{"unknown flag: --drops"}},
		"a screen of JSON":    {"watch --live -o json", []string{"watch: --live and -o json exclude each other"}},
		"a screen of hist":    {"hist --live", []string{"unknown flag: --live"}},
		"no name":             {"watch --interface=", []string{"empty name"}},
		"no directory":        {"watch --ready-file /nonexistent/ready", []string{"ready file /nonexistent/ready", "no such file or directory"}},
		"directory":           {"watch --ready-file /", []string{"ready file / exists"}},
		"file and interface":  {"check --driver-file /x -i eth0", []string{"--driver-file checks only that file"}},
		"file and ec2rl":      {"check --driver-file /x --ec2rl", []string{"--driver-file checks only that file"}},
		"no driver file":      {"check --driver-file /nonexistent/x.ko", []string{"driver file /nonexistent/x.ko: no such file or directory"}},
		"no driver at all":    {"check --driver-file=", []string{"empty path"}},
		"directory of driver": {"check --driver-file /", []string{"driver file /: not a regular file"}},
		"no observation":      {"check --observe 0s", []string{`"0s"`, "--observe", "must be > 0"}},
		"ready for nothing":   {"check --ready-file /x", []string{"--ready-file needs --observe"}},
		"odd observation":     {"check --observe long", []string{"not a duration"}},
		"check elsewhere":     {"check eth0", []string{`unexpected argument "eth0"`}},
		"command behind --":   {"-- watch", []string{`argument "--": not allowed before the command; run xentrace watch; see xentrace help`}},
		"help of no command":  {"nosuch -h", []string{`command "nosuch": unknown`}},
		"no command's help":   {"-h nosuch", []string{`command "nosuch": unknown`}},
		"help of junk":        {"help -h junk", []string{`command "junk": unknown`}},
		"man of junk":         {"man junk", []string{`command "junk": unknown`}},
		"man help of junk":    {"man -h junk", []string{`command "junk": unknown`}},
		"shell help of junk":  {"completion -h junk", []string{`shell "junk": not one of bash`}},
		"junk behind help":    {"watch -h junk", []string{`watch: filter expression: "junk" at column 1: unknown word`, "; see xentrace help watch\n"}},
		"junk before help":    {"hist junk --help", []string{`hist: unexpected argument "junk"; see xentrace help hist`}},
		"version of junk":     {"--version nosuch", []string{`command "nosuch": unknown`}},
		"odd help":            {"--help=maybe", []string{`invalid argument "maybe" for "-h, --help" flag: not true or false; see xentrace help` + "\n"}},
		"odd help of command": {"watch --help=maybe", []string{`not true or false; see xentrace help watch`}},
		"odd version":         {"--version=maybe", []string{`not true or false; see xentrace help`}},
		"long duration":       {"watch -d 99999999999h", []string{"too long; the limit is 2562047h (292 years)"}},
		"large count":         {"watch --count 99999999999999999999", []string{"too large; the limit is 9223372036854775807"}},
		"very negative count": {"watch --count -99999999999999999999", []string{"must be >= 1"}},
		"enormous ring":       {"watch --ring-size 99999999999999999999", []string{"not between one page and 1024MiB"}},
		"both families":       {"probe -4 -6", []string{"probe: --ipv4 and --ipv6 exclude each other"}},
		"two to probe":        {"probe -i a -i b", []string{"probe: --interface: only one can be probed at a time"}},
		"apply and revert":    {"fix --apply --revert", []string{"fix: --apply and --revert exclude each other"}},
		"no baseline":         {"congestion --baseline /nonexistent/x", []string{"congestion: baseline: open /nonexistent/x: no such file"}},
		"too many interfaces": {"hist" + manyInterfaces(65), []string{`invalid argument "eth64"`, "more than 64 interfaces"}},
		"rejected unheard of": {"watch --verdict rejected", []string{"watch: --verdict rejected: needs --rejected"}},
		"escape":              {"wa\x1b[31m", []string{`"wa\x1b[31m"`}},
	} {
		t.Run(name, func(t *testing.T) {
			fake := newFake()
			got := runWith(t, fake, strings.Fields(c.args)...)
			if got.status != 2 || got.stdout != "" {
				t.Errorf("status %d, stdout %q", got.status, got.stdout)
			}
			if strings.Count(got.stderr, "\n") != 1 || !strings.HasPrefix(got.stderr, "xentrace: ") {
				t.Errorf("not one line: %q", got.stderr)
			}
			for _, part := range append(c.want, "; see xentrace help") {
				if !strings.Contains(got.stderr, part) {
					t.Errorf("got %q, want %q in it", got.stderr, part)
				}
			}
			if !fake.began.IsZero() {
				t.Error("it attached all the same")
			}
		})
	}
}

func TestStatus(t *testing.T) {
	_, closed, _ := os.Pipe()
	closed.Close()
	for name, c := range map[string]struct {
		err  error
		want int
	}{
		"none":         {nil, 0},
		"finding":      {errFinding, 1},
		"usage":        {fmt.Errorf("x: %w", usageError{errors.New("y")}), 2},
		"cannot run":   {fmt.Errorf("btf: %w", trace.ErrCannotRun), 3},
		"anything":     {errors.New("x"), 4},
		"joined":       {errors.Join(errors.New("x"), trace.ErrCannotRun), 3},
		"file is full": {fmt.Errorf("cannot write to stdout: %w", io.ErrShortWrite), 4},
	} {
		if got := Status(c.err); got != c.want {
			t.Errorf("%s: status %d, want %d", name, got, c.want)
		}
	}
}

func TestWatchJSON(t *testing.T) {
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

func TestWatchVerboseTellsWhy(t *testing.T) {
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

func TestDurationDefaults(t *testing.T) {
	for name, want := range map[string]string{"watch": "", "hist": "10s", "probe": ""} {
		c, err := findCommand(commandLine().root(), name)
		if err != nil {
			t.Fatal(err)
		}
		if got := c.Flag("duration").DefValue; got != want {
			t.Errorf("%s runs for %q, want %q", name, got, want)
		}
	}
}

func TestCannotRun(t *testing.T) {
	fake := newFake()
	fake.err = fmt.Errorf("no xen-netfront interface found: %w", trace.ErrCannotRun)
	got := runWith(t, fake, "watch")
	if got.status != 3 || got.stdout != "" || strings.Count(got.stderr, "\n") != 1 {
		t.Errorf("got %+v", got)
	}
}

func TestReadFailureIsToldAfterTheSummary(t *testing.T) {
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

func TestReadyFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ready")
	fake := newFake()
	stale := errors.New("nothing was started")
	fake.before = func() { _, stale = os.Stat(path) }
	if got := runWith(t, fake, "watch", "-d", "10ms", "--ready-file", path); got.status != 0 {
		t.Fatal(got.err)
	}
	if !errors.Is(stale, os.ErrNotExist) {
		t.Errorf("there was a ready file before the hooks were attached, or none was looked for: %v", stale)
	}
	if text, err := os.ReadFile(path); err != nil || string(text) != fmt.Sprintln(os.Getpid()) {
		t.Errorf("ready file holds %q (%v)", text, err)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	fake = newFake()
	fake.err = errors.New("no")
	if got := runWith(t, fake, "watch", "--ready-file", path); got.status != 4 {
		t.Errorf("status %d", got.status)
	}
	if left, _ := os.ReadDir(filepath.Dir(path)); len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
}

// A file that exists is neither overwritten nor removed, whenever it appeared and whether
// xentrace starts or not.
func TestReadyFileThatExists(t *testing.T) {
	for name, test := range map[string]struct {
		make   func(path string) error
		before bool // xentrace starts
		status int
	}{
		"file":                {func(path string) error { return os.WriteFile(path, []byte("mine"), 0o644) }, true, 2},
		"link to nowhere":     {func(path string) error { return os.Symlink("/nonexistent", path) }, true, 2},
		"directory":           {func(path string) error { return os.Mkdir(path, 0o755) }, true, 2},
		"file made meanwhile": {func(path string) error { return os.WriteFile(path, []byte("mine"), 0o644) }, false, 4},
		"link made meanwhile": {func(path string) error { return os.Symlink("/nonexistent", path) }, false, 4},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "ready")
			fake := newFake()
			var made error
			if test.before {
				made = test.make(path)
				fake.err = errors.New("no")
			} else {
				fake.before = func() { made = test.make(path) }
			}
			got := runWith(t, fake, "watch", "-d", "10ms", "--ready-file", path)
			if made != nil {
				t.Fatal(made)
			}
			if got.status != test.status || !strings.Contains(got.stderr, "ready file "+path+" exists") {
				t.Errorf("status %d, stderr %q", got.status, got.stderr)
			}
			if info, err := os.Lstat(path); err != nil || info.Mode().IsRegular() && info.Size() != int64(len("mine")) {
				t.Errorf("the file is gone or overwritten: %v, %v", info, err)
			}
			if left, _ := os.ReadDir(filepath.Dir(path)); len(left) != 1 {
				t.Errorf("left behind: %v", left)
			}
		})
	}
}

// The disk is found full while records are still written, or only at the end.
func TestFullDiskIsAFailure(t *testing.T) {
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer full.Close()
	for _, records := range []int{0, 1, 3, 100_000} {
		fake := newFake()
		fake.records = records
		err = Run(context.Background(), []string{"watch", "-o", "json", "-d", "10ms"},
			System{Stdout: full, Stderr: io.Discard, Getenv: os.Getenv, Start: fake.start})
		if Status(err) != 4 || !strings.Contains(err.Error(), "cannot write to stdout: no space left on device") {
			t.Errorf("%d records: got %v", records, err)
		}
		if !fake.closed.Load() {
			t.Errorf("%d records: the tracer was left attached", records)
		}
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

// The error of a write reads the same by every command.
func TestFullDiskIsOneSentence(t *testing.T) {
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer full.Close()
	for _, args := range []string{"help", "watch -h", "version", "--version", "man", "completion bash", "completion zsh", "check", "watch -d 1ms", "watch -o json -d 1ms", "hist -d 1ms"} {
		var stderr bytes.Buffer
		err := Run(t.Context(), strings.Fields(args), System{
			Stdout: full, Stderr: io.Discard, Getenv: os.Getenv, Machine: fakeMachine, Start: newFake().start,
		})
		Report(&stderr, err)
		if want := "xentrace: cannot write to stdout: no space left on device\n"; Status(err) != 4 || stderr.String() != want {
			t.Errorf("%s: status %d, %q", args, Status(err), stderr.String())
		}
	}
}

func TestCompletionOfNothingIsOfAnEmptyWord(t *testing.T) {
	for _, request := range []string{"__complete", "__completeNoDesc"} {
		if got, want := runWith(t, nil, request), runWith(t, nil, request, ""); got.status != 0 || got.stdout != want.stdout || !strings.Contains(got.stdout, "watch") {
			t.Errorf("%s: status %d, %q", request, got.status, got.stdout)
		}
	}
}

// --duration bounds the wait for an interface, and what is left of it the run.
func TestDurationBoundsTheWait(t *testing.T) {
	for _, command := range []string{"watch", "hist"} {
		fake := newFake()
		fake.waits, fake.startup = true, time.Hour
		got := runWith(t, fake, command, "--wait", "-d", "50ms", "-o", "json")
		if got.status != 3 || !strings.HasSuffix(got.stderr, "xentrace: cannot run here: no interface appeared within --duration 50ms\n") {
			t.Errorf("%s: status %d, stderr %q", command, got.status, got.stderr)
		}
		if strings.Count(got.stdout, "\n") != 1 || !strings.HasPrefix(got.stdout, `{"type":"summary"`) || !strings.Contains(got.stdout, `"recursion":"nothing was attached"`) {
			t.Errorf("%s: stdout %q", command, got.stdout)
		}
	}
	fake := newFake()
	fake.waits, fake.startup = true, 100*time.Millisecond
	got := runWith(t, fake, "watch", "--wait", "-d", "10m100ms", "--count", "3")
	if got.status != 0 || !fake.closed.Load() {
		t.Errorf("it appeared: status %d, stderr %q", got.status, got.stderr)
	}
	w := wait{limit: time.Minute, began: time.Now().Add(-40 * time.Second)}
	if left := w.rest(time.Minute); left > 20*time.Second || left < time.Second {
		t.Errorf("40 s of a minute waited, and %v are left", left)
	}
	for _, w := range []wait{{limit: time.Minute}, {began: time.Now().Add(-time.Hour)}} {
		if left := w.rest(time.Minute); left != time.Minute {
			t.Errorf("%v are left, want all", left)
		}
	}
}

// The time that hist and congestion take unless told otherwise does not bound a wait.
func TestDefaultDurationDoesNotBoundTheWait(t *testing.T) {
	var bounds []time.Duration
	for _, args := range []string{"", "-d 10s"} {
		o := commandLine().newTracing()
		o.duration = histDuration
		c := &cobra.Command{}
		o.flags(c)
		if err := c.ParseFlags(strings.Fields(args)); err != nil {
			t.Fatal(err)
		}
		bounds = append(bounds, o.limit)
	}
	if bounds[0] != 0 || bounds[1] != 10*time.Second {
		t.Errorf("bounds %v, want none and 10s", bounds)
	}
}
