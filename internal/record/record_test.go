package record

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"xentrace/internal/event"
	"xentrace/internal/output"
)

var began = time.Date(2026, 11, 27, 2, 10, 0, 0, time.UTC)

func at(seconds int) time.Time { return began.Add(time.Duration(seconds) * time.Second) }

func started(seconds int) *event.Start {
	return &event.Start{Time: at(seconds), Format: event.Format, Segment: 1, BootID: "boot", Uptime: time.Duration(1000+seconds) * time.Second, Command: []string{"xentrace", "record"}}
}

func packet(seconds, number int) *event.Packet {
	return &event.Packet{
		Time: at(seconds), Interface: event.Device{Name: "eth0", Index: 2, NetNS: 1}, Verdict: event.Dropped, Cause: event.TooManySlots, Slots: number, Limit: 18,
		Flow: &event.Flow{Proto: 6, Source: netip.MustParseAddrPort("10.0.0.1:40000"), Destination: netip.MustParseAddrPort("10.0.0.2:443")},
	}
}

func interval(end int, dropped uint64) *event.Interval {
	n := event.InterfaceTotals{Device: event.Device{Name: "eth0", Index: 2, NetNS: 1}, Driver: "xen-netfront", Backend: event.Fentry}
	n.Packets, n.Dropped, n.Slots[19], n.Causes[event.TooManySlots] = 10+dropped, dropped, dropped, dropped
	i := &event.Interval{Totals: event.Totals{Time: at(end), Duration: 10 * time.Second, Drops: event.DropsDriver, Interfaces: []event.InterfaceTotals{n}, Events: dropped}}
	if dropped > 0 {
		i.Explained = []event.Explanation{{Name: "too_many_slots", Verdict: event.Dropped, Meaning: "M.", Count: dropped, Advice: []event.Advice{{ID: "a", Command: "c"}}}}
	}
	return i
}

func linesOf(events ...event.Event) (lines []byte) {
	for _, e := range events {
		lines = output.Recording{}.Append(lines, e)
	}
	return lines
}

func framesOf(t *testing.T, each int, events ...event.Event) (stored []byte) {
	t.Helper()
	w, err := newFrameWriter()
	if err != nil {
		t.Fatal(err)
	}
	for group := range slices.Chunk(events, each) {
		stored = append(stored, w.frame(linesOf(group...))...)
	}
	return stored
}

func write(t *testing.T, path string, content []byte) string {
	t.Helper()
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// replay reads recordings whole: every event as a line, and the damage.
func replay(t *testing.T, o ReadOptions, paths ...string) (lines []string, damages []Damage, source *Source) {
	t.Helper()
	o.Damaged = func(d Damage) { damages = append(damages, d) }
	source, err := Open(t.Context(), paths, o)
	if err != nil {
		t.Fatal(err)
	}
	for {
		e, err := source.Next(t.Context())
		if errors.Is(err, io.EOF) {
			return lines, damages, source
		}
		if err != nil {
			t.Fatal(err)
		}
		lines = append(lines, string(linesOf(e)))
	}
}

func small() []event.Event {
	return []event.Event{started(0), packet(1, 31), packet(2, 32), interval(10, 2), packet(11, 33)}
}

// oneOfEach is an event of each type that a recording holds, as short as they come: the
// tests below take the square of their length.
func oneOfEach(t *testing.T) []event.Event {
	t.Helper()
	count := interval(10, 1)
	key := event.FlowKey{Proto: 6, Source: packet(1, 31).Flow.Source, Destination: packet(1, 31).Flow.Destination}
	flow := &event.FlowEvent{Time: at(3), Flow: event.FlowHistory{FlowKey: key, State: event.Stalled, Drops: 2, TCP: &event.FlowTCP{Seq: 7}}}
	whole := *packet(1, 31)
	whole.Header, whole.Frags, whole.Stack = []byte("header"), []event.Frag{{Offset: 1, Size: 2}}, []string{"xennet_start_xmit"}
	whole.TCP, whole.Inner, whole.Process = &event.TCP{Seq: 7}, whole.Flow, &event.Process{PID: 1, Comm: "nginx"}
	flow.Flow.Packet = whole
	all := []event.Event{
		started(0), &whole, flow, &event.Notice{Time: at(4), ID: event.NoticeClockStep, StepMS: 1}, count,
		&event.Summary{Totals: count.Totals, Explained: count.Explained, Flows: &event.FlowSummary{Flows: []event.FlowHistory{flow.Flow}}},
	}
	for i, e := range all {
		if e.Type() != eventTypes[i] {
			t.Fatalf("event %d is a %s, want a %s", i, e.Type(), eventTypes[i])
		}
	}
	return all
}

// eventTypes are those of a recording.
var eventTypes = [...]string{"start", "packet", "flow", "notice", "interval", "summary"}

// stored is a small recording, plain or compressed, and where each of its events ends.
func stored(t *testing.T, name string, events []event.Event) (content []byte, ends []int) {
	t.Helper()
	for n := range events {
		if strings.HasSuffix(name, compressedSuffix) {
			content = append(content, framesOf(t, 1, events[n])...)
		} else {
			content = append(content, linesOf(events[n])...)
		}
		ends = append(ends, len(content))
	}
	return content, ends
}

// readBack reads a recording that is in memory: every event as a line, and the damage.
func readBack(t *testing.T, name string, content []byte) (lines []string, damages []Damage) {
	t.Helper()
	err := readLines(bytes.NewReader(content), strings.HasSuffix(name, compressedSuffix), func(c chunk) error {
		for _, i := range parse(name, c) {
			if i.damage != nil {
				damages = append(damages, *i.damage)
			} else {
				lines = append(lines, string(linesOf(i.event)))
			}
		}
		return nil
	}, func(offset int64, reason string) { damages = append(damages, Damage{name, offset, reason}) })
	if err != nil {
		t.Fatal(err)
	}
	return lines, damages
}

var kinds = [...]string{"x.jsonl", "x.jsonl.zst"}

// forEachType runs a test on recordings in which an event of each type is between two
// others, plain and compressed.
func forEachType(t *testing.T, test func(t *testing.T, name string, events []event.Event)) {
	for n, e := range oneOfEach(t) {
		for _, name := range kinds {
			t.Run(eventTypes[n]+" in "+name, func(t *testing.T) {
				before, after := &event.Notice{Time: at(1), ID: event.NoticeWaiting}, &event.Notice{Time: at(2), ID: event.NoticeWaiting}
				test(t, name, []event.Event{before, e, after})
			})
		}
	}
}

// Wherever a recording is cut off, its whole lines, or frames, are shown, and the cut is
// reported once, with its place.
func TestCutAnywhere(t *testing.T) {
	forEachType(t, func(t *testing.T, name string, events []event.Event) {
		content, ends := stored(t, name, events)
		for cut := range len(content) + 1 {
			whole, end := 0, 0
			for whole < len(ends) && ends[whole] <= cut {
				whole, end = whole+1, ends[whole]
			}
			lines, damages := readBack(t, name, content[:cut])
			if len(lines) != whole || (cut == end) != (len(damages) == 0) || len(damages) > 1 {
				t.Fatalf("cut at %d of %d: %d events, want %d; damage %v", cut, len(content), len(lines), whole, damages)
			}
			if cut != end && (damages[0].Offset != int64(end) || !strings.Contains(damages[0].Reason, "cut off")) {
				t.Fatalf("cut at %d: %v, want a cut at %d", cut, damages[0], end)
			}
		}
	})
}

// Whichever byte is flipped, every other event is shown as it was. What is damaged is
// reported with its place, but for a byte of a plain line that leaves another valid line.
func TestEachByteFlipped(t *testing.T) {
	forEachType(t, func(t *testing.T, name string, events []event.Event) {
		var want []string
		for _, e := range events {
			want = append(want, string(linesOf(e)))
		}
		content, ends := stored(t, name, events)
		for n := range content {
			flipped := bytes.Clone(content)
			flipped[n] ^= []byte{1, 0x80, 0xff}[n%3]
			hit := slices.IndexFunc(ends, func(end int) bool { return n < end })
			lines, damages := readBack(t, name, flipped)
			for i, line := range want {
				if i != hit && !slices.Contains(lines, line) {
					t.Fatalf("byte %d: event %d of %d is not shown; damage %v", n, i, len(want), damages)
				}
			}
			start := int64(0)
			if hit > 0 {
				start = int64(ends[hit-1])
			}
			shown := slices.Contains(lines, want[hit])
			switch {
			case len(damages) == 0 && !shown && (strings.HasSuffix(name, compressedSuffix) || len(lines) < len(want)-1):
				t.Fatalf("byte %d: no damage reported, %d events", n, len(lines))
			case len(damages) > 0 && (damages[0].Offset < start || damages[0].Offset >= int64(ends[hit])):
				t.Fatalf("byte %d: damage at %d, want it from %d to %d", n, damages[0].Offset, start, ends[hit])
			}
		}
	})
}

// Recordings that were concatenated, compressed as a whole, or have metadata frames are read.
func TestForeignCompression(t *testing.T) {
	events := small()
	skippable := append([]byte{0x5f, 0x2a, 0x4d, 0x18, 3, 0, 0, 0}, "abc"...)
	for name, stored := range map[string][]byte{
		"two recordings":    slices.Concat(framesOf(t, 2, events...), framesOf(t, 3, events...)),
		"metadata":          slices.Concat(skippable, framesOf(t, 2, events...), skippable, framesOf(t, 1, events...)),
		"two plain ones":    slices.Concat(linesOf(events...), linesOf(events...)),
		"lines over frames": splitFrames(t, slices.Concat(linesOf(events...), linesOf(events...)), 100),
	} {
		lines, damages, _ := replay(t, ReadOptions{}, write(t, filepath.Join(t.TempDir(), "x"), stored))
		if len(lines) != 2*len(events) || len(damages) != 0 {
			t.Errorf("%s: %d events, want %d; damage %v", name, len(lines), 2*len(events), damages)
		}
	}
}

func splitFrames(t *testing.T, lines []byte, each int) (stored []byte) {
	w, err := newFrameWriter()
	if err != nil {
		t.Fatal(err)
	}
	for part := range slices.Chunk(lines, each) {
		stored = append(stored, w.frame(part)...)
	}
	return stored
}

// A range is counted by its intervals; what is outside is not shown.
func TestRange(t *testing.T) {
	events := []event.Event{started(0)}
	for n := range 6 {
		events = append(events, packet(10*n+5, 20+n), interval(10*n+10, uint64(n+1)))
	}
	path := write(t, filepath.Join(t.TempDir(), "x.jsonl"), linesOf(events...))
	for name, c := range map[string]struct {
		since, until Bound
		packets      int
		dropped      uint64
	}{
		"all":                  {Bound{}, Bound{}, 6, 21},
		"the last 25 seconds":  {Bound{Before: 25 * time.Second}, Bound{}, 3, 4 + 5 + 6},
		"from a time":          {Bound{At: at(41)}, Bound{}, 2, 5 + 6},
		"until a time":         {Bound{}, Bound{At: at(19)}, 2, 1 + 2},
		"between":              {Bound{At: at(21)}, Bound{At: at(29)}, 1, 3},
		"until before the end": {Bound{}, Bound{Before: 41 * time.Second}, 2, 1 + 2},
		"after the end":        {Bound{At: at(100)}, Bound{}, 0, 0},
	} {
		lines, _, source := replay(t, ReadOptions{Since: c.since, Until: c.until}, path)
		packets := 0
		for _, line := range lines {
			if strings.HasPrefix(line, `{"type":"packet"`) {
				packets++
			}
		}
		s := source.Summary()
		if packets != c.packets || s.Sum().Dropped != c.dropped || s.Events != c.dropped {
			t.Errorf("%s: %d packets, %d dropped, %d events; want %d, %d", name, packets, s.Sum().Dropped, s.Events, c.packets, c.dropped)
		}
		if c.dropped > 0 && (len(s.Explained) != 1 || s.Explained[0].Count != c.dropped || len(s.Explained[0].Advice) != 1) {
			t.Errorf("%s: explained %+v", name, s.Explained)
		}
	}
}

// A wall clock that is set back by an hour loses nothing to a range, and orders nothing anew.
func TestClockThatWasSet(t *testing.T) {
	back := &event.Notice{Time: at(20 - 3600), ID: event.NoticeClockStep, StepMS: -3600_000}
	path := write(t, filepath.Join(t.TempDir(), "x.jsonl"), linesOf(started(0), packet(5, 20), packet(15, 21), back, packet(25-3600, 22), packet(35-3600, 23)))
	lines, _, _ := replay(t, ReadOptions{Since: Bound{At: at(10)}}, path)
	if got := slotsOf(lines); got != "21 22 23" {
		t.Errorf("since 10 s, packets of %s slots, want 21 22 23", got)
	}
	// Another run of the same boot, which began after the clock was set, is merged by the time
	// since boot.
	second := started(40)
	second.Time = at(40 - 3600)
	other := write(t, filepath.Join(t.TempDir(), "y.jsonl"), linesOf(second, packet(45-3600, 24)))
	for _, paths := range [][]string{{other, path}, {path, other}} {
		lines, _, _ = replay(t, ReadOptions{}, paths...)
		if got := slotsOf(lines); got != "20 21 22 23 24" {
			t.Errorf("merged packets of %s slots, want 20 21 22 23 24", got)
		}
	}
}

func slotsOf(lines []string) string {
	var all []string
	for _, line := range lines {
		if e, err := output.Parse([]byte(line)); err == nil {
			if p, isPacket := e.(*event.Packet); isPacket {
				all = append(all, fmt.Sprint(p.Slots))
			}
		}
	}
	return strings.Join(all, " ")
}

// Several recordings are merged by time and add up.
func TestMerge(t *testing.T) {
	dir := t.TempDir()
	first, second := started(0), started(0)
	second.BootID = "another"
	a := write(t, filepath.Join(dir, "a.jsonl"), linesOf(first, packet(1, 20), packet(5, 22), interval(10, 2)))
	b := write(t, filepath.Join(dir, "b.jsonl.zst"), framesOf(t, 2, second, packet(3, 21), packet(7, 23), interval(10, 2)))
	lines, damages, source := replay(t, ReadOptions{}, a, b)
	if got := slotsOf(lines); got != "20 21 22 23" || len(damages) != 0 {
		t.Errorf("merged packets of %s slots, want 20 21 22 23; damage %v", got, damages)
	}
	if sum := source.Summary().Sum(); sum.Dropped != 4 || sum.Packets != 24 {
		t.Errorf("%d dropped of %d packets, want 4 of 24", sum.Dropped, sum.Packets)
	}
}

// A recording of a newer format is refused by name; keys and types that are not known are not.
func TestOtherVersions(t *testing.T) {
	newer := strings.Replace(string(linesOf(started(0))), `"format":1`, `"format":2`, 1)
	_, damages, _ := replay(t, ReadOptions{}, write(t, filepath.Join(t.TempDir(), "x.jsonl"), []byte(newer)))
	if len(damages) != 1 || !strings.Contains(damages[0].Reason, "format 2 is newer") {
		t.Errorf("damage %v, want that the format is newer", damages)
	}
	lines, damages, _ := replay(t, ReadOptions{}, write(t, filepath.Join(t.TempDir(), "x.jsonl"), []byte(`{"type":"later","a":[1]}`+"\n"+
		strings.Replace(string(linesOf(packet(1, 20))), `"cpu"`, `"later":{"b":2},"cpu"`, 1))))
	if len(lines) != 1 || len(damages) != 0 {
		t.Errorf("%d events, damage %v; want 1 and none", len(lines), damages)
	}
}

func TestWhatCannotBeOpened(t *testing.T) {
	for path, want := range map[string]string{
		filepath.Join(t.TempDir(), "none"): "no such file or directory",
		t.TempDir():                        "no segment in this directory",
	} {
		if _, err := Open(context.Background(), []string{path}, ReadOptions{}); err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), path) {
			t.Errorf("%v, want one with %q and the path", err, want)
		}
	}
}

func FuzzReplay(f *testing.F) {
	w, err := newFrameWriter()
	if err != nil {
		f.Fatal(err)
	}
	lines := linesOf(small()...)
	f.Add(lines)
	f.Add(bytes.Clone(w.frame(lines)))
	f.Add([]byte{0x28, 0xb5, 0x2f, 0xfd, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff})
	f.Fuzz(func(t *testing.T, stored []byte) {
		for _, compressed := range []bool{false, true} {
			bytesOut := 0
			err := readLines(bytes.NewReader(stored), compressed, func(c chunk) error {
				bytesOut += len(c.lines)
				parse("x", c)
				return nil
			}, func(int64, string) {})
			if err != nil {
				t.Error(err)
			}
		}
	})
}
