package record

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"xentrace/internal/event"
	"xentrace/internal/output"
	"xentrace/test/memory"
	"xentrace/test/need"
)

// A frame of some kilobytes may hold 64 MiB of the shortest events.
func TestFrameThatUnpacksToVeryMuch(t *testing.T) {
	w, err := newFrameWriter()
	if err != nil {
		t.Fatal(err)
	}
	const line = `{"type":"notice"}` + "\n"
	frame := w.frame(bytes.Repeat([]byte(line), (64<<20)/len(line)))
	if len(frame) > 64<<10 {
		t.Fatalf("%d bytes", len(frame))
	}
	lines, largest := 0, 0
	err = readLines(bytes.NewReader(frame), true, func(c chunk) error {
		lines, largest = lines+bytes.Count(c.lines, []byte("\n")), max(largest, len(c.lines))
		return nil
	}, func(_ int64, reason string) { t.Error(reason) })
	if err != nil || lines != (64<<20)/len(line) || largest > readBytes {
		t.Errorf("%d lines, the largest chunk has %d bytes, error %v: want at most %d", lines, largest, err, readBytes)
	}
}

// A line that is too long is not parsed, in a frame neither.
func TestLongLineInAFrame(t *testing.T) {
	w, err := newFrameWriter()
	if err != nil {
		t.Fatal(err)
	}
	frame := w.frame([]byte("{}\n" + strings.Repeat("x", maxLineBytes) + "\n{}\n"))
	var chunks, damages []string
	err = readLines(bytes.NewReader(frame), true, func(c chunk) error {
		chunks = append(chunks, string(c.lines))
		return nil
	}, func(_ int64, reason string) { damages = append(damages, reason) })
	if err != nil || strings.Join(chunks, "") != "{}\n{}\n" || len(damages) != 1 {
		t.Errorf("%d chunks, damage %v, error %v", len(chunks), damages, err)
	}
}

// Each beginning of an object is where one may follow: a line of nothing else takes neither
// stack nor time.
func TestLineOfBeginnings(t *testing.T) {
	beginning := []byte(`{"type":"packet"`)
	line := bytes.Repeat(beginning, maxLineBytes/len(beginning))
	memory.Within(t, 64<<20, func() {
		if items := parseLine("x", 0, line); len(items) != maxObjects+1 {
			t.Errorf("%d items, want %d", len(items), maxObjects+1)
		}
	})
}

// What takes the place of a segment after the directory was read is not opened.
func TestSegmentThatIsReplaced(t *testing.T) {
	for name, replace := range map[string]func(path string) error{
		"by a FIFO": func(path string) error { return syscall.Mkfifo(path, 0o600) },
		"by a link": func(path string) error { return os.Symlink("/proc/self/status", path) },
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), segmentName(1, time.Unix(0, 0)))
			if err := os.WriteFile(path, nil, 0o600); err != nil {
				t.Fatal(err)
			}
			files, err := filesOf(filepath.Dir(path))
			if err != nil || len(files) != 1 {
				t.Fatal(files, err)
			}
			if err := errors.Join(os.Remove(path), replace(path)); err != nil {
				t.Fatal(err)
			}
			if end, err := os.OpenFile(path, os.O_RDWR, 0); err == nil { // of a FIFO: opening the other one does not block
				defer end.Close()
			}
			if f, err := files[0].open(); err == nil {
				t.Error("it is opened")
				_ = f.Close()
			}
		})
	}
}

// After the greatest number there is none.
func TestSegmentWithTheGreatestNumber(t *testing.T) {
	path := t.TempDir()
	for _, name := range []string{"xentrace-9223372036854775807-x.jsonl", "xentrace-1000000000001-x.jsonl", "xentrace-00000007-x.jsonl"} {
		if err := os.WriteFile(filepath.Join(path, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	d := &directory{path: path, limits: Limits{MaxBytes: MinBytes}}
	if err := d.open(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = d.close() }()
	if err := d.write([]byte("{}\n"), func(int) []byte { return nil }); err != nil {
		t.Fatal(err)
	}
	if n, is := segmentNumber(d.active.name); !is || n != 8 || len(d.finished) != 1 {
		t.Errorf("segment %s behind %d others, want number 8 behind 1", d.active.name, len(d.finished))
	}
}

// A file that took the place of an empty recording is not removed.
func TestOnlyItsOwnRecordingIsRemoved(t *testing.T) {
	for name, test := range map[string]struct{ replaced, kept bool }{"its own": {false, false}, "of another": {true, true}} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "x.jsonl")
			s, err := Create(path)
			if err != nil {
				t.Fatal(err)
			}
			if test.replaced {
				if err := errors.Join(os.Remove(path), os.WriteFile(path, nil, 0o600)); err != nil {
					t.Fatal(err)
				}
			}
			if err := s.close(); err != nil {
				t.Fatal(err)
			}
			if _, err := os.Lstat(path); (err == nil) != test.kept {
				t.Errorf("error %v, want that it is kept: %v", err, test.kept)
			}
		})
	}
}

// As root only a directory is given to the user, and files, that were made for recordings.
func TestWhatIsGivenToTheUser(t *testing.T) {
	need.Root(t, "to change owners")
	const user = 65534
	for name, c := range map[string]struct {
		prepare func(t *testing.T, directory string)
		given   bool
	}{
		"new":             {func(*testing.T, string) {}, true},
		"of root, empty":  {func(t *testing.T, d string) { try(t, os.Mkdir(d, 0o755)) }, true},
		"of the user":     {func(t *testing.T, d string) { try(t, os.Mkdir(d, 0o755)); try(t, os.Chown(d, user, user)) }, true},
		"of another user": {func(t *testing.T, d string) { try(t, os.Mkdir(d, 0o755)); try(t, os.Chown(d, 1000, 1000)) }, false},
		"with other files": {func(t *testing.T, d string) {
			try(t, os.Mkdir(d, 0o755))
			try(t, os.WriteFile(d+"/passwd", []byte("root"), 0o644))
		}, false},
		"link to one with other files": {func(t *testing.T, d string) {
			try(t, os.WriteFile(filepath.Dir(d)+"/passwd", []byte("root"), 0o644))
			try(t, os.Symlink(filepath.Dir(d), d))
		}, false},
		"lock is a hard link": {func(t *testing.T, d string) {
			try(t, os.Mkdir(d, 0o755))
			try(t, os.WriteFile(d+".shadow", []byte("root"), 0o600))
			try(t, os.Link(d+".shadow", d+"/lock"))
		}, false},
		"lock is a FIFO": {func(t *testing.T, d string) {
			try(t, os.Mkdir(d, 0o755))
			try(t, syscall.Mkfifo(d+"/lock", 0o600))
		}, false},
	} {
		t.Run(name, func(t *testing.T) {
			directory := filepath.Join(t.TempDir(), "rec")
			c.prepare(t, directory)
			store, err := OpenDirectory(directory, Limits{MaxBytes: MinBytes}, user, user)
			if err == nil {
				try(t, store.close())
			}
			if (err == nil) != c.given {
				t.Errorf("error %v, want one: %v", err, !c.given)
			}
			for _, path := range []string{filepath.Dir(directory) + "/passwd", directory + "/passwd", directory + ".shadow"} {
				if info, err := os.Stat(path); err == nil && info.Sys().(*syscall.Stat_t).Uid != 0 {
					t.Errorf("%s was given away", path)
				}
			}
		})
	}
}

func try(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// What others planted in a directory is no segment: to open a FIFO or a device waits or acts.
func TestPlantedSegments(t *testing.T) {
	directory := t.TempDir()
	try(t, os.WriteFile(directory+"/xentrace-00000001-a.jsonl", linesOf(small()...), 0o600))
	try(t, syscall.Mkfifo(directory+"/xentrace-00000002-a.jsonl", 0o600))
	try(t, os.Symlink("/dev/zero", directory+"/xentrace-00000003-a.jsonl"))
	files, err := filesOf(directory)
	if err != nil || len(files) != 1 || filepath.Base(files[0].path) != "xentrace-00000001-a.jsonl" {
		t.Errorf("%v, %v: want the first", files, err)
	}
	if _, err := Open(context.Background(), []string{directory}, ReadOptions{}); err != nil {
		t.Error(err)
	}
}

// kept returns the bytes that are in use, what nobody refers to left out.
func kept() uint64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// A recording may have any number of runs, each of a boot of its own. What was read to its end
// is added up and forgotten: 50 bytes for each run would be too much.
func TestMemoryOfManyRuns(t *testing.T) {
	const runs, limit = 50_000, 50 * 50_000
	s := &Source{boots: boots{known: make(map[string]boot)}}
	from := &recording{}
	before := kept()
	for n := range runs {
		start := &event.Start{Time: at(n), Segment: 1, BootID: fmt.Sprint("boot-", n)}
		s.align(from, start)
		s.summaries.add(from, start)
		s.summaries.add(from, &event.Packet{Time: at(n)})
	}
	used := int64(kept()) - int64(before)
	unfinished := s.Unfinished()
	if used > limit {
		t.Errorf("%d bytes are kept of %d runs, limit is %d", used, runs, limit)
	}
	if unfinished.Before != runs-mostUnfinished || unfinished.Events != runs-mostUnfinished || len(unfinished.Last) != mostUnfinished || !unfinished.Last[2].End.Equal(at(runs-1)) {
		t.Errorf("%+v, want %d runs with an event each", unfinished, runs)
	}
	if all := s.summaries.all(); all.runs != runs || !all.sum.Time.Equal(at(runs-1)) {
		t.Errorf("%d runs until %v, want %d", all.runs, all.sum.Time, runs)
	}
	runtime.KeepAlive(s)
}

// A boot that is remembered places its runs; one that was forgotten is new.
func TestForgottenBoots(t *testing.T) {
	b := boots{known: make(map[string]boot)}
	start := func(boot, second int) *event.Start {
		return &event.Start{BootID: fmt.Sprint(boot), Time: at(second), Uptime: time.Duration(second) * time.Second}
	}
	for n := range mostBoots {
		b.of(start(n, n))
	}
	if first := b.of(start(0, 7000)); !first.wall.Equal(at(0)) {
		t.Errorf("the oldest is placed at %v, want %v", first.wall, at(0))
	}
	b.of(start(mostBoots, 8000))
	if first := b.of(start(1, 9000)); !first.wall.Equal(at(1)) {
		t.Errorf("the second is placed at %v, want %v", first.wall, at(1))
	}
	if first := b.of(start(0, 9000)); !first.wall.Equal(at(9000)) || len(b.known) != mostBoots || len(b.order) != mostBoots {
		t.Errorf("the forgotten one is placed at %v, want %v; %d are known", first.wall, at(9000), len(b.known))
	}
	long := start(0, 1)
	long.BootID = strings.Repeat("x", maxBootID+1)
	if b.of(long); len(b.known) != mostBoots {
		t.Error("a long name is kept")
	}
}

// What runs counted is the same sum, in whatever order they end: one that is the only one that
// counted has its own summary.
func TestSumOfRuns(t *testing.T) {
	young, counted := []event.Event{started(50)}, []event.Event{started(0), interval(10, 2)}
	whole := append(slices.Clone(counted), &event.Summary{Totals: event.Totals{Time: at(11), Events: 77}, Filter: []string{"--pid 1"}})
	for name, c := range map[string]struct {
		runs    [][]event.Event
		dropped uint64
		events  uint64
		own     bool
		end     int
	}{
		"one":                              {[][]event.Event{whole}, 0, 77, true, 11},
		"young":                            {[][]event.Event{young}, 0, 0, false, 50},
		"young, then one":                  {[][]event.Event{young, whole}, 0, 77, true, 11},
		"one, then young ones":             {[][]event.Event{whole, young, young}, 0, 77, true, 11},
		"two":                              {[][]event.Event{whole, whole}, 0, 154, false, 11},
		"one, and two that did not finish": {[][]event.Event{counted, whole, counted}, 4, 81, false, 11},
	} {
		s := &summaries{}
		from := &recording{}
		for _, e := range slices.Concat(c.runs...) {
			s.add(from, e)
		}
		for range 2 { // it is asked for more than once
			got := s.summary()
			if got.Sum().Dropped != c.dropped || got.Events != c.events || (len(got.Filter) == 1) != c.own || !got.Time.Equal(at(c.end)) {
				t.Errorf("%s: %d dropped, %d events, own is %v, until %v: want %+v", name, got.Sum().Dropped, got.Events, len(got.Filter) == 1, got.Time, c)
			}
		}
	}
}

// What a line makes of memory is bounded by what it holds, not only by its length: an interface
// is written with 2 bytes and takes 3 KiB.
func TestDenseLines(t *testing.T) {
	many := func(begin, value, end string) string {
		return begin + strings.Repeat(value+",", (maxLineBytes-len(begin)-len(end))/(len(value)+1)-1) + value + end
	}
	text := func(n int) string { return `"` + strings.Repeat("a", n) + `"` }
	for name, c := range map[string]struct{ line, reason string }{
		"interfaces":      {many(`{"type":"interval","interfaces":[`, "{}", "]}"), "list of more than 2048 values"},
		"nulls":           {many(`{"type":"summary","interfaces":[`, "null", "]}"), "list of more than 2048 values"},
		"flows":           {many(`{"type":"summary","flows":[`, "{}", "]}"), "list of more than 32768 values"},
		"advice of many":  {many(`{"type":"start","format":1,"check":[`, `{"advice":[{},{},{},{},{},{},{},{},{}]}`, "]}"), "list of more than 32768 values"},
		"keys":            {many(`{"type":"interval","missing":{`, `"a":"b"`, "}}"), "more than 262144 values"},
		"nested":          {`{"type":"start","check":` + strings.Repeat("[", 5000), "values nested more than 32 deep"},
		"text":            {`{"type":"notice","id":"x","reason":` + text(maxText+1) + "}", "text of more than 16384 bytes"},
		"key":             {`{"type":"notice","id":"x",` + text(5000) + ":1}", "text of more than 256 bytes"},
		"notice":          {`{"type":"notice","id":"x","a":[` + text(maxText) + strings.Repeat(","+text(maxText), 4) + "]}", "notice of more than 65536 bytes"},
		"type at the end": {`{"id":"x","a":[` + text(maxText) + strings.Repeat(","+text(maxText), 4) + `],"type":"notice"}`, "notice of more than 65536 bytes"},
		"quotes":          {`{"type":"notice","id":"x","reason":"` + strings.Repeat(`\"[`, 3000) + `"}`, ""},
		"unknown type":    {many(`{"type":"later","a":[`, "{}", "]}"), ""},
	} {
		if len(c.line) > maxLineBytes {
			t.Errorf("%s: %d bytes", name, len(c.line))
		}
		line := []byte(c.line)
		memory.Within(t, 4<<20, func() {
			_, err := parseObject(line)
			if reason := fmt.Sprint(err); c.reason != "" && reason != c.reason || c.reason == "" && err != nil && !errors.Is(err, output.ErrUnknownType) {
				t.Errorf("%s: %v, want %q", name, err, c.reason)
			}
		})
	}
}

// The largest that xentrace writes is read.
func TestLargestLines(t *testing.T) {
	summary, start := &event.Summary{}, &event.Start{Time: at(0), Format: event.Format}
	for n := range 577 {
		i := event.InterfaceTotals{Device: event.Device{Name: fmt.Sprint("interface-", n), Index: 1 + n, NetNS: 1}, Reasons: make(map[string]uint64)}
		for slots := range i.Slots {
			i.Slots[slots] = 1 << 40
		}
		for r := range 100 {
			i.Reasons[fmt.Sprint("SKB_DROP_REASON_", r)] = 1 << 40
		}
		summary.Interfaces = append(summary.Interfaces, i)
		start.Interfaces = append(start.Interfaces, event.StartInterface{Device: i.Device, Features: map[string]bool{"tx-scatter-gather": true}})
		for f := range 12 {
			start.Check = append(start.Check, event.Finding{ID: event.FindingID(fmt.Sprint(f)), Interface: i.Name, Advice: []event.Advice{{ID: "a", Command: "c"}, {ID: "b"}}})
		}
	}
	frames := make([]string, 127)
	for i := range frames {
		frames[i] = strings.Repeat("p", 4096)
	}
	p := packet(1, 20)
	p.Stack, p.Header = frames, make([]byte, 256)
	for _, e := range []event.Event{summary, start, p} {
		line := bytes.TrimSpace(linesOf(e))
		if got, err := parseObject(line); err != nil || got.Type() != e.Type() {
			t.Errorf("%s of %d bytes: %v", e.Type(), len(line), err)
		}
	}
}
