package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"

	"xentrace/test/xen/cost"
)

// attachment is what a row has attached.
type attachment interface {
	// detach ends it, and adds what is known only then to the result.
	detach(*cost.Result) error
}

// attach attaches a row, or returns why this kernel has no such row.
func (b *bench) attach(ctx context.Context, row cost.Row) (a attachment, missing string, err error) {
	if row.Fentry {
		if has, err := hasModuleBTF(); err != nil || !has {
			return nil, "no BTF of the driver's module", err
		}
	}
	if row.Hooks != nil {
		a, err := attachHooks(row.Hooks)
		return a, "", err
	}
	if row.Bpftrace != "" {
		if _, err := os.Stat(bpftraceDir); err != nil {
			return nil, "the machine that ran the lab has no bpftrace", nil
		}
		a, err := startBpftrace(ctx, row.Bpftrace)
		if errors.Is(err, errNoHeaders) {
			return nil, err.Error(), nil
		}
		return a, "", err
	}
	a, err = b.start(ctx, append([]string{b.program}, row.Args...))
	return a, "", err
}

type hooks []link.Link

func attachHooks(names []string) (hooks, error) {
	var all hooks
	for _, name := range names {
		l, err := attachHook(name)
		if err != nil {
			return nil, errors.Join(fmt.Errorf("%s: %w", name, err), all.detach(nil))
		}
		all = append(all, l)
	}
	return all, nil
}

func (h hooks) detach(*cost.Result) error {
	for _, l := range h {
		if err := l.Close(); err != nil {
			return err
		}
	}
	return nil
}

// outputFile takes what the program prints.
const outputFile = "/tmp/output"

// command is a running xentrace.
type command struct {
	process *os.Process
	dir     string
	ready   int64 // instructions
	elapsed int64 // nanoseconds
	// again is when to repeat an interrupt: bpftrace 0.17 can miss one. 0 is never.
	again time.Duration
}

// start returns when the program has created its ready file.
func (b *bench) start(ctx context.Context, argv []string) (*command, error) {
	dir, err := os.MkdirTemp("", "cost")
	if err != nil {
		return nil, err
	}
	notice, err := watchDirectory(dir)
	if err != nil {
		return nil, err
	}
	defer func() { _ = unix.Close(notice) }()
	output, err := os.Create(outputFile)
	if err != nil {
		return nil, err
	}
	defer func() { _ = output.Close() }()
	began, err := clock(unix.CLOCK_MONOTONIC)
	if err != nil {
		return nil, err
	}
	argv, err = withRecordings(argv, dir)
	if err != nil {
		return nil, err
	}
	argv = append(argv, "--ready-file", filepath.Join(dir, "ready"))
	process, err := os.StartProcess(argv[0], argv, &os.ProcAttr{Files: []*os.File{nil, output, output}})
	if err != nil {
		return nil, err
	}
	c := &command{process: process, dir: dir}
	if err := c.await(ctx, notice); err != nil {
		return nil, err
	}
	return c, c.measureStart(began)
}

// withRecordings returns the arguments with a new directory below dir where they have
// cost.Recordings: a recording that exists is not overwritten.
func withRecordings(argv []string, dir string) ([]string, error) {
	recordings := filepath.Join(dir, "recordings")
	if err := os.Mkdir(recordings, 0o700); err != nil {
		return nil, err
	}
	argv = slices.Clone(argv)
	for i := range argv {
		argv[i] = strings.Replace(argv[i], cost.Recordings, recordings, 1)
	}
	return argv, nil
}

func watchDirectory(dir string) (int, error) {
	notice, err := unix.InotifyInit1(unix.IN_CLOEXEC)
	if err != nil {
		return 0, fmt.Errorf("inotify: %w", err)
	}
	if _, err := unix.InotifyAddWatch(notice, dir, unix.IN_MOVED_TO); err != nil {
		return 0, fmt.Errorf("inotify: %w", err)
	}
	return notice, nil
}

// await waits for the ready file.
func (c *command) await(ctx context.Context, notice int) error {
	waiting := []unix.PollFd{{Fd: int32(notice), Events: unix.POLLIN}}
	began := time.Now()
	for {
		n, err := unix.Poll(waiting, 1000)
		if n > 0 {
			return nil
		}
		if err != nil && !errors.Is(err, unix.EINTR) {
			return fmt.Errorf("poll: %w", err)
		}
		var status unix.WaitStatus
		if pid, _ := unix.Wait4(c.process.Pid, &status, unix.WNOHANG, nil); pid != 0 || time.Since(began) > patience || ctx.Err() != nil {
			text, _ := os.ReadFile(outputFile)
			return fmt.Errorf("not ready (status %d): %s", status.ExitStatus(), text)
		}
	}
}

// measureStart reads what the process has used until now.
func (c *command) measureStart(began int64) error {
	var err error
	if c.ready, err = c.processTime(); err != nil {
		return err
	}
	now, err := clock(unix.CLOCK_MONOTONIC)
	c.elapsed = now - began
	return err
}

// processTime returns the instructions of all threads of the process.
func (c *command) processTime() (int64, error) {
	const sched = 2 // CPUCLOCK_SCHED of linux/posix-timers_types.h
	return clock(int32(^c.process.Pid<<3 | sched))
}

// steady is how long a process runs before its resident memory is read.
const steady = 5 * time.Second

func (c *command) detach(result *cost.Result) error {
	rest(steady)
	resident, err := c.status("VmRSS:")
	if err != nil {
		return err
	}
	peak, err := c.status("VmHWM:")
	if err != nil {
		return err
	}
	if result.Start == nil {
		result.Start = &cost.Start{}
	}
	s := result.Start
	s.Instructions, s.Elapsed = append(s.Instructions, c.ready), append(s.Elapsed, c.elapsed)
	s.PeakKiB, s.SteadyKiB = max(s.PeakKiB, peak), max(s.SteadyKiB, resident)
	if err := c.stop(); err != nil {
		return err
	}
	return os.RemoveAll(c.dir)
}

// stop interrupts the process and waits for it to end.
func (c *command) stop() error {
	type end struct {
		*os.ProcessState
		error
	}
	ended := make(chan end, 1)
	go func() {
		state, err := c.process.Wait()
		ended <- end{state, err}
	}()
	for limit := time.After(patience); ; {
		if err := c.process.Signal(os.Interrupt); err != nil && !errors.Is(err, os.ErrProcessDone) {
			return err
		}
		select {
		case e := <-ended:
			if e.error == nil && !e.Success() {
				text, _ := os.ReadFile(outputFile)
				return fmt.Errorf("%v: %s", e.ProcessState, text)
			}
			return e.error
		case <-limit:
			return errors.New("not ended after an interrupt")
		case <-c.repeat():
		}
	}
}

// repeat is when to interrupt the process once more.
func (c *command) repeat() <-chan time.Time {
	if c.again == 0 {
		return nil
	}
	return time.After(c.again)
}
