package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

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
		"no baseline":         {"congestion --baseline /nonexistent/x", []string{"congestion: baseline /nonexistent/x: no such file"}},
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
		"path":         {ofPath(fmt.Errorf("x: %w", syscall.EACCES)), 2},
		"descriptors":  {ofPath(fmt.Errorf("x: %w", syscall.EMFILE)), 3},
		"no memory":    {ofPath(fmt.Errorf("x: %w", syscall.ENOMEM)), 4},
		"joined":       {errors.Join(errors.New("x"), trace.ErrCannotRun), 3},
		"file is full": {fmt.Errorf("cannot write to stdout: %w", io.ErrShortWrite), 4},
	} {
		if got := Status(c.err); got != c.want {
			t.Errorf("%s: status %d, want %d", name, got, c.want)
		}
	}
}

// An interrupt ends a command that waits for a file, and is no error.
func TestInterruptWhileReadingAFile(t *testing.T) {
	pipe := filepath.Join(t.TempDir(), "pipe")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	page := filepath.Join(t.TempDir(), "page.html")
	for _, line := range []string{
		"replay " + pipe, "replay /dev/zero", "replay --count 1 " + pipe, "report " + pipe + " -w " + page,
		"report /dev/zero -w " + page, "compare " + pipe + " " + pipe, "compare /dev/zero /dev/zero -o json", "congestion --baseline " + pipe,
	} {
		ctx, interrupt := context.WithCancel(t.Context())
		timer := time.AfterFunc(30*time.Millisecond, interrupt)
		var stderr bytes.Buffer
		err := Run(ctx, strings.Fields(line), System{Stdout: io.Discard, Stderr: &stderr, Getenv: os.Getenv})
		timer.Stop()
		interrupt()
		if Status(err) > 1 || strings.Contains(stderr.String(), "context") { // 1: /dev/zero is damaged
			t.Errorf("%s: status %d, error %v, stderr %q", line, Status(err), err, stderr.String())
		}
	}
	if end, err := os.OpenFile(pipe, os.O_RDWR|syscall.O_NONBLOCK, 0); err == nil { // releases whoever still opens it
		end.Close()
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
