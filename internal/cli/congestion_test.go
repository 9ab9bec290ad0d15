package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"xentrace/internal/congestion"
	"xentrace/internal/event"
	"xentrace/internal/kernel"
	"xentrace/internal/netdev"
	"xentrace/internal/trace"
	"xentrace/test/schema"
)

// fakeMeter shows the same again and again.
type fakeMeter struct {
	options congestion.Options
	reads   int
	closed  bool
}

func (f *fakeMeter) Interfaces() []netdev.Interface   { return []netdev.Interface{{Name: "eth0"}} }
func (f *fakeMeter) DropPrivileges(kernel.User) error { return nil }
func (f *fakeMeter) Close() error                     { f.closed = true; return nil }
func (f *fakeMeter) Missing() map[string]string {
	return map[string]string{"accepts": "it is Tuesday"}
}
func (f *fakeMeter) Reports(context.Context) ([]event.CongestionReport, error) {
	f.reads++
	return []event.CongestionReport{{
		Time: time.Unix(1, 0), Name: "eth0", Driver: "xen-netfront", Duration: time.Second, Queues: make([]event.CongestionQueue, 2),
		Total: event.CongestionQueue{Packets: 1000, Small: 1000}, Missing: map[string]string{"receive": "nobody looked"},
	}}, nil
}

func (f *fakeMeter) run(t *testing.T, args ...string) (stdout string, err error) {
	t.Helper()
	var out, complaints bytes.Buffer
	err = Run(t.Context(), append([]string{"congestion"}, args...), System{
		Stdout: &out, Stderr: &complaints, Getenv: func(string) string { return "" },
		Measure: func(_ context.Context, o congestion.Options) (Meter, error) {
			f.options = o
			return f, nil
		},
	})
	if slices.Contains(args, "json") {
		schema.Check(t, out.String())
	}
	return out.String(), err
}

func TestCongestion(t *testing.T) {
	t.Parallel()
	earlier := filepath.Join(t.TempDir(), "earlier.json")
	for _, test := range []struct {
		name  string
		args  []string
		parts []string
		reads int
	}{
		{"text", []string{"-i", "eth0", "-d", "10ms"}, []string{"eth0: xen-netfront, 2 queues", "none: ", "1,000 packets", "not measured: receive: nobody looked"}, 1},
		{"json", []string{"-d", "10ms", "-o", "json"}, []string{`{"type":"congestion","time":"`, `"ifname":"eth0"`, `"small_packet_share":1`, `"receive":null`, `"verdict":[{"id":"none"`}, 1},
		{"every second", []string{"-d", "1500ms", "--watch"}, []string{"bottleneck     none"}, 2},
	} {
		t.Run(test.name, func(t *testing.T) {
			f := &fakeMeter{}
			got, err := f.run(t, test.args...)
			if err != nil || f.reads != test.reads || !f.closed {
				t.Errorf("%v, read %d times, closed %v", err, f.reads, f.closed)
			}
			for _, part := range test.parts {
				if !strings.Contains(got, part) {
					t.Errorf("no %q in\n%s", part, got)
				}
			}
			if test.name == "json" {
				if err := os.WriteFile(earlier, []byte(strings.ReplaceAll(got, `"packets_per_second":1000`, `"packets_per_second":2000`)), 0o644); err != nil {
					t.Fatal(err)
				}
			}
		})
	}
	got, err := (&fakeMeter{}).run(t, "-d", "10ms", "--baseline", earlier)
	if err != nil || !strings.Contains(got, "packets per second 1,000, was 2,000 (-50 %)") {
		t.Errorf("%v\n%s", err, got)
	}
}

func TestCongestionWaitsNoLongerThanItsDuration(t *testing.T) {
	err := Run(t.Context(), strings.Fields("congestion --wait -d 20ms"), System{
		Stdout: &bytes.Buffer{}, Stderr: &bytes.Buffer{}, Getenv: os.Getenv,
		Measure: func(ctx context.Context, o congestion.Options) (Meter, error) {
			o.Notify(event.Notice{ID: event.NoticeWaiting})
			<-ctx.Done()
			return nil, ctx.Err()
		},
	})
	if Status(err) != statusCannotRun || !strings.Contains(fmt.Sprint(err), "no interface appeared within --duration 20ms") {
		t.Errorf("status %d: %v", Status(err), err)
	}
}

func TestCongestionRefuses(t *testing.T) {
	for _, args := range [][]string{{"--baseline", "/nowhere"}, {"--baseline", os.DevNull}, {"--backend", "kprobe"}, {"eth0"}} {
		f := &fakeMeter{}
		if _, err := f.run(t, args...); Status(err) != statusUsage || f.reads != 0 {
			t.Errorf("%v: %v", args, err)
		}
	}
	err := Run(t.Context(), []string{"congestion"}, System{
		Stdout: &bytes.Buffer{}, Stderr: &bytes.Buffer{}, Getenv: os.Getenv,
		Measure: func(context.Context, congestion.Options) (Meter, error) { return nil, trace.ErrCannotRun },
	})
	if Status(err) != statusCannotRun || !errors.Is(err, trace.ErrCannotRun) {
		t.Errorf("%v", err)
	}
}
