package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

var (
	errBootLimit = errors.New("no program was started within the time a boot may take")
	errRunLimit  = errors.New("the program ran into its time limit")
)

// session is one run of QEMU and what its console told.
type session struct {
	limit    time.Duration
	terminal *terminal // nil unless the console is for a user
	log      *os.File
	cancel   context.CancelCauseFunc
	timer    *time.Timer

	began bool
	code  int
	ended bool   // code is the program's status
	gone  string // dom0's sentence
}

// host runs QEMU until the program in the guest has ended, a limit is reached
// or ctx is done, and leaves no QEMU behind.
func host(ctx context.Context, args []string) (int, error) {
	flags := flag.NewFlagSet("host", flag.ContinueOnError)
	boot := flags.Duration("boot", 2*time.Minute, "how long booting may take")
	limit := flags.Duration("limit", 10*time.Minute, "how long the program may run")
	logPath := flags.String("log", os.DevNull, "file for the guest's console without the program's output")
	shell := flags.Bool("shell", false, "give the console to this terminal once the guest has booted")
	if err := flags.Parse(args); err != nil {
		return exitUsage, err
	}
	log, err := os.OpenFile(*logPath, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o644)
	if err != nil {
		return exitUsage, err
	}
	defer log.Close()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	s := session{limit: *limit, log: log, cancel: cancel}
	s.timer = time.AfterFunc(*boot, func() { cancel(errBootLimit) })
	defer func() { s.timer.Stop() }()
	if *shell {
		s.terminal = &terminal{end: cancel}
		defer s.terminal.restore()
	}
	err = s.run(ctx, flags.Args())
	return s.verdict(context.Cause(ctx), err)
}

// run starts QEMU, reads its console until no more is to be expected, and ends it.
func (s *session) run(ctx context.Context, argv []string) error {
	// The kernel ends QEMU with the thread that started it, so that thread must stay.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	// And we go with the script that started us.
	if err := unix.Prctl(unix.PR_SET_PDEATHSIG, uintptr(syscall.SIGTERM), 0, 0, 0); err != nil {
		return err
	}
	ctx, kill := context.WithCancel(ctx)
	defer kill()
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Stderr = s.log
	// Its own group, so that ^C reaches QEMU through us only; and never without us.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	console, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if s.terminal != nil {
		if s.terminal.guest, err = cmd.StdinPipe(); err != nil {
			return err
		}
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	d := decoder{noise: s, onFrame: s.take}
	err = d.read(console)
	kill()
	return errors.Join(err, cmd.Wait())
}

// Write takes what the console says between frames: the guest's boot and its
// kernel's messages or, in a shell, what the user is to see.
func (s *session) Write(p []byte) (int, error) {
	if s.began && s.terminal != nil {
		return os.Stdout.Write(p)
	}
	return s.log.Write(p)
}

// take handles one frame and reports whether more are to be expected.
func (s *session) take(k kind, payload []byte) bool {
	switch k {
	case begin:
		s.began = true
		s.timer.Stop()
		if s.terminal == nil {
			s.timer = time.AfterFunc(s.limit, func() { s.cancel(errRunLimit) })
		} else if err := s.terminal.attach(); err != nil {
			s.gone = err.Error()
			return false
		}
	case stdout:
		write(os.Stdout, payload)
	case stderr:
		write(os.Stderr, payload)
	case status:
		code, err := strconv.Atoi(string(payload))
		s.code, s.ended = code, err == nil
		return false
	case gone:
		s.gone = string(payload)
		return false
	}
	return true
}

// write passes the program's output on. If the reader went away (a pipe into head),
// SIGPIPE ends us here, and QEMU with us.
func write(w io.Writer, p []byte) { _, _ = w.Write(p) }

// verdict turns what was seen into the host's exit status and sentence.
func (s *session) verdict(reason, err error) (int, error) {
	switch {
	case s.ended:
		return s.code, nil
	case errors.Is(reason, errRunLimit):
		return exitLimit, fmt.Errorf("%w of %s", errRunLimit, s.limit)
	case errors.Is(reason, errBootLimit):
		return exitBoot, fmt.Errorf("the guest did not boot: %w", errBootLimit)
	case errors.Is(reason, errEscape):
		return exitStopped, errEscape
	case reason != nil:
		return exitStopped, errors.New("interrupted")
	case s.began:
		return exitDied, fmt.Errorf("the guest died while the program ran: %s", s.why(err))
	}
	return exitBoot, fmt.Errorf("the guest did not boot: %s", s.why(err))
}

func (s *session) why(err error) string {
	if s.gone != "" {
		return s.gone
	}
	return fmt.Sprintf("QEMU ended by itself (%v)", err)
}
