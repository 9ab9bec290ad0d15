package tool

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"xentrace/test/schema"

	"golang.org/x/sys/unix"
)

// patience is how long the program may take to attach or to end. Emulated
// machines are slow.
const patience = 3 * time.Minute

// A Run is the program, running.
type Run struct {
	t      testing.TB
	cmd    *exec.Cmd
	stdout spoken
	stderr spoken
	ended  chan error
	peak   int // KiB

	Ready time.Duration // from the start until every hook was attached
}

// Output is what a run has left.
type Output struct {
	Packets []Packet
	Flows   []FlowEvent
	Summary Summary
	Stdout  string
	Stderr  string
	Status  int
	MaxRSS  int           // largest resident memory until Stop, in KiB; 0 if it ended by itself
	CPU     time.Duration // user and system time of the whole run
}

// Start runs the command, which ends in xentrace and its arguments without
// --ready-file, and returns once it is ready.
func Start(t testing.TB, command ...string) *Run {
	t.Helper()
	ready := filepath.Join(t.TempDir(), "ready")
	r := &Run{t: t, ended: make(chan error, 1)}
	r.cmd = exec.Command(command[0], append(command[1:], "--ready-file", ready)...)
	r.cmd.Stdout, r.cmd.Stderr = &r.stdout, &r.stderr
	began := time.Now()
	if err := r.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() { r.ended <- r.cmd.Wait() }()
	t.Cleanup(func() { _ = r.cmd.Process.Kill() })
	for {
		if file, err := os.Stat(ready); err == nil {
			// It got its name when all was attached, and was written before.
			r.Ready = time.Unix(file.Sys().(*syscall.Stat_t).Ctim.Unix()).Sub(began)
			return r
		}
		select {
		case err := <-r.ended:
			t.Fatalf("%s: ended before it was ready: %v\n%s", strings.Join(command, " "), err, r.stderr.String())
		case <-time.After(50 * time.Millisecond): // looking is dear on an emulated CPU
		}
		if time.Since(began) > patience {
			t.Fatalf("%s: not ready after %v\n%s", strings.Join(command, " "), patience, r.stderr.String())
		}
	}
}

// PID returns the program's process.
func (r *Run) PID() int { return r.cmd.Process.Pid }

// CPU returns the user and system time that the program has used so far.
func (r *Run) CPU() time.Duration {
	r.t.Helper()
	// utime and stime, the 14th and 15th field, in hundredths of a second.
	fields := r.proc("stat")
	after := strings.Fields(fields[strings.LastIndexByte(fields, ')')+1:])
	var ticks int
	for _, field := range after[11:13] {
		n, err := strconv.Atoi(field)
		if err != nil {
			r.t.Fatal(err)
		}
		ticks += n
	}
	return time.Duration(ticks) * 10 * time.Millisecond
}

// Resident returns the program's resident memory in KiB.
func (r *Run) Resident() int { return r.memory("VmRSS:") }

// memory returns a line of /proc/PID/status in KiB. Unlike the rusage of an ended child, which
// starts with the memory of the process that started it, VmHWM is the program's own peak.
func (r *Run) memory(name string) int {
	r.t.Helper()
	for line := range strings.Lines(r.proc("status")) {
		if value, found := strings.CutPrefix(line, name); found {
			n, err := strconv.Atoi(strings.TrimSuffix(strings.TrimSpace(value), " kB"))
			if err != nil {
				r.t.Fatal(err)
			}
			return n
		}
	}
	r.t.Fatal("resident memory is not reported")
	return 0
}

func (r *Run) proc(file string) string {
	r.t.Helper()
	text, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(r.PID()), file))
	if err != nil {
		r.t.Fatal(err)
	}
	return string(text)
}

// Stop interrupts the program and returns what it wrote, which must be JSON.
func (r *Run) Stop() Output {
	r.t.Helper()
	select {
	case err := <-r.ended: // by itself
		r.ended <- err
	default:
		r.peak = r.memory("VmHWM:")
	}
	if err := r.cmd.Process.Signal(unix.SIGINT); err != nil && !errors.Is(err, os.ErrProcessDone) {
		r.t.Fatal(err)
	}
	return r.Wait()
}

// Wait waits for the program to end by itself.
func (r *Run) Wait() Output {
	r.t.Helper()
	select {
	case <-r.ended:
	case <-time.After(patience):
		r.t.Fatalf("not ended %v after the interrupt\n%s", patience, r.stderr.String())
	}
	o := Output{
		Stdout: r.stdout.String(),
		Stderr: r.stderr.String(),
		Status: r.cmd.ProcessState.ExitCode(),
		MaxRSS: r.peak,
		CPU:    r.cmd.ProcessState.UserTime() + r.cmd.ProcessState.SystemTime(),
	}
	schema.Check(r.t, o.Stdout)
	if err := o.parse([]byte(o.Stdout)); err != nil {
		r.t.Fatalf("%v; status %d, stderr:\n%s", err, o.Status, o.Stderr)
	}
	return o
}

// Only returns the one interface of the summary.
func (o *Output) Only(t testing.TB) *Interface {
	t.Helper()
	if len(o.Summary.Interfaces) != 1 {
		t.Fatalf("%d interfaces in the summary, want 1: %+v", len(o.Summary.Interfaces), o.Summary.Interfaces)
	}
	return &o.Summary.Interfaces[0]
}

// Bounces counts the records of packets that were bounced and sent.
func (o *Output) Bounces() uint64 {
	var n uint64
	for i := range o.Packets {
		if o.Packets[i].Verdict == "bounced" {
			n++
		}
	}
	return n
}
