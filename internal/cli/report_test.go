package cli

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"xentrace/internal/event"
	"xentrace/internal/output"
)

// recordingOf writes a recording of 30 s in which so many packets were dropped.
func recordingOf(t *testing.T, name string, dropped int) string {
	t.Helper()
	began := time.Date(2026, 11, 27, 2, 0, 0, 0, time.UTC)
	eth0 := event.Device{Name: "eth0", Index: 2, NetNS: 4026531840}
	b := output.Recording{}.Append(nil, &event.Start{Time: began, Format: 1, Segment: 1, Version: "1", Command: []string{"xentrace", "record"}, BootID: "b", Hostname: "web-7", Kernel: "3.16.0"})
	for i := range dropped {
		b = output.Recording{}.Append(b, &event.Packet{
			Time: began.Add(time.Duration(i) * time.Millisecond), Interface: eth0, Verdict: event.Dropped, Cause: event.TooManySlots, Slots: 35, Limit: 18, Len: 1500,
			Flow:    &event.Flow{Proto: 6, Source: netip.MustParseAddrPort("10.9.8.7:40000"), Destination: netip.MustParseAddrPort("8.8.4.4:443")},
			Process: &event.Process{PID: 7, Comm: "acmed"},
		})
	}
	for i := range 3 {
		n := event.InterfaceTotals{Device: eth0, Driver: "xen-netfront", Backend: event.Kprobe}
		n.Packets, n.Bytes, n.Slots[1] = 1000, 1_000_000, 1000
		if i == 0 {
			n.Dropped, n.OverLimit, n.Slots[35], n.Slots[1] = uint64(dropped), uint64(dropped), uint64(dropped), 1000-uint64(dropped)
			n.Causes[event.TooManySlots] = uint64(dropped)
		}
		b = output.Recording{}.Append(b, &event.Interval{Totals: event.Totals{Time: began.Add(time.Duration(i+1) * 10 * time.Second), Duration: 10 * time.Second, Interfaces: []event.InterfaceTotals{n}}})
	}
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func readPage(t *testing.T, path string) string {
	t.Helper()
	page, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(page)
}

func TestReportOfARecording(t *testing.T) {
	recording := recordingOf(t, "night.jsonl", 40)
	out := filepath.Join(t.TempDir(), "page.html")
	got := runWith(t, nil, "report", recording, "-w", out)
	if got.status != 0 || got.stdout != "" || got.stderr != "xentrace: wrote "+out+"\n" {
		t.Fatalf("%+v", got)
	}
	page := readPage(t, out)
	for _, part := range []string{
		"40 packets dropped by the driver", "3,000 packets; 40 (1.3 % of them) were lost", "10.9.8.7:40000 &gt; 8.8.4.4:443 tcp", "acmed[7]", "web-7",
		recording, "xentrace report " + recording + " -w " + out,
	} {
		if !strings.Contains(page, part) {
			t.Errorf("no %q", part)
		}
	}
	info, err := os.Stat(out)
	if err != nil || info.Mode() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	if again := runWith(t, nil, "report", recording, "--until", "2026-11-27T02:00:00.0095Z", "-w", out); again.status != 0 || !strings.Contains(readPage(t, out), "10 packets") {
		t.Errorf("a part of it: %+v", again)
	}
	if printed := runWith(t, nil, "report", recording, "-w", "-"); printed.status != 0 || !strings.HasPrefix(printed.stdout, "<!DOCTYPE html>") || !strings.HasSuffix(strings.TrimSpace(printed.stdout), "</html>") {
		t.Errorf("on standard output: status %d, %s", printed.status, printed.stderr)
	}
	if rest, _ := filepath.Glob(filepath.Join(filepath.Dir(out), ".xentrace*")); len(rest) != 0 {
		t.Errorf("left behind: %q", rest)
	}
}

func TestRedactedReport(t *testing.T) {
	recording := recordingOf(t, "acme-night.jsonl", 40)
	out := filepath.Join(t.TempDir(), "page.html")
	if got := runWith(t, nil, "report", recording, "--redact", "--since", "1h", "-w", out); got.status != 0 {
		t.Fatalf("%+v", got)
	}
	page := readPage(t, out)
	for _, secret := range []string{"10.9.8.7", "8.8.4.4", "acme", "web-7", filepath.Dir(recording)} {
		if strings.Contains(page, secret) {
			t.Errorf("the page holds %q", secret)
		}
	}
	for _, part := range []string{"10.0.0.1:40000 &gt; 192.0.2.1:443 tcp", "proc-1[7]", "host-1", "xentrace report ... --redact --since 1h -w ...", "recording 1"} {
		if !strings.Contains(page, part) {
			t.Errorf("no %q", part)
		}
	}
}

// What cannot be read is said on the page and on standard error, with exit status 1.
func TestReportOfADamagedRecording(t *testing.T) {
	recording := recordingOf(t, "night.jsonl", 40)
	text, err := os.ReadFile(recording)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(recording, text[:len(text)-100], 0o600); err != nil {
		t.Fatal(err)
	}
	out := filepath.Join(t.TempDir(), "page.html")
	got := runWith(t, nil, "report", recording, "-w", out)
	if got.status != 1 || !strings.Contains(got.stderr, "Not readable: "+recording+": at byte ") || !strings.Contains(readPage(t, out), "cut off within a line") {
		t.Errorf("%+v", got)
	}
}

func TestReportOfALiveRun(t *testing.T) {
	out := filepath.Join(t.TempDir(), "page.html")
	fake := newFake()
	if got := runWith(t, fake, "report", "-d", "50ms", "-i", "eth0", "-w", out); got.status != 0 || !fake.closed.Load() {
		t.Fatalf("%+v", got)
	}
	if page := readPage(t, out); !strings.Contains(page, "Made from a live run") || !strings.Contains(page, "3 packets dropped by the driver") || strings.Contains(page, "holds no findings") {
		t.Error("the page does not show the run")
	}
}

func TestUsageOfReportAndCompare(t *testing.T) {
	recording := recordingOf(t, "a.jsonl", 1)
	out := filepath.Join(t.TempDir(), "page.html")
	for _, test := range []struct {
		args []string
		want string
	}{
		{[]string{"report"}, "missing argument PATH, or -d TIME for a live run"},
		{[]string{"report", recording}, "missing --write FILE.html"},
		{[]string{"report", recording, "-d", "1s", "-w", out}, "--duration is for a live run"},
		{[]string{"report", recording, "-i", "eth0", "-w", out}, "--interface is for a live run"},
		{[]string{"report", "-d", "1s", "--since", "1h", "-w", out}, "--since and --until need a recording"},
		{[]string{"report", recording, "--since", "yesterday", "-w", out}, "not a time such as"},
		{[]string{"report", recording + ".missing", "-w", out}, "no such file or directory"},
		{[]string{"report", recording, "-w", filepath.Dir(out)}, "not a regular file"},
		{[]string{"report", recording, "-w", out + "/x"}, "no such file or directory"},
		{[]string{"compare", recording}, "missing argument B"},
		{[]string{"compare", recording, recording, recording}, "unexpected argument"},
		{[]string{"compare", recording, recording, "-o", "json", "-w", out}, "--write writes HTML"},
	} {
		got := runWith(t, nil, test.args...)
		if got.status != 2 || !strings.Contains(got.stderr, test.want) || strings.Count(got.stderr, "\n") != 1 {
			t.Errorf("%q: %+v, want %q", test.args[1:], got, test.want)
		}
		if _, err := os.Stat(out); err == nil {
			t.Errorf("%q: wrote a page", test.args)
		}
	}
}

func TestCompareRecordings(t *testing.T) {
	before, after := recordingOf(t, "before.jsonl", 40), recordingOf(t, "after.jsonl", 0)
	got := runWith(t, nil, "compare", before, after)
	if got.status != 0 || strings.Count(got.stderr, "\n") != 2 || !strings.Contains(got.stdout, "dropped: too_many_slots, per million packets          13,333           0    gone") {
		t.Errorf("%+v", got)
	}
	object := runWith(t, nil, "compare", before, after, "-o", "json")
	var c struct {
		Type  string
		Rates []struct {
			Key     string
			Differs bool
		}
	}
	if err := json.Unmarshal([]byte(object.stdout), &c); err != nil || c.Type != "comparison" || len(c.Rates) < 4 {
		t.Fatalf("%v in %+v", err, object)
	}
	differing := ""
	for _, r := range c.Rates {
		if r.Differs {
			differing += " " + r.Key
		}
	}
	if differing != " dropped dropped_too_many_slots" {
		t.Errorf("differing:%s", differing)
	}
	out := filepath.Join(t.TempDir(), "page.html")
	if page := runWith(t, nil, "compare", before, after, "-w", out, "--redact"); page.status != 0 || !strings.Contains(readPage(t, out), "B loses fewer packets than A") {
		t.Errorf("%+v", page)
	}
	if redacted := readPage(t, out); strings.Contains(redacted, "web-7") || strings.Contains(redacted, "before.jsonl") || !strings.Contains(redacted, "recording 2") {
		t.Error("the page of --redact names the recordings, or the host")
	}
}

func TestMoments(t *testing.T) {
	for text, want := range map[string]string{
		"10h": "10h0m0s", "90s": "1m30s", "2026-11-27T02:00:00Z": "2026-11-27 02:00:00 +0000 UTC", "2026-11-27T02:00:00.5+01:00": "2026-11-27 01:00:00.5 +0000 UTC",
	} {
		b, err := parseMoment(text)
		got := b.Before.String()
		if !b.At.IsZero() {
			got = b.At.UTC().String()
		}
		if err != nil || got != want {
			t.Errorf("%s is %s (%v), want %s", text, got, err, want)
		}
	}
	local, err := parseMoment("2026-11-27 02:00")
	if want := time.Date(2026, 11, 27, 2, 0, 0, 0, time.Local); err != nil || !local.At.Equal(want) {
		t.Errorf("%v, %v, want %v", local, err, want)
	}
	for _, text := range []string{"", "0", "-5m", "noon", "2026-13-01", "10 h"} {
		if b, err := parseMoment(text); err == nil {
			t.Errorf("%q is %v", text, fmt.Sprint(b))
		}
	}
}

// A page replaces an older page, and neither the recording that it is made of nor anything else.
func TestPageReplacesPagesOnly(t *testing.T) {
	recording := recordingOf(t, "night.jsonl", 3)
	before, err := os.ReadFile(recording)
	if err != nil {
		t.Fatal(err)
	}
	page := filepath.Join(t.TempDir(), "page.html")
	for name, c := range map[string]struct {
		line   []string
		status int
	}{
		"no file":           {[]string{"report", recording, "-w", page}, 0},
		"a page":            {[]string{"report", recording, "-w", page}, 0},
		"the recording":     {[]string{"report", recording, "-w", recording}, 2},
		"one of two":        {[]string{"compare", recording, recording, "-w", recording}, 2},
		"a file of another": {[]string{"report", recording, "-w", "testdata/banned.txt"}, 2},
	} {
		got := runWith(t, nil, c.line...)
		if got.status != c.status || c.status == 2 && !strings.Contains(got.stderr, "exists and is not an HTML page") {
			t.Errorf("%s: status %d, %s", name, got.status, got.stderr)
		}
	}
	if after, err := os.ReadFile(recording); err != nil || !bytes.Equal(after, before) {
		t.Errorf("the recording changed: %v", err)
	}
}
