package cli

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

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
