package record

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

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
	paths, err := Paths(directory)
	if err != nil || len(paths) != 1 || filepath.Base(paths[0]) != "xentrace-00000001-a.jsonl" {
		t.Errorf("%v, %v: want the first", paths, err)
	}
	if _, err := Open(context.Background(), []string{directory}, ReadOptions{}); err != nil {
		t.Error(err)
	}
}
