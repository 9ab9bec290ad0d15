package cli

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// fullPipe is a pipe into which nothing more can be written, and which nobody reads.
func fullPipe(t *testing.T) *os.File {
	t.Helper()
	read, write, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { read.Close(); write.Close() })
	for block := make([]byte, 4096); err == nil; {
		if err = write.SetWriteDeadline(time.Now().Add(10 * time.Millisecond)); err == nil {
			_, err = write.Write(block)
		}
	}
	if !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatal(err)
	}
	if err := unix.SetNonblock(int(write.Fd()), false); err != nil { // for the child
		t.Fatal(err)
	}
	return write
}

// awaitBlocked waits until the process writes to a full pipe.
func (p *process) awaitBlocked(t *testing.T) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(5 * time.Millisecond) {
		places, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/wchan", p.Process.Pid))
		if err != nil {
			t.Fatal(err)
		}
		for _, place := range places {
			if text, _ := os.ReadFile(place); strings.Contains(string(text), "pipe_write") {
				return
			}
		}
		if time.Now().After(deadline) {
			t.Fatalf("it does not write; stderr %q", p.stderr.String())
		}
	}
}

// The first SIGTERM ends every command, also one whose standard output, or standard error,
// is a pipe that nobody reads.
func TestFirstSignalEndsABlockedCommand(t *testing.T) {
	recording := recordingOf(t, "night.jsonl", 1)
	environment := []string{"XENTRACE_FAKE_RECORDS=5000", "XENTRACE_FAKE_GRACE_MS=50"}
	for _, args := range []string{
		"watch -o json", "watch", "watch -o pcapng", "replay " + recording, "report " + recording + " -w -", "compare " + recording + " " + recording,
		"version", "help watch", "man watch", "completion bash",
	} {
		t.Run(args, func(t *testing.T) {
			p := newProcess(t, environment, strings.Fields(args)...)
			p.Stdout = fullPipe(t)
			if err := p.Start(); err != nil {
				t.Fatal(err)
			}
			p.awaitBlocked(t)
			p.signal(t, unix.SIGTERM)
			status := p.wait(t)
			if !status.Exited() || status.ExitStatus() != statusInternal || !strings.Contains(p.stderr.String(), "xentrace: cannot write to stdout: not read") {
				t.Errorf("ended with %v; stderr %q", status, p.stderr.String())
			}
		})
	}
	t.Run("standard error too", func(t *testing.T) {
		p := newProcess(t, environment, "watch", "-o", "json")
		pipe := fullPipe(t)
		p.Stdout, p.Cmd.Stderr = pipe, pipe
		if err := p.Start(); err != nil {
			t.Fatal(err)
		}
		p.awaitBlocked(t)
		p.signal(t, unix.SIGTERM)
		if status := p.wait(t); !status.Exited() || status.ExitStatus() != statusInternal {
			t.Errorf("ended with %v", status)
		}
	})
}

// What is read late, but before the grace is over, is whole.
func TestWriteThatBlocksForAWhile(t *testing.T) {
	ended := make(chan struct{})
	close(ended)
	read, write := io.Pipe()
	w := &abandoningWriter{Writer: write, ended: ended, grace: time.Minute}
	go func() {
		_, _ = w.Write([]byte("first\n"))
		_, _ = w.Write([]byte("second\n"))
		_ = write.Close()
	}()
	if text, err := io.ReadAll(read); err != nil || string(text) != "first\nsecond\n" {
		t.Errorf("%q, %v", text, err)
	}
}

// An abandoned write may still read its bytes: none of a later one take their place.
func TestAbandonedWriteKeepsItsBytes(t *testing.T) {
	ended := make(chan struct{})
	close(ended)
	read, write := io.Pipe()
	w := &abandoningWriter{Writer: write, ended: ended, grace: time.Millisecond}
	line := []byte("first\n")
	if _, err := w.Write(line); !errors.Is(err, errNotRead) {
		t.Fatalf("%v, want that nobody reads", err)
	}
	copy(line, "other\n")
	if _, err := w.Write(line); !errors.Is(err, errNotRead) {
		t.Fatalf("%v, want that every further write fails", err)
	}
	got := make([]byte, 6)
	if _, err := io.ReadFull(read, got); err != nil || string(got) != "first\n" {
		t.Errorf("%q, %v", got, err)
	}
}
