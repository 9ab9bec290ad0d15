//go:build !cgo

package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"
	"golang.org/x/sys/unix"

	"xentrace/internal/demo/network"
	"xentrace/test/need"
)

const runVariable = "XENTRACE_TEST_RUN"

// TestMain is xentrace-exporter where a test runs this binary for it.
func TestMain(m *testing.M) {
	if os.Getenv(runVariable) != "" {
		main()
	}
	os.Exit(m.Run())
}

// A lab is a veth pair in namespaces of its own, and an exporter at its near end.
type lab struct {
	t         *testing.T
	near, far network.End
	process   *exec.Cmd
	stderr    bytes.Buffer
	client    *http.Client
	scheme    string

	user, password string // of basic auth; empty for none
}

func newLab(t *testing.T) *lab {
	t.Helper()
	need.Root(t, "to attach")
	l := &lab{t: t, scheme: "http"}
	for name, end := range map[string]*network.End{"near": &l.near, "far": &l.far} {
		namespace, err := network.NewNamespace()
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = namespace.Close() })
		*end = network.End{Namespace: namespace, Name: name}
	}
	l.near.Addresses = []netip.Prefix{netip.MustParsePrefix("192.0.2.1/24")}
	l.far.Addresses = []netip.Prefix{netip.MustParsePrefix("192.0.2.2/24")}
	l.join()
	l.client = &http.Client{Transport: &http.Transport{
		TLSClientConfig: &tls.Config{InsecureSkipVerify: true},
		DialContext: func(_ context.Context, kind, address string) (conn net.Conn, err error) {
			err = l.near.Namespace.Do(func() error {
				conn, err = net.Dial(kind, address)
				return err
			})
			return conn, err
		},
	}}
	t.Cleanup(l.client.CloseIdleConnections)
	return l
}

func (l *lab) join() {
	l.t.Helper()
	if err := network.Join(l.near, l.far, 1500); err != nil {
		l.t.Fatal(err)
	}
}

// start starts the exporter, and waits until it is ready.
func (l *lab) start(args ...string) {
	l.t.Helper()
	l.begin(exec.Command(os.Args[0], args...))
}

// begin starts a command that has the exporter's flags as its last arguments.
func (l *lab) begin(c *exec.Cmd) {
	l.t.Helper()
	l.process, c.Args = c, append(c.Args, "-i", "near", "--backend", "tracepoint")
	c.Env, c.Stderr = append(os.Environ(), runVariable+"=1"), &l.stderr
	if err := l.near.Namespace.Do(l.process.Start); err != nil {
		l.t.Fatal(err)
	}
	l.t.Cleanup(func() { _ = l.stop() })
	l.eventually("it is ready", func() bool { return l.status("/-/ready") == 200 })
}

// stop ends it as systemd does.
func (l *lab) stop() error {
	if l.process.ProcessState != nil {
		return nil
	}
	err := errors.Join(l.process.Process.Signal(unix.SIGTERM), l.process.Wait())
	if err != nil {
		return fmt.Errorf("%w: %s", err, l.stderr.String())
	}
	return nil
}

func (l *lab) eventually(what string, is func() bool) {
	l.t.Helper()
	for deadline := time.Now().Add(time.Minute); !is(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			l.t.Fatalf("after a minute it is not so that %s: %s", what, l.stderr.String())
		}
	}
}

func (l *lab) get(path string) (*http.Response, error) {
	request, err := http.NewRequest(http.MethodGet, l.scheme+"://127.0.0.1:10118"+path, nil)
	if err != nil {
		return nil, err
	}
	if l.user != "" {
		request.SetBasicAuth(l.user, l.password)
	}
	return l.client.Do(request)
}

// status is that of a page; 0 if there is no answer.
func (l *lab) status(path string) int {
	response, err := l.get(path)
	if err != nil {
		return 0
	}
	defer response.Body.Close()
	_, _ = io.Copy(io.Discard, response.Body)
	return response.StatusCode
}

// scrape returns metrics of now: above the limit of scrapes in a second, the answer has an age.
func (l *lab) scrape() string {
	l.t.Helper()
	for ; ; time.Sleep(20 * time.Millisecond) {
		response, err := l.get("/metrics")
		if err != nil {
			l.t.Fatal(err)
		}
		text, err := io.ReadAll(response.Body)
		_ = response.Body.Close()
		if err != nil {
			l.t.Fatal(err)
		}
		if response.Header.Get("Age") == "" {
			return string(text)
		}
	}
}

// metric returns the sum of all series of a metric whose labels include a text.
func (l *lab) metric(name, labels string) (sum float64) {
	l.t.Helper()
	found := false
	for line := range strings.Lines(l.scrape()) {
		series, value, _ := strings.Cut(strings.TrimSpace(line), " ")
		if of, rest, _ := strings.Cut(series, "{"); of != name || !strings.Contains(rest, labels) {
			continue
		}
		n, err := strconv.ParseFloat(value, 64)
		if err != nil {
			l.t.Fatal(err)
		}
		sum, found = sum+n, true
	}
	if !found {
		l.t.Fatalf("no series of %s with %s", name, labels)
	}
	return sum
}

// send sends datagrams out of the near end.
func (l *lab) send(n int) {
	l.t.Helper()
	err := l.near.Namespace.Do(func() error {
		conn, err := net.Dial("udp", "192.0.2.2:9")
		if err != nil {
			return err
		}
		defer conn.Close()
		for sent := 0; sent < n; {
			// Nobody listens: a write fails for the ICMP error of the one before.
			if _, err := conn.Write(make([]byte, 100)); err == nil {
				sent++
			} else if !errors.Is(err, unix.ECONNREFUSED) {
				return err
			}
		}
		return nil
	})
	if err != nil {
		l.t.Fatal(err)
	}
}

// Counters are the interface's own, over its removal and return; SIGTERM ends in good order,
// with the last interval in the recording.
func TestCountsAreTheInterfaces(t *testing.T) {
	l := newLab(t)
	directory := filepath.Join(t.TempDir(), "recording")
	l.start("--record", directory)
	if attached, missing := l.metric("xentrace_hooks_attached", ""), l.metric("xentrace_hooks_missing", ""); attached != 2 || missing != 0 { // that of packets, and that of frames of XDP
		t.Errorf("%g hooks attached, %g missing", attached, missing)
	}
	before, _, err := l.near.Transmitted()
	if err != nil {
		t.Fatal(err)
	}
	counted := l.metric("xentrace_packets_total", `device="near"`)
	l.send(300)
	after, _, err := l.near.Transmitted()
	if err != nil {
		t.Fatal(err)
	}
	if got := l.metric("xentrace_packets_total", `device="near"`) - counted; got != float64(after-before) || got < 300 {
		t.Errorf("%g packets counted, the interface sent %d", got, after-before)
	}
	if got, all := l.metric("xentrace_slots_count", `device="near"`), l.metric("xentrace_packets_total", `device="near"`); got != all {
		t.Errorf("%g packets in the histogram, %g counted", got, all)
	}
	all := l.metric("xentrace_packets_total", `device="near"`)
	if err := l.near.Remove(); err != nil {
		t.Fatal(err)
	}
	l.eventually("the interface is gone", func() bool { return l.metric("xentrace_interface_present", `device="near"`) == 0 })
	l.join()
	l.eventually("the interface is back", func() bool { return l.metric("xentrace_interface_present", `device="near"`) == 1 })
	before, _, err = l.near.Transmitted()
	if err != nil {
		t.Fatal(err)
	}
	since := l.metric("xentrace_packets_total", `device="near"`)
	if since < all {
		t.Errorf("went back from %g to %g packets", all, since)
	}
	l.send(200)
	after, _, err = l.near.Transmitted()
	if err != nil {
		t.Fatal(err)
	}
	if got := l.metric("xentrace_packets_total", `device="near"`) - since; got != float64(after-before) || got < 200 {
		t.Errorf("%g packets counted of the new interface, it sent %d", got, after-before)
	}
	if err := l.stop(); err != nil {
		t.Fatal(err)
	}
	if text := recorded(t, directory); !strings.Contains(text, `"type":"interval"`) ||
		!strings.Contains(text[strings.LastIndex(strings.TrimSpace(text), "\n"):], `"type":"summary"`) {
		t.Errorf("the recording does not end with an interval and a summary: %s", text)
	}
}

// recorded is the text of the only segment of a recording.
func recorded(t *testing.T, directory string) string {
	t.Helper()
	segments, err := filepath.Glob(filepath.Join(directory, "xentrace-*"))
	if err != nil || len(segments) != 1 {
		t.Fatalf("segments %v, %v", segments, err)
	}
	file, err := os.Open(segments[0])
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	decoder, err := zstd.NewReader(file)
	if err != nil {
		t.Fatal(err)
	}
	defer decoder.Close()
	text, err := io.ReadAll(decoder)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// Once ready it has few privileges left, and still serves TLS and measures congestion.
func TestPrivilegesOnceReady(t *testing.T) {
	l := newLab(t)
	l.scheme = "https"
	l.start("--web.config.file", certificate(t, ""), "--congestion", "--drops", "all")
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", l.process.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	fields := make(map[string]string)
	for line := range strings.Lines(string(status)) {
		key, value, _ := strings.Cut(line, ":")
		fields[key] = strings.Join(strings.Fields(value), " ")
	}
	const kept = uint64(1)<<unix.CAP_BPF | 1<<unix.CAP_PERFMON | 1<<unix.CAP_SYSLOG
	for key, want := range map[string]string{
		"Uid": "65534 65534 65534 65534", "CapEff": fmt.Sprintf("%016x", kept), "CapBnd": fmt.Sprintf("%016x", kept), "NoNewPrivs": "1", "Seccomp": "2",
	} {
		if fields[key] != want {
			t.Errorf("%s is %s, want %s", key, fields[key], want)
		}
	}
	l.send(10)
	if got := l.metric("xentrace_packets_total", `device="near"`); got < 10 {
		t.Errorf("%g packets", got)
	}
	for name, labels := range map[string]string{
		"xentrace_queue_stops_total": `device="near"`, "xentrace_listen_drops_total": "netns=", "process_open_fds": "",
		"xentrace_elsewhere_dropped_packets_total": `reason="QDISC_DROP"`,
	} {
		_ = l.metric(name, labels) // fails unless there is one
	}
	if got := l.metric("xentrace_collect_errors_total", ""); got != 0 {
		t.Errorf("%g scrapes could not read the counts", got)
	}
	if err := l.stop(); err != nil {
		t.Error(err)
	}
}
