package cli

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"xentrace/internal/congestion"
	"xentrace/internal/event"
	"xentrace/internal/exporter/feed"
	"xentrace/internal/kernel"
)

// A fakeExporter notes what it is given.
type fakeExporter struct {
	options  feed.Options
	source   feed.Source
	attach   error         // of Attached
	attached func()        // called by Attached; may be nil
	meter    fakeMeter     // of --congestion
	failed   chan struct{} // of Failed
	failure  error         // of Close

	mu      sync.Mutex
	started bool
	closed  bool
	notices []event.NoticeID
	events  []string
}

func (f *fakeExporter) Addresses() []string     { return f.options.Listen }
func (f *fakeExporter) Start()                  { f.started = true }
func (f *fakeExporter) Failed() <-chan struct{} { return f.failed }

func (f *fakeExporter) Attached(_ context.Context, source feed.Source) error {
	f.source = source
	if f.attached != nil {
		f.attached()
	}
	return f.attach
}

func (f *fakeExporter) Emit(e event.Event) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if n, isNotice := e.(*event.Notice); isNotice {
		f.notices = append(f.notices, n.ID)
	} else {
		f.events = append(f.events, e.Type())
	}
	return nil
}

func (f *fakeExporter) Close() error {
	f.closed = true
	return f.failure
}

// exportWith runs xentrace-exporter on a fake tracer until it is attached, unless the fake
// fails before.
func exportWith(t *testing.T, tracer *fakeTracer, exporter *fakeExporter, args ...string) result {
	t.Helper()
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	if exporter.failed == nil {
		exporter.attached = stop
	}
	var stdout, stderr bytes.Buffer
	err := RunExporter(ctx, args, System{
		Stdout: &stdout, Stderr: &stderr, Getenv: func(string) string { return "" }, Machine: fakeMachine, Start: tracer.start,
		Export: func(_ context.Context, o feed.Options) (Exporter, error) {
			exporter.options = o
			return exporter, nil
		},
		Measure: func(_ context.Context, o congestion.Options) (Meter, error) {
			exporter.meter.options = o
			return &exporter.meter, nil
		},
	})
	Report(&stderr, err)
	return result{stdout.String(), stderr.String(), Status(err), err}
}

func TestExporterServesUntilTheEnd(t *testing.T) {
	tracer, exporter := newFake(), &fakeExporter{}
	tracer.waits = true
	got := exportWith(t, tracer, exporter, "--drops", "all", "--rejected", "--web.listen-address", ":1", "--web.listen-address", "[::1]:2")
	if got.status != 0 || !strings.Contains(got.stderr, "xentrace: listening on :1, [::1]:2\n") || !strings.Contains(got.stderr, "watching eth0") {
		t.Errorf("status %d: %s", got.status, got.stderr)
	}
	o, e := tracer.options, exporter.options
	if !o.Wait || !o.Serves || !o.Records || o.Rate != 1000 || !o.Rejected || o.Drops != event.DropsAll {
		t.Errorf("traced with %+v", o)
	}
	if e.Drops != event.DropsAll || !e.Rejected || e.Recording || e.Congestion {
		t.Errorf("served with %+v", e)
	}
	if !exporter.started || !exporter.closed || !tracer.closed.Load() {
		t.Errorf("started %v, closed %v, tracer closed %v", exporter.started, exporter.closed, tracer.closed.Load())
	}
	if len(exporter.notices) != 1 || exporter.notices[0] != event.NoticeWaiting {
		t.Errorf("notices %v", exporter.notices)
	}
	totals, err := exporter.source.Totals(t.Context())
	if hooks, _ := exporter.source.Hooks(); err != nil || len(totals.Interfaces) != 1 || hooks != 2 || exporter.source.Flows == nil {
		t.Errorf("source %+v, %v", exporter.source, err)
	}
	if len(exporter.events) == 0 || exporter.events[len(exporter.events)-1] != "summary" {
		t.Errorf("events %v", exporter.events)
	}
}

// Brackets are allowed around an address of IPv4 too: a manifest has them around either.
func TestExporterAddresses(t *testing.T) {
	for _, address := range []string{"127.0.0.1:10118", "[127.0.0.1]:0", "[::1]:10118", ":10118", "localhost:http", "[fe80::1%eth0]:1"} {
		if got, err := parseAddress(address); err != nil || got != address {
			t.Errorf("%s: %q, %v", address, got, err)
		}
	}
	for _, address := range []string{"", "127.0.0.1", "::1:10118", "x:-1", "x:65536"} {
		if _, err := parseAddress(address); err == nil {
			t.Errorf("%s is accepted", address)
		}
	}
}

func TestExporterDefaults(t *testing.T) {
	tracer, exporter := newFake(), &fakeExporter{}
	if got := exportWith(t, tracer, exporter, "--wait=false"); got.status != 0 || tracer.options.Wait {
		t.Errorf("status %d, waits %v: %s", got.status, tracer.options.Wait, got.stderr)
	}
	if got := strings.Join(exporter.options.Listen, " "); got != "127.0.0.1:10118" {
		t.Errorf("listens on %q", got)
	}
}

// An interface that is named and not there yet is no obstacle to what is known of the others.
func TestExporterOfAnInterfaceThatIsNotThere(t *testing.T) {
	exporter := &fakeExporter{}
	got := exportWith(t, newFake(), exporter, "-i", "eth0", "-i", "eth1", "--congestion")
	if got.status != 0 || strings.Contains(got.stderr, "missing") || len(exporter.source.Findings) == 0 {
		t.Errorf("status %d, %d findings: %s", got.status, len(exporter.source.Findings), got.stderr)
	}
	if again, err := exporter.source.Check(t.Context()); err != nil || len(again) != len(exporter.source.Findings) {
		t.Errorf("%d findings later, %v; %d at first", len(again), err, len(exporter.source.Findings))
	}
	if !exporter.meter.options.Wait || exporter.source.Congestion == nil {
		t.Errorf("measured with %+v", exporter.meter.options)
	}
}

// An interface that cannot be measured is reported; what the tracer reports too is not.
func TestExporterReportsWhatIsNotMeasured(t *testing.T) {
	exporter := &fakeExporter{}
	if got := exportWith(t, newFake(), exporter, "--congestion"); got.status != 0 {
		t.Fatal(got.stderr)
	}
	for _, id := range []event.NoticeID{event.NoticeInterfaceAdded, event.NoticeInterfaceFailed} {
		exporter.meter.options.Notify(event.Notice{ID: id})
	}
	if !slices.Equal(exporter.notices, []event.NoticeID{event.NoticeInterfaceFailed}) {
		t.Errorf("notices %v", exporter.notices)
	}
}

// A server that fails ends the run, and its error is reported once.
func TestExporterThatFails(t *testing.T) {
	for name, test := range map[string]struct {
		exporter *fakeExporter
		tracer   func(*fakeTracer)
		status   int
		want     string
	}{
		"server":        {&fakeExporter{failed: closedChannel(), failure: errors.New("HTTP server: no")}, nil, 4, "xentrace: HTTP server: no\n"},
		"web config":    {&fakeExporter{attach: errors.New("web config x: denied")}, nil, 3, "xentrace: cannot run here: web config x: denied\n"},
		"no attachment": {&fakeExporter{}, func(f *fakeTracer) { f.err = errors.New("no BTF") }, 4, "xentrace: no BTF\n"},
	} {
		t.Run(name, func(t *testing.T) {
			tracer := newFake()
			if test.tracer != nil {
				test.tracer(tracer)
			}
			got := exportWith(t, tracer, test.exporter)
			if got.status != test.status || !strings.HasSuffix(got.stderr, "\n"+test.want) && got.stderr != test.want {
				t.Errorf("status %d, want %d: %q, want %q", got.status, test.status, got.stderr, test.want)
			}
			if !test.exporter.closed {
				t.Error("not closed")
			}
		})
	}
}

func closedChannel() chan struct{} {
	c := make(chan struct{})
	close(c)
	return c
}

func TestExporterUsageErrors(t *testing.T) {
	large := filepath.Join(t.TempDir(), "web.yml")
	if err := errors.Join(os.WriteFile(large, nil, 0o600), os.Truncate(large, maxWebConfig+1)); err != nil {
		t.Fatal(err)
	}
	for args, want := range map[string]string{
		"eth0":                        `unexpected argument "eth0"; see xentrace-exporter --help`,
		"--frob":                      "unknown flag: --frob; see xentrace-exporter --help",
		"--web.listen-address 10118":  "not an address such as 127.0.0.1:10118 or :10118",
		"--web.listen-address :65536": "port: not a number from 0 to 65535",
		"--web.listen-address :99999999999999999999":   "port: not a number from 0 to 65535",
		"--web.config.file /dev/zero":                  "--web.config.file /dev/zero: not a regular file",
		"--web.config.file " + large:                   "--web.config.file " + large + ": over 1 MiB",
		"--web.systemd-socket --web.listen-address :1": "exclude each other",
		"--record x --max-size 1":                      "must be at least 1MiB",
	} {
		if got := exportWith(t, newFake(), &fakeExporter{}, strings.Fields(args)...); got.status != 2 || !strings.Contains(got.stderr, want) {
			t.Errorf("%s: status %d, %q, want %q", args, got.status, got.stderr, want)
		}
	}
}

// The user of a recording is the one who makes its directory.
func TestExporterUser(t *testing.T) {
	o := &exporterOptions{tracing: commandLine().newTracing()}
	if o.user != kernel.Nobody {
		t.Errorf("user %+v, want %+v", o.user, kernel.Nobody)
	}
	directory := t.TempDir() + "/recording"
	exporter := &fakeExporter{}
	if got := exportWith(t, newFake(), exporter, "--record", directory); got.status != 0 || !exporter.options.Recording {
		t.Errorf("status %d, %s", got.status, got.stderr)
	}
}

func TestExporterHelp(t *testing.T) {
	help := exportWith(t, newFake(), &fakeExporter{}, "--help").stdout
	if n := strings.Count(help, "\n"); n > helpRows {
		t.Errorf("help has %d rows", n)
	}
	for line := range strings.Lines(help) {
		if len(line) > helpWidth+1 {
			t.Errorf("%q is too wide", line)
		}
	}
	if found := privateWords(t, help); len(found) > 0 {
		t.Errorf("help has %q", found)
	}
	for command, want := range map[string]string{"man": ".SH OPTIONS", "completion bash": "__start_xentrace-exporter", "version": "xentrace ", "--version": "xentrace "} {
		if got := exportWith(t, newFake(), &fakeExporter{}, strings.Fields(command)...); got.status != 0 || !strings.Contains(got.stdout, want) {
			t.Errorf("%s: status %d, no %q in %q", command, got.status, want, got.stdout)
		}
	}
}

// An error is one line, that of YAML too.
func TestErrorsAreOneLine(t *testing.T) {
	var out bytes.Buffer
	Report(&out, errors.New("web config x: yaml: unmarshal errors:\n  line 1: field y not found\nand z"))
	if want := "xentrace: web config x: yaml: unmarshal errors: line 1: field y not found; and z\n"; out.String() != want {
		t.Errorf("%q, want %q", out.String(), want)
	}
}
