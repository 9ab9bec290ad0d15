package cli

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"xentrace/internal/event"
	"xentrace/internal/output"
	"xentrace/internal/pcapng"
	"xentrace/internal/record"
)

// everyEvent is a recording with every type of event, and every notice.
const everyEvent = "../record/testdata/format-1.jsonl"

func eventsOf(t *testing.T, path string) (events []event.Event) {
	t.Helper()
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for line := range bytes.Lines(content) {
		e, err := output.Parse(bytes.TrimSpace(line))
		if err != nil {
			t.Fatal(err)
		}
		events = append(events, e)
	}
	return events
}

// A replay prints what the run printed while it recorded, byte for byte, whatever happened.
func TestReplayOfEveryEvent(t *testing.T) {
	events := eventsOf(t, everyEvent)
	start := events[0].(*event.Start)
	for _, format := range []string{"text", "json", "pcapng"} {
		for _, name := range []string{"x.jsonl", "x.jsonl.zst"} {
			path := filepath.Join(t.TempDir(), name)
			store, err := record.Create(path)
			if err != nil {
				t.Fatal(err)
			}
			recorder := record.NewRecorder(store, func(n event.Notice) { t.Errorf("notice %+v", n) })
			recorder.Begin(start)
			var live bytes.Buffer
			sink := emitterOf(t, format, &live, start)
			for _, e := range events {
				if _, isStart := e.(*event.Start); isStart {
					continue // the recorder writes it
				}
				if err := errors.Join(sink.Emit(e), recorder.Emit(e)); err != nil {
					t.Fatal(err)
				}
			}
			if err := recorder.Close(); err != nil {
				t.Fatal(err)
			}
			replayed := runWith(t, nil, "replay", "--stack", "-o", format, path)
			got, want := replayed.stdout, live.String()
			if format == formatPcapng { // the head of a recording's has more about the machine
				got, want = strings.Join(packetBlocks(got), ""), strings.Join(packetBlocks(want), "")
			}
			if replayed.status != 0 || got != want || len(want) < 2000 {
				t.Errorf("%s of %s: status %d: %s\n%q\nlive\n%q", format, name, replayed.status, replayed.stderr, got, want)
			}
		}
	}
}

// emitterOf is the sink of a live run.
func emitterOf(t *testing.T, format string, out *bytes.Buffer, start *event.Start) emitter {
	t.Helper()
	switch format {
	case "json":
		return output.NewJSON(out)
	case "pcapng":
		sink := pcapng.New(out, nil)
		if err := sink.Emit(start); err != nil {
			t.Fatal(err)
		}
		return sink
	}
	text := &output.Text{Width: func() int { return output.DefaultWidth }, Whole: true, Stacks: true}
	for i := range start.Interfaces {
		text.WidenTo(start.Interfaces[i].Name)
	}
	return output.NewText(out, text)
}

// recordingWith writes events, most of them of a run that was killed.
func recordingWith(t *testing.T, events ...event.Event) string {
	t.Helper()
	var lines []byte
	for _, e := range events {
		lines = output.Recording{}.Append(lines, e)
	}
	path := filepath.Join(t.TempDir(), "x.jsonl")
	if err := os.WriteFile(path, lines, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// A run that was killed is shown and counted to its last event, what no interval explains
// included; so on the page.
func TestReplayOfAKilledRun(t *testing.T) {
	recording := recordingOf(t, "night.jsonl", 40)
	events := eventsOf(t, recording)
	last := *events[1].(*event.Packet)
	last.Time, last.Cause, last.Slots = time.Date(2026, 11, 27, 2, 0, 33, 0, time.UTC), event.SGOff, 2
	killed := recordingWith(t, append(events, &last)...)
	clock := func(second int) string {
		return time.Date(2026, 11, 27, 2, 0, second, 0, time.UTC).Local().Format("2006-01-02 15:04:05")
	}
	want := "run ended at " + clock(33) + " without a summary (killed, or still running): counts end at its last interval, " + clock(30) + "; 1 later event is counted from its record\n"
	got := runWith(t, nil, "replay", killed)
	if n := strings.Count(got.stdout, "too_many_slots   "); got.status != 0 || n != 40 || !strings.HasSuffix(got.stderr, want) {
		t.Errorf("status %d, %d packets, want 40: %s\n%s", got.status, n, got.stderr, got.stdout)
	}
	for _, counted := range []string{"dropped        41  too_many_slots 40, sg_off 1\n", "tx_dropped      ?  unknown: the run was killed", "\nsg_off (1): ", "# ethtool -K eth0 sg on", "3,001 packets seen, "} {
		if !strings.Contains(got.stdout, counted) {
			t.Errorf("no %q in\n%s", counted, got.stdout)
		}
	}
	page := filepath.Join(t.TempDir(), "page.html")
	got = runWith(t, nil, "report", killed, "-w", page)
	sentence := "Run ended at 2026-11-27 02:00:33 without a summary (killed, or still running): counts end at its last interval, 2026-11-27 02:00:30; 1 later event is counted from its record."
	if n := strings.Count(readPage(t, page), sentence); got.status != 0 || n != 2 {
		t.Errorf("status %d, %d times on the page, want 2: %s", got.status, n, got.stderr)
	}
	got = runWith(t, nil, "compare", killed, recording)
	if got.status != 0 || !strings.Contains(got.stderr, sentence) {
		t.Errorf("compare: status %d: %s", got.status, got.stderr)
	}
}

func TestUnfinishedSentences(t *testing.T) {
	at := func(minute int) time.Time { return time.Date(2026, 11, 27, 2, minute, 0, 0, time.UTC) }
	runs := record.UnfinishedRuns{Before: 3, Events: 12_000}
	for n := range 3 {
		runs.Last = append(runs.Last, record.Unfinished{End: at(8 + n), Counted: at(7 + n), Events: uint64(1000 * (2 - n))})
	}
	runs.Last[1].Counted = time.Time{}
	empty := record.UnfinishedRuns{Last: []record.Unfinished{{End: at(1)}}}
	if got := unfinishedSentences(empty, time.UTC); len(got) != 1 || !strings.HasSuffix(got[0], ": it has no event and no interval yet (10 s)") {
		t.Errorf("a run that recorded nothing: %q", got)
	}
	want := []string{
		"3 runs without a summary before; 12,000 events are counted from their records",
		"run ended at 2026-11-27 02:08:00 without a summary (killed, or still running): counts end at its last interval, 2026-11-27 02:07:00; 2,000 later events are counted from their records",
		"run ended at 2026-11-27 02:09:00 without a summary (killed, or still running): it has no interval yet (10 s); 1,000 events are counted from their records",
		"run ended at 2026-11-27 02:10:00 without a summary (killed, or still running): counts end at its last interval, 2026-11-27 02:09:00",
	}
	if got := unfinishedSentences(runs, time.UTC); !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
}

// --count and filters choose what is shown; the summary is of all that was recorded.
func TestReplayCount(t *testing.T) {
	got := runWith(t, nil, "replay", "--count", "2", recordingOf(t, "night.jsonl", 40))
	if n := strings.Count(got.stdout, "too_many_slots   "); got.status != 0 || n != 2 || !strings.Contains(got.stdout, "3,000 packets seen") {
		t.Errorf("status %d, %d packets, want 2: %s\n%s", got.status, n, got.stderr, got.stdout)
	}
}

// What is no recording, or has nothing in the range, is distinguished from a recording without packets.
func TestReplayOfNothing(t *testing.T) {
	recording, other := recordingOf(t, "night.jsonl", 4), filepath.Join(t.TempDir(), "other")
	if err := os.WriteFile(other, []byte(strings.Repeat("text\n", 30)), 0o600); err != nil {
		t.Fatal(err)
	}
	page := filepath.Join(t.TempDir(), "page.html")
	for _, c := range []struct {
		args   string
		status int
		want   string
		lines  int // of standard error
	}{
		{"replay " + recording + " --since 2027-01-01", 0, "xentrace: nothing was recorded in this range; the recording covers 2026-11-27 ", 1},
		{"replay " + recording + " --since 1s --until 5s", 2, "range ends before it begins: from 2026-11-27 ", 1},
		{"report " + recording + " --since 2027-01-01 -w " + page, 2, "nothing was recorded in this range; the recording covers 2026-11-27 ", 1},
		{"replay " + other, 1, "damaged parts: 30; nothing can be read; is it a recording? (-v lists all, not only the first 10)", 11},
		{"replay -v " + other, 1, "damaged parts: 30; nothing can be read; is it a recording?\n", 31},
		{"report " + recording + " -w /nowhere/page.html", 2, "--write /nowhere/page.html: no such file or directory", 1},
		{"watch -w /dev/full", 2, "recording /dev/full: not a regular file; choose another name", 1},
	} {
		got := runWith(t, newFake(), strings.Fields(c.args)...)
		if n := strings.Count(got.stderr, "\n"); got.status != c.status || !strings.Contains(got.stderr, c.want) || n != c.lines {
			t.Errorf("%s: status %d, want %d; %d lines, want %d with %q:\n%s", c.args, got.status, c.status, n, c.lines, c.want, got.stderr)
		}
	}
}
