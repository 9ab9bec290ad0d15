package cli

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"xentrace/test/schema"
)

// A process is this test binary being xentrace on a fake tracer.
type process struct {
	*exec.Cmd
	stderr   bytes.Buffer
	ready    string
	starting string
	closed   string
}

func newProcess(t *testing.T, environment []string, args ...string) *process {
	t.Helper()
	p := &process{
		Cmd:      exec.Command(os.Args[0], args...),
		ready:    filepath.Join(t.TempDir(), "ready"),
		starting: filepath.Join(t.TempDir(), "starting"),
		closed:   filepath.Join(t.TempDir(), "closed"),
	}
	p.Env = append(os.Environ(), "XENTRACE_FAKE=1", "XENTRACE_FAKE_STARTING="+p.starting, "XENTRACE_FAKE_CLOSED="+p.closed)
	p.Env = append(p.Env, environment...)
	p.Stderr = &p.stderr
	if args[0] == "watch" || args[0] == "hist" {
		p.Args = append(p.Args, "--ready-file", p.ready)
	}
	return p
}

// attached starts the process and waits until it has attached.
func (p *process) attached(t *testing.T) {
	t.Helper()
	p.started(t)
	p.await(t, "attached", func() bool { return exists(p.ready) })
}

// started starts the process.
func (p *process) started(t *testing.T) {
	t.Helper()
	if err := p.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.Process.Kill() })
}

// await waits until the process has come that far.
func (p *process) await(t *testing.T, what string, there func() bool) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); !there(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not %s after a minute; stderr: %s", what, p.stderr.String())
		}
	}
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// calls reports whether one of its threads waits in a system call.
func (p *process) calls(t *testing.T, number int) bool {
	t.Helper()
	files, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/syscall", p.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	return slices.ContainsFunc(files, func(file string) bool {
		text, err := os.ReadFile(file)
		return err == nil && strings.HasPrefix(string(text), fmt.Sprint(number, " "))
	})
}

// wait returns how the process ended, and fails if it does not within a minute.
func (p *process) wait(t *testing.T) syscall.WaitStatus {
	t.Helper()
	return p.waitFor(t, time.Minute)
}

func (p *process) waitFor(t *testing.T, patience time.Duration) syscall.WaitStatus {
	t.Helper()
	over := time.AfterFunc(patience, func() { _ = p.Process.Kill() })
	defer over.Stop()
	_ = p.Wait()
	return p.ProcessState.Sys().(syscall.WaitStatus)
}

func (p *process) signal(t *testing.T, s syscall.Signal) {
	t.Helper()
	if err := p.Process.Signal(s); err != nil {
		t.Fatal(err)
	}
}

func (p *process) detached() bool {
	_, err := os.Stat(p.closed)
	return err == nil
}

const endless = "XENTRACE_FAKE_RECORDS=1000000000"

func TestInterrupt(t *testing.T) {
	// Children inherit an ignored SIGHUP, as of nohup, but not one that is handled.
	hangups := make(chan os.Signal, 1)
	signal.Notify(hangups, syscall.SIGHUP)
	defer signal.Stop(hangups)
	for _, c := range []struct {
		command string
		signal  syscall.Signal
		last    string
	}{
		{"watch", syscall.SIGINT, `"type":"summary"`},
		{"watch", syscall.SIGTERM, `"type":"summary"`},
		{"watch", syscall.SIGHUP, `"type":"summary"`},
		{"watch", syscall.SIGQUIT, `"type":"summary"`},
		{"hist", syscall.SIGINT, `"type":"summary"`},
	} {
		t.Run(c.command+" "+c.signal.String(), func(t *testing.T) {
			p := newProcess(t, []string{"XENTRACE_FAKE_RECORDS=200", "XENTRACE_FAKE_PACE_US=500"}, c.command, "-o", "json")
			var stdout bytes.Buffer
			p.Stdout = &stdout
			p.attached(t)
			time.Sleep(20 * time.Millisecond)
			p.signal(t, c.signal)
			if status := p.wait(t); !status.Exited() || status.ExitStatus() != 0 {
				t.Fatalf("ended with %v; stderr %s", status, p.stderr.String())
			}
			lines := strings.Split(strings.TrimSuffix(stdout.String(), "\n"), "\n")
			if last := lines[len(lines)-1]; !strings.Contains(last, c.last) || !json.Valid([]byte(last)) {
				t.Errorf("last line is %s", last)
			}
			if c.command == "watch" && len(lines) != 201 {
				t.Errorf("%d lines, want the 200 records that the ring held and a summary", len(lines))
			}
			if !p.detached() {
				t.Error("the tracer was not closed")
			}
		})
	}
}

func TestInterruptWhileAttaching(t *testing.T) {
	t.Parallel()
	p := newProcess(t, []string{"XENTRACE_FAKE_STARTUP_MS=60000"}, "watch", "--wait")
	var stdout bytes.Buffer
	p.Stdout = &stdout
	p.started(t)
	p.await(t, "starting", func() bool { return exists(p.starting) })
	p.signal(t, syscall.SIGINT)
	if status := p.wait(t); !status.Exited() || status.ExitStatus() != 0 {
		t.Errorf("ended with %v", status)
	}
	if stdout.Len()+p.stderr.Len() != 0 {
		t.Errorf("it said %q %q", stdout.String(), p.stderr.String())
	}
	if left, _ := os.ReadDir(filepath.Dir(p.ready)); len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
}

// JSON ends with a summary also where nothing was attached.
func TestInterruptWhileWaitingInJSON(t *testing.T) {
	t.Parallel()
	for _, command := range []string{"watch", "hist"} {
		p := newProcess(t, []string{"XENTRACE_FAKE_STARTUP_MS=60000", "XENTRACE_FAKE_WAITS=1"}, command, "--wait", "-o", "json")
		var stdout bytes.Buffer
		p.Stdout = &stdout
		p.started(t)
		p.await(t, "starting", func() bool { return exists(p.starting) })
		p.signal(t, syscall.SIGINT)
		if status := p.wait(t); !status.Exited() || status.ExitStatus() != 0 {
			t.Errorf("%s: ended with %v", command, status)
		}
		schema.Check(t, stdout.String())
		if strings.Count(stdout.String(), "\n") != 1 || !strings.HasPrefix(stdout.String(), `{"type":"summary"`) || !strings.Contains(stdout.String(), `"interfaces":[]`) {
			t.Errorf("%s: stdout %q", command, stdout.String())
		}
	}
}

// open(2) of a named pipe without a writer does not return.
func TestInterruptWhileOpeningABaseline(t *testing.T) {
	t.Parallel()
	pipe := filepath.Join(t.TempDir(), "pipe")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	p := newProcess(t, nil, "congestion", "--baseline", pipe)
	p.started(t)
	p.await(t, "opening the baseline", func() bool { return p.calls(t, unix.SYS_OPENAT) })
	p.signal(t, syscall.SIGINT)
	if status := p.wait(t); !status.Exited() || status.ExitStatus() != 0 || p.stderr.Len() != 0 {
		t.Errorf("ended with %v; stderr %s", status, p.stderr.String())
	}
}

// Standard output is a pipe that nobody reads: the end hangs, and the second
// interrupt must not.
func TestSecondInterruptKillsAtOnce(t *testing.T) {
	t.Parallel()
	p := newProcess(t, []string{endless}, "watch", "-o", "json")
	stdout, err := p.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	defer stdout.Close()
	p.attached(t)
	p.signal(t, syscall.SIGINT)
	go func() { // one of them is more than sameRequest after the first, however slow this machine is
		for p.Process.Signal(syscall.SIGINT) == nil {
			time.Sleep(200 * time.Millisecond)
		}
	}()
	status := p.wait(t)
	if !status.Signaled() || status.Signal() != syscall.SIGINT {
		t.Errorf("ended with %v, want killed by SIGINT", status)
	}
}

// A reader such as head goes away: no message, status 0, hooks detached.
func TestReaderGoesAway(t *testing.T) {
	t.Parallel()
	for _, format := range []string{"text", "json"} {
		t.Run(format, func(t *testing.T) {
			p := newProcess(t, []string{"XENTRACE_FAKE_RECORDS=100000", "XENTRACE_FAKE_PACE_US=200"}, "watch", "-o", format)
			stdout, err := p.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			p.attached(t)
			if line, err := bufio.NewReader(stdout).ReadString('\n'); err != nil || line == "" {
				t.Fatalf("read %q: %v", line, err)
			}
			stdout.Close()
			if status := p.wait(t); !status.Exited() || status.ExitStatus() != 0 {
				t.Errorf("ended with %v", status)
			}
			if strings.Count(p.stderr.String(), "\n") != 1 || !strings.Contains(p.stderr.String(), "watching eth0") {
				t.Errorf("stderr is %q", p.stderr.String())
			}
			if !p.detached() {
				t.Error("the tracer was not closed")
			}
		})
	}
}

func TestReaderGoesAwayAfterADrop(t *testing.T) {
	t.Parallel()
	p := newProcess(t, []string{"XENTRACE_FAKE_RECORDS=100000", "XENTRACE_FAKE_PACE_US=200"}, "watch", "--exit-code")
	stdout, err := p.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	p.attached(t)
	stdout.Close()
	if status := p.wait(t); status.ExitStatus() != 1 {
		t.Errorf("ended with %v, want status 1", status)
	}
}

func TestEveryTextGoesQuietlyIntoAClosedPipe(t *testing.T) {
	t.Parallel()
	for _, args := range []string{"help", "help watch", "version", "completion bash", "man", "watch --help"} {
		read, write, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		read.Close()
		p := newProcess(t, nil, strings.Fields(args)...)
		p.Stdout = write
		if err := p.Run(); err != nil || p.stderr.Len() != 0 {
			t.Errorf("%s: %v, stderr %q", args, err, p.stderr.String())
		}
		write.Close()
	}
}

func TestStopAndContinue(t *testing.T) {
	t.Parallel()
	p := newProcess(t, []string{"XENTRACE_FAKE_RECORDS=300", "XENTRACE_FAKE_PACE_US=1000"}, "watch", "-o", "json", "-d", "700ms")
	var stdout bytes.Buffer
	p.Stdout = &stdout
	p.attached(t)
	for range 3 {
		p.signal(t, syscall.SIGSTOP)
		time.Sleep(50 * time.Millisecond)
		p.signal(t, syscall.SIGCONT)
		time.Sleep(50 * time.Millisecond)
	}
	if status := p.wait(t); status.ExitStatus() != 0 {
		t.Fatalf("ended with %v; stderr %s", status, p.stderr.String())
	}
	if n := strings.Count(stdout.String(), `"type":"packet"`); n != 300 {
		t.Errorf("%d packets, want 300", n)
	}
}

// A storm into a file must not take a write per record.
func TestStormIntoAFile(t *testing.T) {
	t.Parallel()
	const records = 100_000
	file, err := os.Create(filepath.Join(t.TempDir(), "events.json"))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	p := newProcess(t, []string{fmt.Sprintf("XENTRACE_FAKE_RECORDS=%d", records)}, "watch", "-o", "json", "--count", fmt.Sprint(records))
	p.Stdout = file
	began := time.Now()
	if err := p.Run(); err != nil {
		t.Fatalf("%v: %s", err, p.stderr.String())
	}
	took := time.Since(began)
	if _, err := file.Seek(0, io.SeekStart); err != nil {
		t.Fatal(err)
	}
	scanner, n := bufio.NewScanner(file), 0
	for scanner.Scan() {
		if !bytes.HasPrefix(scanner.Bytes(), []byte(`{"type":"`)) || !bytes.HasSuffix(scanner.Bytes(), []byte(`}`)) {
			t.Fatalf("line %d is torn: %s", n, scanner.Bytes())
		}
		n++
	}
	if n != records+1 {
		t.Errorf("%d lines, want %d", n, records+1)
	}
	t.Logf("%d records in %v: %.0f a second", records, took, records/took.Seconds())
}
