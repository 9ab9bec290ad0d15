package netns

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"xentrace/test/schema"
	"xentrace/test/tool"
)

// patience is how long the program may take for anything.
const patience = 3 * time.Minute

// A program is xentrace running, for tests that look at what it writes while it
// runs, that have it write text, or that treat it badly.
type program struct {
	t      *testing.T
	cmd    *exec.Cmd
	stdout written
	stderr written
	ended  chan struct{}
}

// written is what a program has written so far.
type written struct {
	mu    sync.Mutex
	bytes bytes.Buffer
}

func (w *written) Write(b []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.bytes.Write(b)
}

func (w *written) String() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.bytes.String()
}

// after returns what has been written but for the first n bytes.
func (w *written) after(n int) string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return string(w.bytes.Bytes()[n:])
}

// launch starts a command; it is killed at the end of the test.
func launch(t *testing.T, cmd *exec.Cmd) *program {
	t.Helper()
	p := &program{t: t, cmd: cmd, ended: make(chan struct{})}
	if cmd.Stdout == nil {
		cmd.Stdout = &p.stdout
	}
	cmd.Stderr = &p.stderr
	must(t, cmd.Start())
	go func() {
		_ = cmd.Wait()
		close(p.ended)
	}()
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		<-p.ended
	})
	return p
}

// start starts xentrace and returns once every hook is attached.
func start(t *testing.T, args ...string) *program {
	t.Helper()
	return startWith(t, exec.Command(xentrace, args...))
}

// startWith starts xentrace as cmd says and returns once every hook is attached.
func startWith(t *testing.T, cmd *exec.Cmd) *program {
	t.Helper()
	ready := filepath.Join(t.TempDir(), "ready")
	cmd.Args = append(cmd.Args, "--ready-file", ready)
	p := launch(t, cmd)
	eventually(t, "ready", func() bool {
		select {
		case <-p.ended:
			t.Fatalf("ended with status %d before it was ready: %s", p.cmd.ProcessState.ExitCode(), p.stderr.String())
		default:
		}
		_, err := os.Stat(ready)
		return err == nil
	})
	return p
}

// launchXentrace starts xentrace and does not wait for it.
func launchXentrace(t *testing.T, args ...string) *program {
	t.Helper()
	return launch(t, exec.Command(xentrace, args...))
}

func (p *program) signal(s unix.Signal) {
	p.t.Helper()
	must(p.t, p.cmd.Process.Signal(s))
}

// wait waits for the end and returns the exit status: -1 if a signal ended it.
func (p *program) wait() int {
	p.t.Helper()
	select {
	case <-p.ended:
	case <-time.After(patience):
		p.t.Fatalf("%s: not ended after %v\nstdout: %.2000s\nstderr: %.2000s", p.cmd, patience, p.stdout.String(), p.stderr.String())
	}
	return p.cmd.ProcessState.ExitCode()
}

// stop interrupts the program, which must end well.
func (p *program) stop() {
	p.t.Helper()
	p.signal(unix.SIGINT)
	if status := p.wait(); status != 0 {
		p.t.Fatalf("status %d: %s", status, p.stderr.String())
	}
}

// saysOnStderr waits for a sentence.
func (p *program) saysOnStderr(sentence string) {
	p.t.Helper()
	defer func() {
		if p.t.Failed() {
			p.t.Logf("standard error:\n%s", p.stderr.String())
		}
	}()
	eventually(p.t, sentence, func() bool { return strings.Contains(p.stderr.String(), sentence) })
}

// summaryOf decodes the last line that the program wrote.
func summaryOf(t *testing.T, output string) tool.Summary {
	t.Helper()
	schema.Check(t, output)
	lines := strings.Split(strings.TrimSpace(output), "\n")
	var s tool.Summary
	must(t, json.Unmarshal([]byte(lines[len(lines)-1]), &s))
	if s.Type != "summary" {
		t.Fatalf("last line is of type %q", s.Type)
	}
	return s
}

// recordsOf decodes the packets that the program wrote.
func recordsOf(t *testing.T, output string) []tool.Packet {
	t.Helper()
	var packets []tool.Packet
	for line := range strings.Lines(output) {
		var p tool.Packet
		must(t, json.Unmarshal([]byte(line), &p))
		if p.Type == "packet" {
			packets = append(packets, p)
		}
	}
	return packets
}

// lastLine returns the last line that is not empty.
func lastLine(text string) string {
	text = strings.TrimSpace(text)
	return text[strings.LastIndex(text, "\n")+1:]
}
