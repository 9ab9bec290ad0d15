package tool

import (
	"bytes"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// spoken is what a running program has written so far.
type spoken struct {
	mu   sync.Mutex
	text bytes.Buffer
}

// Write implements io.Writer.
func (s *spoken) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.Write(p)
}

// String returns all of it.
func (s *spoken) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.String()
}

// Said returns what the program has written to its stderr so far.
func (r *Run) Said() string { return r.stderr.String() }

// Says waits until the program has said the words that many times on its stderr.
func (r *Run) Says(words string, times int) {
	r.t.Helper()
	r.await(&r.stderr, words, times)
}

// Tells waits until the program has written the words that many times on its stdout.
func (r *Run) Tells(words string, times int) {
	r.t.Helper()
	r.await(&r.stdout, words, times)
}

// TellsOf waits until the program has written that event of a flow from a port.
func (r *Run) TellsOf(event string, sport int) {
	r.t.Helper()
	words := []string{`{"type":"flow",`, `"event":"` + event + `"`, `"sport":` + strconv.Itoa(sport) + ","}
	reported := func() bool {
		for line := range strings.Lines(r.stdout.String()) {
			if strings.HasSuffix(line, "\n") && !slices.ContainsFunc(words, func(word string) bool { return !strings.Contains(line, word) }) {
				return true
			}
		}
		return false
	}
	for began := time.Now(); !reported(); time.Sleep(50 * time.Millisecond) {
		if time.Since(began) > patience {
			r.t.Fatalf("it did not tell of the flow from port %d that it %s within %v:\n%s", sport, event, patience, r.stdout.String())
		}
	}
}

func (r *Run) await(s *spoken, words string, times int) {
	r.t.Helper()
	for began := time.Now(); strings.Count(s.String(), words) < times; time.Sleep(20 * time.Millisecond) {
		if time.Since(began) > patience {
			r.t.Fatalf("it did not say %q %d times within %v:\n%s\n%s", words, times, patience, s.String(), r.Said())
		}
	}
}

// Signal sends the program a signal.
func (r *Run) Signal(signal unix.Signal) {
	r.t.Helper()
	if err := r.cmd.Process.Signal(signal); err != nil {
		r.t.Fatal(err)
	}
}

// Exit waits for the program to end, however it does.
func (r *Run) Exit() *os.ProcessState {
	r.t.Helper()
	select {
	case <-r.ended:
	case <-time.After(patience):
		r.t.Fatalf("not ended after %v\n%s", patience, r.stderr.String())
	}
	return r.cmd.ProcessState
}
