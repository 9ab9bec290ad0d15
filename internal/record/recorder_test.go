package record

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"xentrace/internal/event"
	"xentrace/test/need"
)

// notices collects what a recorder reports.
type notices struct {
	mu  sync.Mutex
	all []event.Notice
	ch  chan event.NoticeID
}

func newNotices() *notices { return &notices{ch: make(chan event.NoticeID, 100)} }

func (n *notices) notify(e event.Notice) {
	n.mu.Lock()
	n.all = append(n.all, e)
	n.mu.Unlock()
	n.ch <- e.ID
}

// wait waits for a notice.
func (n *notices) wait(t *testing.T, id event.NoticeID) event.Notice {
	t.Helper()
	if got := <-n.ch; got != id {
		t.Fatalf("notice %s, want %s", got, id)
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.all[len(n.all)-1]
}

// failing is a store that fails while err is set.
type failing struct {
	Store
	mu  sync.Mutex
	err error
}

func (f *failing) set(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.err = err
}

func (f *failing) write(lines []byte, start func(int) []byte) error {
	f.mu.Lock()
	err := f.err
	f.mu.Unlock()
	if err != nil {
		return err
	}
	return f.Store.write(lines, start)
}

func create(t *testing.T, path string) Store {
	t.Helper()
	store, err := Create(path)
	if err != nil {
		t.Fatal(err)
	}
	return store
}

func emit(t *testing.T, r *Recorder, events ...event.Event) {
	t.Helper()
	for _, e := range events {
		if err := r.Emit(e); err != nil {
			t.Fatal(err)
		}
	}
}

// What is emitted, before Begin and after it, is read back in order.
func TestRecorder(t *testing.T) {
	for _, name := range kinds {
		path := filepath.Join(t.TempDir(), name)
		r := NewRecorder(create(t, path), func(n event.Notice) { t.Errorf("notice %+v", n) })
		emit(t, r, &event.Notice{Time: at(0), ID: event.NoticeWaiting})
		r.Begin(started(0))
		emit(t, r, packet(1, 20), packet(2, 21), interval(10, 2))
		if err := r.Close(); err != nil {
			t.Fatal(err)
		}
		lines, damages, source := replay(t, ReadOptions{}, path)
		if len(lines) != 5 || len(damages) != 0 || slotsOf(lines) != "20 21" || source.Summary().Sum().Dropped != 2 {
			t.Errorf("%s: %q, damage %v", name, lines, damages)
		}
		if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: mode %v, %v; want 0600", name, info.Mode(), err)
		}
		if _, err := Create(path); err == nil || !strings.Contains(err.Error(), "file exists") {
			t.Errorf("%s: made again: %v", name, err)
		}
	}
}

// While writes fail, recording is paused; nothing that fits in memory is lost, intervals
// never are, and what was lost is counted where it resumes.
func TestPauseAndResume(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.jsonl")
	store, n := &failing{Store: create(t, path)}, newNotices()
	r := NewRecorder(store, n.notify)
	store.set(unix.ENOSPC)
	r.Begin(started(0))
	if paused := n.wait(t, event.NoticeRecordingPaused); paused.Reason != unix.ENOSPC.Error() {
		t.Errorf("paused: %+v", paused)
	}
	emit(t, r, packet(1, 20), interval(10, 1))
	big := packet(2, 21)
	big.Stack = slices.Repeat([]string{strings.Repeat("x", maxText)}, 32)
	const bigs = maxPending / (32 * maxText)
	for range bigs {
		emit(t, r, big)
	}
	emit(t, r, packet(3, 22), packet(4, 23), interval(20, 2), interval(30, 3))
	store.set(nil)
	if resumed := n.wait(t, event.NoticeRecordingResumed); resumed.Count != 2 {
		t.Errorf("resumed: %+v, want 2 events lost", resumed)
	}
	emit(t, r, interval(40, 4), packet(41, 24))
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	lines, damages, source := replay(t, ReadOptions{}, path)
	if got, want := slotsOf(lines), "20"+strings.Repeat(" 21", bigs)+" 24"; got != want {
		t.Errorf("packets of %s slots, want %s; damage %v", got, want, damages)
	}
	if sum := source.Summary().Sum(); sum.Dropped != 1+2+3+4+1 {
		t.Errorf("%d dropped, want 11: no interval is lost, and the last packet counts by its record", sum.Dropped)
	}
	if !strings.Contains(strings.Join(lines, ""), `"id":"recording_resumed"`) {
		t.Error("the recording does not hold that it was paused")
	}
}

// An error that lasts is what Close returns.
func TestErrorThatLasts(t *testing.T) {
	store, n := &failing{Store: create(t, filepath.Join(t.TempDir(), "x"))}, newNotices()
	store.set(unix.EROFS)
	r := NewRecorder(store, n.notify)
	r.Begin(started(0))
	n.wait(t, event.NoticeRecordingPaused)
	if err := r.Close(); !errors.Is(err, unix.EROFS) {
		t.Errorf("%v, want %v", err, unix.EROFS)
	}
}

// blocked is a store whose writes never return.
type blocked struct{ Store }

func (blocked) write([]byte, func(int) []byte) error { select {} }

// A disk that does not answer delays neither Emit nor, for ever, the end.
func TestDiskThatDoesNotAnswer(t *testing.T) {
	r := NewRecorder(blocked{}, func(event.Notice) {})
	r.patience = time.Millisecond
	r.Begin(started(0))
	for n := range 100 {
		emit(t, r, packet(n, n))
	}
	if err := r.Close(); err == nil || !strings.Contains(err.Error(), "the disk does not answer") {
		t.Errorf("%v, want that the disk does not answer", err)
	}
}

// tmpfs mounts a small file system.
func tmpfs(t *testing.T, size string) string {
	t.Helper()
	need.Root(t, "to mount a small file system")
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size="+size); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, 0); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// A full or read-only directory pauses a recording, which then resumes, and what was written
// before is whole. One that was removed is made again at once.
func TestDirectoryThatFails(t *testing.T) {
	for name, c := range map[string]struct {
		fail, mend func(t *testing.T, dir string)
	}{
		"full": {
			func(t *testing.T, dir string) {
				var stat unix.Statfs_t
				if err := unix.Statfs(dir, &stat); err != nil {
					t.Fatal(err)
				}
				write(t, filepath.Join(dir, "other"), make([]byte, int64(stat.Bavail)*stat.Bsize))
			},
			func(t *testing.T, dir string) { _ = os.Remove(filepath.Join(dir, "other")) },
		},
		"read-only": {
			func(t *testing.T, dir string) {
				if err := unix.Mount("", dir, "", unix.MS_REMOUNT|unix.MS_RDONLY, ""); err != nil && !errors.Is(err, unix.EBUSY) {
					t.Fatal(err)
				}
			},
			func(t *testing.T, dir string) { _ = unix.Mount("", dir, "", unix.MS_REMOUNT, "") },
		},
		"removed": {
			func(t *testing.T, dir string) { remove(t, filepath.Join(dir, "rec")) },
			func(*testing.T, string) {}, // it is made again
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir := tmpfs(t, "64m")
			d, err := OpenDirectory(filepath.Join(dir, "rec"), Limits{MaxBytes: 8 << 20}, os.Getuid(), os.Getgid())
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = d.close() }()
			first := func(segment int) []byte { s := started(0); s.Segment = segment; return linesOf(s) }
			if err := d.write(linesOf(packet(1, 20)), first); err != nil {
				t.Fatal(err)
			}
			c.fail(t, dir)
			failed := d.write(linesOf(packet(2, 21)), first)
			if failed == nil && name == "full" { // a file that is open for writing may keep tmpfs writable
				t.Fatal("no error")
			}
			c.mend(t, dir)
			if err := d.write(linesOf(packet(3, 22)), first); err != nil {
				t.Fatalf("not resumed: %v", err)
			}
			lines, damages, _ := replay(t, ReadOptions{}, filepath.Join(dir, "rec"))
			want := map[string]string{"full": "20 22", "read-only": "20 21 22", "removed": "21 22"}[name]
			if failed != nil && name == "read-only" {
				want = "20 22"
			}
			if got := slotsOf(lines); got != want || len(damages) != 0 {
				t.Errorf("packets of %s slots, want %s; error %v, damage %v", got, want, failed, damages)
			}
		})
	}
}

func remove(t *testing.T, path string) {
	t.Helper()
	if err := os.RemoveAll(path); err != nil {
		t.Fatal(err)
	}
}

// A second recorder is refused, and a restart begins a new segment.
func TestOneRecorderAndRestarts(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a", "rec")
	first := func(segment int) []byte { s := started(0); s.Segment = segment; return linesOf(s) }
	for run := range 3 {
		d, err := OpenDirectory(dir, Limits{MaxBytes: 8 << 20}, os.Getuid(), os.Getgid())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := OpenDirectory(dir, Limits{MaxBytes: 8 << 20}, os.Getuid(), os.Getgid()); err == nil || !strings.Contains(err.Error(), "another xentrace records there") {
			t.Errorf("second recorder: %v", err)
		}
		if err := d.write(linesOf(packet(run, 20+run)), first); err != nil {
			t.Fatal(err)
		}
		if err := d.close(); err != nil {
			t.Fatal(err)
		}
	}
	lines, _, _ := replay(t, ReadOptions{}, dir)
	if got := slotsOf(lines); got != "20 21 22" || len(segmentsIn(t, dir)) != 3 {
		t.Errorf("packets of %s slots in %v", got, segmentsIn(t, dir))
	}
	info, err := os.Stat(dir)
	if err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("mode %v, %v; want 0700", info.Mode(), err)
	}
}

func segmentsIn(t *testing.T, dir string) []string {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(dir, segmentPrefix+"*"))
	if err != nil {
		t.Fatal(err)
	}
	return names
}

// sizeOf is how many bytes the files of a directory take.
func sizeOf(t *testing.T, dir string) (size int64) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, entry := range entries {
		info, err := entry.Info()
		if err != nil {
			t.Fatal(err)
		}
		size += info.Size()
	}
	return size
}

// The directory never takes more than it may, files of others included; the oldest segments
// are deleted for new ones, and nothing of others is.
func TestSizeLimit(t *testing.T) {
	dir := t.TempDir()
	const others = 300 << 10
	write(t, filepath.Join(dir, "notes.txt"), make([]byte, others))
	d, err := OpenDirectory(dir, Limits{MaxBytes: MinBytes}, os.Getuid(), os.Getgid())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = d.close() }()
	first := func(segment int) []byte { s := started(0); s.Segment = segment; return linesOf(s) }
	random := make([]byte, 5000)
	written := int64(0)
	for n := range 600 {
		p := packet(n, n)
		for i := range random {
			random[i] = byte(n*i*i + i>>3 + n>>2)
		}
		p.Header = random
		if err := d.write(linesOf(p), first); err != nil {
			t.Fatal(err)
		}
		written += int64(len(linesOf(p)))
		if size := sizeOf(t, dir); size > MinBytes {
			t.Fatalf("%d bytes after %d packets, limit %d", size, n, MinBytes)
		}
	}
	if _, err := os.Stat(filepath.Join(dir, "notes.txt")); err != nil {
		t.Error(err)
	}
	lines, damages, _ := replay(t, ReadOptions{}, dir)
	if len(damages) != 0 || !strings.HasSuffix(" "+slotsOf(lines), " 599") || sizeOf(t, dir) < MinBytes*8/10 {
		t.Errorf("%d events, damage %v, %d bytes of %d written", len(lines), damages, sizeOf(t, dir), written)
	}
}

// Segments that were last written too long ago are deleted.
func TestAgeLimit(t *testing.T) {
	dir := t.TempDir()
	old := filepath.Join(dir, segmentName(7, at(0)))
	write(t, old, framesOf(t, 1, started(0)))
	if err := os.Chtimes(old, time.Time{}, time.Now().Add(-25*time.Hour)); err != nil {
		t.Fatal(err)
	}
	d, err := OpenDirectory(dir, Limits{MaxBytes: MinBytes, MaxAge: 24 * time.Hour}, os.Getuid(), os.Getgid())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = d.close() }()
	if err := d.write(linesOf(packet(1, 20)), func(int) []byte { return linesOf(started(0)) }); err != nil {
		t.Fatal(err)
	}
	names := segmentsIn(t, dir)
	if n, _ := segmentNumber(filepath.Base(names[0])); len(names) != 1 || n != 8 {
		t.Errorf("segments %v, want number 8 alone", names)
	}
}
