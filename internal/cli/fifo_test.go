package cli

import (
	"crypto/sha256"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
)

// A FIFO, as <(zcat x) is one, is read once: a second reading would wait for ever.
func TestReportFromAFIFO(t *testing.T) {
	written, err := os.ReadFile(recordingOf(t, "night.jsonl", 20))
	if err != nil {
		t.Fatal(err)
	}
	sum := fmt.Sprintf("%x", sha256.Sum256(written))
	for name, c := range map[string]struct {
		args   []string
		status int
		says   string
	}{
		"whole":             {nil, 0, ""},
		"from a time on":    {[]string{"--since", "2026-11-27T02:00:01Z"}, 0, ""},
		"before its end":    {[]string{"--since", "10s"}, 2, "not a regular file, and a time before its end needs two readings; copy it to a file, or give a date and time"},
		"up to before that": {[]string{"--until", "10s"}, 2, "not a regular file"},
	} {
		fifo := filepath.Join(t.TempDir(), "night.jsonl")
		if err := syscall.Mkfifo(fifo, 0o600); err != nil {
			t.Fatal(err)
		}
		stop := fed(t, fifo, written)
		page := filepath.Join(t.TempDir(), "x.html")
		got := runWith(t, nil, append([]string{"report", fifo, "-w", page}, c.args...)...)
		stop()
		html, _ := os.ReadFile(page) // none is made of what is refused
		if got.status != c.status || !strings.Contains(got.stderr, c.says) || c.status == 0 && !strings.Contains(string(html), sum) {
			t.Errorf("%s: status %d, %s; the hash %s is on the page: %v", name, got.status, got.stderr, sum, strings.Contains(string(html), sum))
		}
	}
}

// fed has the first reader of a FIFO get content, and others nothing.
func fed(t *testing.T, fifo string, content []byte) (stop func()) {
	t.Helper()
	var stopped atomic.Bool
	done := make(chan struct{})
	go func() {
		defer close(done)
		for rest := content; !stopped.Load(); rest = nil {
			f, err := os.OpenFile(fifo, os.O_WRONLY, 0)
			if err != nil {
				t.Error(err)
				return
			}
			_, _ = f.Write(rest) // none of the readers has to read on
			_ = f.Close()
		}
	}()
	return func() {
		stopped.Store(true)
		f, err := os.OpenFile(fifo, os.O_RDONLY|syscall.O_NONBLOCK, 0) // the writer waits for one
		if err != nil {
			t.Error(err)
			return
		}
		<-done
		_ = f.Close() // it was not read
	}
}
