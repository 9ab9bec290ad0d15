package cli

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/spf13/cobra"
)

func TestDurationDefaults(t *testing.T) {
	for name, want := range map[string]string{"watch": "", "hist": "10s", "probe": ""} {
		c, err := findCommand(commandLine().root(), name)
		if err != nil {
			t.Fatal(err)
		}
		if got := c.Flag("duration").DefValue; got != want {
			t.Errorf("%s runs for %q, want %q", name, got, want)
		}
	}
}

func TestReadyFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ready")
	fake := newFake()
	stale := errors.New("nothing was started")
	fake.before = func() { _, stale = os.Stat(path) }
	if got := runWith(t, fake, "watch", "-d", "10ms", "--ready-file", path); got.status != 0 {
		t.Fatal(got.err)
	}
	if !errors.Is(stale, os.ErrNotExist) {
		t.Errorf("there was a ready file before the hooks were attached, or none was looked for: %v", stale)
	}
	if text, err := os.ReadFile(path); err != nil || string(text) != fmt.Sprintln(os.Getpid()) {
		t.Errorf("ready file holds %q (%v)", text, err)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	fake = newFake()
	fake.err = errors.New("no")
	if got := runWith(t, fake, "watch", "--ready-file", path); got.status != 4 {
		t.Errorf("status %d", got.status)
	}
	if left, _ := os.ReadDir(filepath.Dir(path)); len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
}

// A file that exists is neither overwritten nor removed, whenever it appeared and whether
// xentrace starts or not.
func TestReadyFileThatExists(t *testing.T) {
	for name, test := range map[string]struct {
		make   func(path string) error
		before bool // xentrace starts
		status int
	}{
		"file":                {func(path string) error { return os.WriteFile(path, []byte("mine"), 0o644) }, true, 2},
		"link to nowhere":     {func(path string) error { return os.Symlink("/nonexistent", path) }, true, 2},
		"directory":           {func(path string) error { return os.Mkdir(path, 0o755) }, true, 2},
		"file made meanwhile": {func(path string) error { return os.WriteFile(path, []byte("mine"), 0o644) }, false, 4},
		"link made meanwhile": {func(path string) error { return os.Symlink("/nonexistent", path) }, false, 4},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "ready")
			fake := newFake()
			var made error
			if test.before {
				made = test.make(path)
				fake.err = errors.New("no")
			} else {
				fake.before = func() { made = test.make(path) }
			}
			got := runWith(t, fake, "watch", "-d", "10ms", "--ready-file", path)
			if made != nil {
				t.Fatal(made)
			}
			if got.status != test.status || !strings.Contains(got.stderr, "ready file "+path+" exists") {
				t.Errorf("status %d, stderr %q", got.status, got.stderr)
			}
			if info, err := os.Lstat(path); err != nil || info.Mode().IsRegular() && info.Size() != int64(len("mine")) {
				t.Errorf("the file is gone or overwritten: %v, %v", info, err)
			}
			if left, _ := os.ReadDir(filepath.Dir(path)); len(left) != 1 {
				t.Errorf("left behind: %v", left)
			}
		})
	}
}

// --duration bounds the wait for an interface, and what is left of it the run.
func TestDurationBoundsTheWait(t *testing.T) {
	for _, command := range []string{"watch", "hist"} {
		fake := newFake()
		fake.waits, fake.startup = true, time.Hour
		got := runWith(t, fake, command, "--wait", "-d", "50ms", "-o", "json")
		if got.status != 3 || !strings.HasSuffix(got.stderr, "xentrace: cannot run here: no interface appeared within --duration 50ms\n") {
			t.Errorf("%s: status %d, stderr %q", command, got.status, got.stderr)
		}
		if strings.Count(got.stdout, "\n") != 1 || !strings.HasPrefix(got.stdout, `{"type":"summary"`) || !strings.Contains(got.stdout, `"recursion":"nothing was attached"`) {
			t.Errorf("%s: stdout %q", command, got.stdout)
		}
	}
	fake := newFake()
	fake.waits, fake.startup = true, 100*time.Millisecond
	got := runWith(t, fake, "watch", "--wait", "-d", "10m100ms", "--count", "3")
	if got.status != 0 || !fake.closed.Load() {
		t.Errorf("it appeared: status %d, stderr %q", got.status, got.stderr)
	}
	w := wait{limit: time.Minute, began: time.Now().Add(-40 * time.Second)}
	if left := w.rest(time.Minute); left > 20*time.Second || left < time.Second {
		t.Errorf("40 s of a minute waited, and %v are left", left)
	}
	for _, w := range []wait{{limit: time.Minute}, {began: time.Now().Add(-time.Hour)}} {
		if left := w.rest(time.Minute); left != time.Minute {
			t.Errorf("%v are left, want all", left)
		}
	}
}

// The time that hist and congestion take by default does not bound a wait.
func TestDefaultDurationDoesNotBoundTheWait(t *testing.T) {
	var bounds []time.Duration
	for _, args := range []string{"", "-d 10s"} {
		o := commandLine().newTracing()
		o.duration = histDuration
		c := &cobra.Command{}
		o.flags(c)
		if err := c.ParseFlags(strings.Fields(args)); err != nil {
			t.Fatal(err)
		}
		bounds = append(bounds, o.limit)
	}
	if bounds[0] != 0 || bounds[1] != 10*time.Second {
		t.Errorf("bounds %v, want none and 10s", bounds)
	}
}
