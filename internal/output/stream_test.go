package output

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"xentrace/internal/event"
)

// A recorder keeps each write apart.
type recorder struct {
	mu     sync.Mutex
	writes [][]byte
	gate   chan struct{} // if not nil, each write waits for it
}

func (r *recorder) Write(b []byte) (int, error) {
	if r.gate != nil {
		<-r.gate
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.writes = append(r.writes, bytes.Clone(b))
	return len(b), nil
}

func (r *recorder) all() (writes int, text string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.writes), string(bytes.Join(r.writes, nil))
}

func TestStreamKeepsLinesWholeAndInOrder(t *testing.T) {
	const n = 100_000
	r := &recorder{}
	s := NewStream(r)
	var want strings.Builder
	for i := range n {
		line := fmt.Sprintf("%d %s\n", i, strings.Repeat("x", i%300))
		want.WriteString(line)
		if _, err := s.Write([]byte(line)); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	writes, got := r.all()
	if got != want.String() {
		t.Fatalf("%d bytes came out, %d went in, or not in order", len(got), want.Len())
	}
	for i, w := range r.writes {
		if w[len(w)-1] != '\n' {
			t.Fatalf("write %d of %d ends inside a line", i, writes)
		}
	}
	if writes > n/100 {
		t.Errorf("%d writes for %d lines", writes, n)
	}
}

func TestStreamWritesALoneLineAtOnce(t *testing.T) {
	r := &recorder{}
	s := NewStream(r)
	defer s.Close()
	for i := range 3 {
		began := time.Now()
		_, _ = s.Write([]byte("line\n"))
		for writes, _ := r.all(); writes <= i; writes, _ = r.all() {
			if time.Since(began) > time.Minute {
				t.Fatal("the line was not written")
			}
			time.Sleep(time.Millisecond)
		}
		t.Logf("written after %v", time.Since(began))
		time.Sleep(2 * writeInterval)
	}
}

func TestStreamWaitsForASlowReader(t *testing.T) {
	r := &recorder{gate: make(chan struct{})}
	s := NewStream(r)
	line := []byte(strings.Repeat("x", 1023) + "\n")
	const n = 4 * writeMost / 1024
	sent := make(chan int, 1)
	go func() {
		for range n {
			_, _ = s.Write(line)
		}
		sent <- n
	}()
	select {
	case <-sent:
		t.Fatal("the stream took all lines though nobody read them")
	case <-time.After(100 * time.Millisecond):
	}
	s.mu.Lock()
	if len(s.waiting) > writeMost+len(line) {
		t.Errorf("%d bytes wait, more than the bound", len(s.waiting))
	}
	s.mu.Unlock()
	close(r.gate)
	<-sent
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if _, text := r.all(); len(text) != n*len(line) {
		t.Errorf("%d bytes came out, want %d", len(text), n*len(line))
	}
}

func TestStreamTellsOfAClosedPipe(t *testing.T) {
	read, write, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer write.Close()
	read.Close()
	s := NewStream(write)
	_, _ = s.Write([]byte("line\n"))
	select {
	case <-s.Failed():
	case <-time.After(time.Minute):
		t.Fatal("no failure was reported")
	}
	if _, err := s.Write([]byte("line\n")); !errors.Is(err, syscall.EPIPE) {
		t.Errorf("Write: %v, want EPIPE", err)
	}
	if err := s.Close(); !errors.Is(err, syscall.EPIPE) {
		t.Errorf("Close: %v, want EPIPE", err)
	}
}

func TestStreamClosedWithoutALine(t *testing.T) {
	r := &recorder{}
	if err := NewStream(r).Close(); err != nil {
		t.Fatal(err)
	}
	if writes, _ := r.all(); writes != 0 {
		t.Errorf("%d writes", writes)
	}
}

// BenchmarkStream is what a record costs its reader when standard output is a
// file, encoding included.
func BenchmarkStream(b *testing.B) {
	file, err := os.Create(b.TempDir() + "/events.json")
	if err != nil {
		b.Fatal(err)
	}
	defer file.Close()
	s := NewStream(file)
	p := samplePackets()[0]
	var line []byte
	for b.Loop() {
		line = JSON{}.AppendPacket(line[:0], &p)
		if _, err := s.Write(line); err != nil {
			b.Fatal(err)
		}
	}
	if err := s.Close(); err != nil {
		b.Fatal(err)
	}
	b.SetBytes(int64(len(line)))
}

func TestConsoleKeepsTheStatusLineBelow(t *testing.T) {
	var screen bytes.Buffer
	c := NewConsole(&screen, func() int { return 20 })
	c.SetStatus("lost 0  dropped 3  linearized 12")
	_, _ = c.Above(&screen).Write([]byte("a line\n"))
	c.Say("eth1\x1b[2J came")
	c.SetStatus("")
	_, _ = c.Above(&screen).Write([]byte("the end\n"))
	cut := "lost 0  dropped 3  "
	want := eraseLine + cut +
		eraseLine + "a line\n" + eraseLine + cut +
		eraseLine + `xentrace:` + "\n" + `eth1\x1b[2J came` + "\n" + eraseLine + cut +
		eraseLine + "the end\n"
	if got := screen.String(); got != want {
		t.Errorf("got  %q\nwant %q", got, want)
	}
}

func TestConsoleWithoutATerminalHasNoStatusLine(t *testing.T) {
	var file bytes.Buffer
	c := NewConsole(&file, nil)
	c.SetStatus("lost 0")
	c.Say("watching eth0")
	if got := file.String(); got != "xentrace: watching eth0\n" || c.HasStatus() {
		t.Errorf("got %q", got)
	}
	if c.Above(&file) != &file {
		t.Error("writes are wrapped for nothing")
	}
}

func TestStatusLine(t *testing.T) {
	now := sampleTotals()
	before := quietTotals()
	before.Duration = 11 * time.Second
	for name, c := range map[string]struct {
		before *event.Totals
		left   time.Duration
		want   string
	}{
		"first":     {&event.Totals{}, 0, "lost 3  dropped 403  linearized 200  over limit 601  rejected 9  1,768 packets/s  0:12"},
		"rate":      {before, 0, "lost 3  dropped 403  linearized 200  over limit 601  rejected 9  908 packets/s  0:12"},
		"time left": {before, 3 * time.Minute, "lost 3  dropped 403  linearized 200  over limit 601  rejected 9  908 packets/s  0:12 (3:00 to go)"},
	} {
		t.Run(name, func(t *testing.T) {
			if got := StatusLine(c.before, now, c.left); got != c.want {
				t.Errorf("got  %s\nwant %s", got, c.want)
			}
		})
	}
	if got := Clock(3*time.Hour + 62*time.Second); got != "3:01:02" {
		t.Errorf("clock is %s", got)
	}
}

// Without --rejected there is no word of what is not looked at.
func TestStatusLineWithoutResponses(t *testing.T) {
	now := quietTotals()
	if got := StatusLine(now, now, 0); strings.Contains(got, "rejected") {
		t.Errorf("got %q", got)
	}
}
