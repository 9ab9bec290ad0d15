package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"

	"xentrace/internal/check"
	"xentrace/internal/event"
	"xentrace/internal/kernel"
	"xentrace/internal/netdev"
	"xentrace/internal/netfront"
	"xentrace/internal/trace"
)

// fakeMachine is a Xen guest with one interface, whose scatter-gather is off,
// and which lists one more of another driver. Only eth0 and lo are there.
func fakeMachine() (check.Source, error) {
	files := fstest.MapFS{
		"sys/hypervisor/type":       {Data: []byte("xen\n")},
		"sys/hypervisor/guest_type": {Data: []byte("PV\n")},
		"proc/interrupts":           {Data: []byte("CPU0\n")},
	}
	off := netdev.Feature{Changeable: true}
	device := check.Interface{
		Interface: netdev.Interface{Name: "eth0", Index: 2, Namespace: 4026531840, Driver: netdev.DriverNetfront, BusInfo: "vif-0", MTU: 1500, Queues: 1, Up: true, Running: true},
		Features:  check.Known[netdev.Features]{Value: netdev.Features{ScatterGather: off, TSO: off, TSO6: off, GSO: off}},
		Counters:  check.Known[check.Counters]{},
	}
	return check.Source{
		Files: files, Release: "6.12.0",
		Links: func(_ context.Context, names []string) (check.Links, error) {
			for _, name := range names {
				if name != "eth0" {
					return check.Links{}, fmt.Errorf("%w: %w", trace.ErrCannotRun, &netdev.NotFoundError{Name: name, Namespace: 4026531840})
				}
			}
			return check.Links{NetNS: 4026531840, Judged: []check.Interface{device},
				Again: func(*check.Interface) (netdev.Counters, error) { return netdev.Counters{}, nil }}, nil
		},
		LiveCode: func(context.Context) (netfront.Answer, error) {
			return netfront.Answer{Value: netfront.Linearizes, Evidence: "xennet_start_xmit+0x81a calls __pskb_pull_tail"}, nil
		},
		SharedInfo: func() (kernel.SharedInfo, error) { return kernel.SharedInfo{MaxFrags: 17, Bytes: 320}, nil },
		Log:        func(context.Context) (check.LogRecords, error) { return check.LogRecords{}, nil },
		Xenstore:   func(context.Context, []string) (map[string]string, error) { return nil, errors.New("no store") },
		Signature:  func() string { return "" },
	}, nil
}

func TestCheckInText(t *testing.T) {
	got := runWith(t, nil, "check", "--ec2rl")
	if got.status != 1 || got.stderr != "" {
		t.Errorf("status %d, stderr %q; want 1 and nothing: scatter-gather is off", got.status, got.stderr)
	}
	for _, part := range []string{
		"WARN    scatter_gather eth0: Scatter-gather is off", "      # ethtool -K eth0 sg on\n", "(on: false, requested: false,",
		"OK      linearize: Driver linearizes", "What ec2rl would report here\n", "SUCCESS xennetsgmtu eth0, ",
		"\n0 FAIL, 2 WARN, 6 UNKNOWN, ",
	} {
		if !strings.Contains(got.stdout, part) {
			t.Errorf("no %q in\n%s", part, got.stdout)
		}
	}
	if strings.Contains(got.stdout, "xennet_start_xmit+0x81a") {
		t.Error("the evidence of what is OK is reported without --verbose")
	}
	if warn, ok := strings.Index(got.stdout, "WARN"), strings.Index(got.stdout, "OK "); warn != 0 || ok < warn {
		t.Errorf("what matters most does not come first:\n%s", got.stdout)
	}
	for line := range strings.Lines(got.stdout) {
		if len(line) > 81 || strings.HasSuffix(line, " \n") {
			t.Errorf("%q is too wide, or ends in a space", line)
		}
	}
	if verbose := runWith(t, nil, "check", "-v").stdout; !strings.Contains(verbose, "xennet_start_xmit+0x81a") {
		t.Errorf("no evidence with --verbose:\n%s", verbose)
	}
	if coloured := runWith(t, nil, "check", "--color", "always").stdout; !strings.Contains(coloured, "\x1b[33mWARN\x1b[0m    scatter_gather") {
		t.Errorf("no colours:\n%q", coloured)
	}
}

func TestCheckInJSON(t *testing.T) {
	t.Parallel()
	got := runWith(t, nil, "check", "-o", "json", "--ec2rl")
	if got.status != 1 {
		t.Errorf("status %d, want 1", got.status)
	}
	types := map[string]int{}
	for line := range strings.Lines(got.stdout) {
		var object map[string]any
		if err := json.Unmarshal([]byte(line), &object); err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		if !strings.HasPrefix(line, `{"type":"`) {
			t.Errorf("type is not first in %s", line)
		}
		keys := map[string]string{
			"finding": "id status ifname netns message evidence advice", "ec2rl": "module ifname verdict right message",
		}[object["type"].(string)]
		for _, key := range strings.Fields(keys) {
			if _, there := object[key]; !there {
				t.Errorf("no %s in %s", key, line)
			}
		}
		types[object["type"].(string)+" "+fmt.Sprint(object["id"])]++
	}
	for _, id := range []event.FindingID{check.Virtualization, check.DriverOf, check.LinearizeCode, check.ScatterGather, check.MTU, check.Offload, check.TxDropped,
		check.KernelLog, check.SkbFrags, check.Bounce, check.Queues, check.Interrupts, check.BetterDevice,
		check.Receive, check.EventChannels, check.GrantTableOf, check.Checksum} {
		if types["finding "+string(id)] != 1 {
			t.Errorf("%d findings on %s, want 1", types["finding "+string(id)], id)
		}
	}
	if types["ec2rl <nil>"] != 2 {
		t.Errorf("%v, want 2 of type ec2rl", types)
	}
}

func TestCheckOfAMissingInterface(t *testing.T) {
	got := runWith(t, nil, "check", "-i", "eth7")
	if got.status != 3 || got.stdout != "" || !strings.Contains(got.stderr, `interface "eth7" not found`) {
		t.Errorf("status %d, %q, stderr %q", got.status, got.stdout, got.stderr)
	}
}

func TestCheckObserves(t *testing.T) {
	fake := newFake()
	fake.verdict = event.Linearized
	ready := filepath.Join(t.TempDir(), "ready")
	got := runWith(t, fake, "check", "--observe", "10ms", "--ready-file", ready, "-o", "json")
	if _, err := os.Stat(ready); err != nil {
		t.Errorf("the ready file: %v", err)
	}
	if !fake.closed.Load() || !fake.stopped.Load() || fake.options.Records {
		t.Errorf("the tracer was closed: %v, stopped: %v, made records: %v", fake.closed.Load(), fake.stopped.Load(), fake.options.Records)
	}
	if !strings.Contains(got.stdout, `"observed_packets":1000`) || !strings.Contains(got.stdout, "0 of 1000 packets straddled a page boundary and were dropped.") {
		t.Errorf("nothing of what was observed in\n%s", got.stdout)
	}
	fake = newFake()
	fake.err = fmt.Errorf("%w: missing privilege CAP_BPF", trace.ErrCannotRun)
	got = runWith(t, fake, "check", "--observe", "10ms")
	flat := strings.Join(strings.Fields(got.stdout), " ")
	if got.status != 1 || !strings.Contains(flat, "Not observed: cannot run here: missing privilege CAP_BPF.") {
		t.Errorf("status %d:\n%s", got.status, got.stdout)
	}
}

func TestCheckWithNothingToObserve(t *testing.T) {
	fake := newFake()
	var stdout, stderr bytes.Buffer
	err := Run(t.Context(), []string{"check", "--observe", "1h"}, System{
		Stdout: &stdout, Stderr: &stderr, Getenv: os.Getenv, Start: fake.start,
		Machine: func() (check.Source, error) {
			source, err := fakeMachine()
			source.Links = func(context.Context, []string) (check.Links, error) {
				return check.Links{Judged: []check.Interface{{Interface: netdev.Interface{Name: "lo", Index: 1}}}}, nil
			}
			return source, err
		},
	})
	Report(&stderr, err)
	if want := "xentrace: cannot run here: --observe: no xen-netfront interface found; run check without it\n"; Status(err) != 3 || stderr.String() != want || !fake.began.IsZero() {
		t.Errorf("status %d, %q; want 3, %q", Status(err), stderr.String(), want)
	}
}

func TestCheckOfADriverFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "foreign.ko")
	if err := os.WriteFile(path, []byte("not a driver"), 0o600); err != nil {
		t.Fatal(err)
	}
	got := runWith(t, nil, "check", "--driver-file", path, "-o", "json")
	var finding struct {
		ID, Status string
		Evidence   map[string]any
	}
	if err := json.Unmarshal([]byte(got.stdout), &finding); err != nil || strings.Count(got.stdout, "\n") != 1 {
		t.Fatalf("%q: %v", got.stdout, err)
	}
	if got.status != 0 || finding.ID != "linearize" || finding.Status != "UNKNOWN" || finding.Evidence["file"] != path {
		t.Errorf("status %d, %+v; want 0 and UNKNOWN", got.status, finding)
	}
}
