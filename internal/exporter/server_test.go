package exporter

import (
	"context"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"xentrace/internal/event"
	"xentrace/internal/exporter/feed"
)

// open opens an exporter on a port of its own; settings are its environment.
func open(t *testing.T, o feed.Options, settings map[string]string) *Exporter {
	t.Helper()
	o.Listen = []string{"127.0.0.1:0"}
	e, err := Open(t.Context(), o, func(name string) string { return settings[name] })
	if err != nil {
		t.Fatal(err)
	}
	e.server.process.age = 0
	t.Cleanup(func() {
		if err := e.Close(); err != nil {
			t.Error(err)
		}
	})
	return e
}

func get(t *testing.T, e *Exporter, path string, header ...string) (status int, body string) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+e.Addresses()[0]+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(header); i += 2 {
		request.Header.Set(header[i], header[i+1])
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response.StatusCode, string(text)
}

func TestEndpoints(t *testing.T) {
	e := open(t, feed.Options{Version: "1.0"}, nil)
	e.Start()
	expect := func(path string, status int, has string) {
		t.Helper()
		if got, body := get(t, e, path); got != status || !strings.Contains(body, has) {
			t.Errorf("%s: %d, want %d; %q has no %q", path, got, status, body, has)
		}
	}
	expect("/-/healthy", 200, "healthy")
	expect("/-/ready", 503, "not ready")
	expect("/metrics", 200, "\nxentrace_attached 0\n")
	expect("/", 200, `href="/metrics"`)
	expect("/no", 404, "")
	expect("/debug/pprof/", 404, "")
	m := &machine{totals: reading(1, life(2, "eth0", 5, false))}
	if err := e.Attached(t.Context(), *m.source()); err != nil {
		t.Fatal(err)
	}
	expect("/-/ready", 200, "ready")
	expect("/metrics", 200, `xentrace_packets_total{device="eth0",netns="7"} 5`)
	expect("/metrics", 200, "\ngo_goroutines ")
	expect("/metrics", 200, "\nprocess_resident_memory_bytes ")
	response, err := http.Post("http://"+e.Addresses()[0]+"/metrics", "text/plain", nil)
	if err != nil {
		t.Fatal(err)
	}
	if response.Body.Close(); response.StatusCode != http.StatusMethodNotAllowed {
		t.Errorf("POST: %d", response.StatusCode)
	}
}

// Native histograms are in the protobuf exposition.
func TestExpositions(t *testing.T) {
	e := open(t, feed.Options{}, nil)
	e.Start()
	if err := e.Attached(t.Context(), *(&machine{totals: reading(1, life(2, "eth0", 5, false))}).source()); err != nil {
		t.Fatal(err)
	}
	for accept, has := range map[string]string{
		"application/openmetrics-text; version=1.0.0":                                                  "# EOF",
		"application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited": "xentrace_slots",
		"text/plain": "# TYPE xentrace_slots histogram",
	} {
		if status, body := get(t, e, "/metrics", "Accept", accept); status != 200 || !strings.Contains(body, has) {
			t.Errorf("%s: %d, no %q", accept, status, has)
		}
	}
}

// Scrapes that do not end are bounded: the next one is refused, and the others succeed as soon as
// counts are read.
func TestTooManyScrapes(t *testing.T) {
	e := open(t, feed.Options{}, nil)
	e.collector.patience = time.Minute
	e.Start()
	m := &machine{totals: reading(1, life(2, "eth0", 5, false))}
	source := *m.source()
	if err := e.Attached(t.Context(), source); err != nil {
		t.Fatal(err)
	}
	begun, proceed := make(chan struct{}, maxScrapes), make(chan struct{})
	source.Hooks = func() (int, int) { begun <- struct{}{}; <-proceed; return 1, 0 }
	e.collector.source.Store(&source)
	statuses := make(chan int, maxScrapes)
	for range maxScrapes {
		go func() {
			status, _ := get(t, e, "/metrics")
			statuses <- status
		}()
	}
	for range maxScrapes {
		<-begun
	}
	if status, _ := get(t, e, "/metrics"); status != http.StatusServiceUnavailable {
		t.Errorf("one more than %d at once: %d, want 503", maxScrapes, status)
	}
	if status, _ := get(t, e, "/-/healthy"); status != 200 {
		t.Errorf("healthy meanwhile: %d", status)
	}
	close(proceed)
	for range maxScrapes {
		if status := <-statuses; status != 200 {
			t.Errorf("a scrape that was slow: %d, want 200", status)
		}
	}
	if _, body := get(t, e, "/metrics"); !strings.Contains(body, `promhttp_metric_handler_requests_total{code="503"} 1`) {
		t.Error("the refused scrape is not counted")
	}
}

// The service manager gets the start, the wait for an interface, the backend and the end, and
// its watchdog is fed.
func TestServiceManager(t *testing.T) {
	path := filepath.Join(t.TempDir(), "notify")
	socket, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer socket.Close()
	e := open(t, feed.Options{}, map[string]string{"NOTIFY_SOCKET": path, "WATCHDOG_USEC": "60000000"})
	seen := make(map[string]bool)
	expect := func(state string) {
		t.Helper()
		buffer := make([]byte, 4096)
		for !seen[state] {
			n, err := socket.Read(buffer)
			if err != nil {
				t.Fatal(err)
			}
			seen[string(buffer[:n])] = true
		}
	}
	e.Start()
	expect("READY=1\nSTATUS=starting")
	expect("WATCHDOG=1")
	_ = e.Emit(&event.Notice{ID: event.NoticeWaiting})
	expect("STATUS=waiting for an interface")
	if err := e.Attached(t.Context(), *(&machine{}).source()); err != nil {
		t.Fatal(err)
	}
	expect("STATUS=attached, backend kprobe")
	if err := e.Close(); err != nil {
		t.Error(err)
	}
	expect("STOPPING=1")
}

// A service manager that does not read, as one that has crashed, delays neither notices nor the
// end.
func TestServiceManagerThatDoesNotRead(t *testing.T) {
	path := filepath.Join(t.TempDir(), "notify")
	socket, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer socket.Close()
	full, err := net.Dial("unixgram", path)
	if err != nil {
		t.Fatal(err)
	}
	defer full.Close()
	for err == nil { // until the socket has no space left
		_ = full.SetWriteDeadline(time.Now().Add(10 * time.Millisecond))
		_, err = full.Write([]byte("WATCHDOG=1"))
	}
	e := open(t, feed.Options{}, map[string]string{"NOTIFY_SOCKET": path, "WATCHDOG_USEC": "60000000"})
	e.Start()
	_ = e.Emit(&event.Notice{ID: event.NoticeWaiting})
	if err := e.Attached(t.Context(), *(&machine{}).source()); err != nil {
		t.Fatal(err)
	}
	if err := e.Close(); err != nil {
		t.Error(err)
	}
}

func TestOpenFails(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	bad := filepath.Join(t.TempDir(), "web.yml")
	if err := os.WriteFile(bad, []byte("tls_server_config: {cert_file: no.pem, key_file: no.key}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		options     feed.Options
		environment map[string]string
		want        string
	}{
		"address in use":      {feed.Options{Listen: []string{taken.Addr().String()}}, nil, "address already in use"},
		"no web config":       {feed.Options{Listen: []string{"127.0.0.1:0"}, WebConfig: "/no/web.yml"}, nil, "/no/web.yml"},
		"no certificate":      {feed.Options{Listen: []string{"127.0.0.1:0"}, WebConfig: bad}, nil, "no.pem"},
		"no systemd socket":   {feed.Options{Systemd: true}, nil, "systemd passed none"},
		"no manager's socket": {feed.Options{Listen: []string{"127.0.0.1:0"}}, map[string]string{"NOTIFY_SOCKET": "/no/socket"}, "NOTIFY_SOCKET"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := Open(t.Context(), test.options, func(name string) string { return test.environment[name] })
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("%v, want %q", err, test.want)
			}
		})
	}
}

// An exporter that was never started can be closed.
func TestCloseBeforeStart(t *testing.T) {
	e := open(t, feed.Options{}, nil)
	if err := e.Close(); err != nil {
		t.Error(err)
	}
	if _, err := net.Dial("tcp", e.Addresses()[0]); err == nil {
		t.Error("it still listens")
	}
}

// Check runs again when the driver is loaded again, and for each interface and name that comes.
func TestCheckRunsAgain(t *testing.T) {
	e := open(t, feed.Options{}, nil)
	e.delay, e.pause = 0, 0
	e.Start()
	source := *(&machine{totals: reading(1, life(2, "eth0", 5, false))}).source()
	ran := make(chan struct{}, 1)
	source.Check = func(context.Context) ([]event.Finding, error) {
		ran <- struct{}{}
		return []event.Finding{finding("mtu", "eth0", event.Warn)}, nil
	}
	source.Findings = []event.Finding{finding("mtu", "eth0", event.OK)}
	if err := e.Attached(t.Context(), source); err != nil {
		t.Fatal(err)
	}
	const series = `xentrace_check_status{device="eth0",id="mtu",netns="7"} `
	if _, body := get(t, e, "/metrics"); !strings.Contains(body, series+"0\n") {
		t.Error("the first findings are not served")
	}
	for _, id := range []event.NoticeID{event.NoticeDriverReloaded, event.NoticeInterfaceAdded, event.NoticeInterfaceRenamed} {
		_ = e.Emit(&event.Notice{ID: id})
		<-ran
	}
	if _, body := get(t, e, "/metrics"); !strings.Contains(body, series+"1\n") {
		t.Error("the later findings are not served")
	}
}

// A watchdog that cannot be fed is tried again before its time is up.
func TestWatchdogIsTriedAgain(t *testing.T) {
	here, there := net.Pipe()
	defer there.Close()
	ctx, stop := context.WithCancel(t.Context())
	m := &manager{socket: here, watchdog: 20 * time.Millisecond}
	tries := make(chan int, 1)
	done := make(chan struct{})
	go func() {
		n := 0
		m.feedWatchdog(ctx, func(context.Context) error {
			if n++; n < 3 {
				return io.EOF
			}
			select {
			case tries <- n:
			default:
			}
			return nil
		})
		close(done)
	}()
	buffer := make([]byte, 64)
	n, err := there.Read(buffer)
	if err != nil || string(buffer[:n]) != "WATCHDOG=1" {
		t.Errorf("%q, %v", buffer[:n], err)
	}
	if n := <-tries; n != 3 {
		t.Errorf("fed after %d tries, want 3", n)
	}
	stop()
	m.close()
	<-done
}
