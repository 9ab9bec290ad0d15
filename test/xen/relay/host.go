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
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

var (
	errBootLimit = errors.New("no program was started within the time a boot may take")
	errRunLimit  = errors.New("the program ran into its time limit")
	errStill     = errors.New("the guest hangs")
)

// stillLimit is the time without a sign of life after which a guest that sends them is ended.
const stillLimit = 5 * time.Minute

// settings are the flags of `relay host`.
type settings struct {
	boot, limit time.Duration
	log         string
	disk        string
	shell       bool
	start       string
	qmp         string
	save        string
	restore     string
}

func parseSettings(args []string) (settings, []string, error) {
	var s settings
	flags := flag.NewFlagSet("host", flag.ContinueOnError)
	flags.DurationVar(&s.boot, "boot", 2*time.Minute, "how long booting may take")
	flags.DurationVar(&s.limit, "limit", 10*time.Minute, "how long the program may run")
	flags.StringVar(&s.log, "log", os.DevNull, "file for the guest's console")
	flags.StringVar(&s.disk, "disk", "", "the guest's disk, for the program's output")
	flags.BoolVar(&s.shell, "shell", false, "give the console to this terminal once the guest has booted")
	flags.StringVar(&s.start, "start", "", "line that tells the waiting guest to start the program")
	flags.StringVar(&s.qmp, "qmp", "", "QEMU's machine protocol socket")
	flags.StringVar(&s.save, "save", "", "save the machine's state here when the guest waits, and end")
	flags.StringVar(&s.restore, "restore", "", "continue from the state saved here")
	if err := flags.Parse(args); err != nil {
		return s, nil, err
	}
	if flags.NArg() == 0 {
		return s, nil, errUsage
	}
	return s, flags.Args(), nil
}

// session is one run of QEMU and what its console printed.
type session struct {
	settings
	terminal terminal
	log      *os.File
	guest    io.Writer // the console's input
	cancel   context.CancelCauseFunc
	timer    *time.Timer
	still    *time.Timer        // since the last sign of life, of a guest that gives them
	kill     context.CancelFunc // ends QEMU

	mu    sync.Mutex // frames come from the console and from the disk
	began bool
	code  int
	ended bool   // code is the program's status
	gone  string // dom0's sentence, or ours
}

// host runs QEMU until the program in the guest has ended, a limit is reached
// or ctx is done, and leaves no QEMU behind.
func host(ctx context.Context, args []string) (int, error) {
	set, argv, err := parseSettings(args)
	if err != nil {
		return exitUsage, err
	}
	log, err := os.OpenFile(set.log, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o644)
	if err != nil {
		return exitUsage, err
	}
	defer log.Close()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	s := session{settings: set, log: log, cancel: cancel}
	s.timer = time.AfterFunc(set.boot, func() { cancel(errBootLimit) })
	defer func() { s.timer.Stop() }()
	s.still = time.AfterFunc(time.Hour, func() { cancel(errStill) })
	s.still.Stop()
	defer s.still.Stop()
	defer s.terminal.restore()
	err = s.run(ctx, argv)
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
	ctx, s.kill = context.WithCancel(ctx)
	defer s.kill()
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Stderr = s.log
	// Its own group, so that ^C reaches QEMU through us only; and never without us.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	console, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if s.guest, err = cmd.StdinPipe(); err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	if s.restore != "" {
		if err := s.resume(ctx); err != nil {
			s.kill()
			return errors.Join(err, cmd.Wait())
		}
	}
	output := s.readOutput(ctx)
	d := decoder{noise: s, onFrame: func(k kind, payload []byte) bool { return s.take(ctx, k, payload) }}
	err = d.read(console)
	s.kill()
	err = errors.Join(err, <-output)
	return errors.Join(err, cmd.Wait())
}

// readOutput follows the program's output on the disk, and ends QEMU when it has
// all of it. The channel has the error when the output has been read.
func (s *session) readOutput(ctx context.Context) <-chan error {
	done := make(chan error, 1)
	disk, err := os.Open(s.disk)
	if err != nil {
		done <- err
		s.kill()
		return done
	}
	go func() {
		defer disk.Close()
		r := diskReader{disk: disk}
		d := decoder{noise: s.log, onFrame: func(k kind, payload []byte) bool { return s.take(ctx, k, payload) }}
		done <- r.follow(ctx, &d)
		s.kill()
	}()
	return done
}

// resume continues a saved machine, whose guest waits for the start line.
func (s *session) resume(ctx context.Context) error {
	q, err := dialQMP(ctx, s.qmp)
	if err != nil {
		return err
	}
	defer q.close()
	if err := q.restore(ctx, s.restore); err != nil {
		return err
	}
	_, err = fmt.Fprintln(s.guest, s.start)
	return err
}

// suspend saves the machine while its guest waits for the start line.
func (s *session) suspend(ctx context.Context) error {
	q, err := dialQMP(ctx, s.qmp)
	if err != nil {
		return err
	}
	defer q.close()
	return q.save(ctx, s.save)
}

// Write takes what the console says between frames: the guest's boot and its
// kernel's messages or, in a shell, what the user is to see.
func (s *session) Write(p []byte) (int, error) {
	if s.began && s.shell {
		return os.Stdout.Write(p)
	}
	return s.log.Write(p)
}

// take handles one frame and reports whether more are to be expected.
func (s *session) take(ctx context.Context, k kind, payload []byte) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	var err error
	switch k {
	case ready:
		if s.save != "" {
			err = s.suspend(ctx)
			s.ended = err == nil
			return s.goOn(err) && !s.ended
		}
		_, err = fmt.Fprintln(s.guest, s.start)
	case begin:
		s.began = true
		s.timer.Stop()
		if s.shell {
			err = s.terminal.attach(s.guest, s.cancel)
		} else {
			s.timer = time.AfterFunc(s.limit, func() { s.cancel(errRunLimit) })
		}
	case alive:
		s.still.Reset(stillLimit)
	case stdout:
		_, err = os.Stdout.Write(payload)
	case stderr:
		_, err = os.Stderr.Write(payload)
	case kernelLog:
		_, err = s.log.Write(payload)
	case status:
		s.code, err = strconv.Atoi(string(payload))
		s.ended = err == nil
		return false
	case gone:
		s.gone = string(payload)
		return false
	}
	return s.goOn(err)
}

// goOn reports whether there was no error, and keeps its sentence if there was.
func (s *session) goOn(err error) bool {
	if err != nil {
		s.gone = err.Error()
	}
	return err == nil
}

// verdict turns what was seen into the host's exit status and sentence.
func (s *session) verdict(reason, err error) (int, error) {
	switch {
	case s.ended:
		return s.code, nil
	case errors.Is(reason, errRunLimit):
		return exitLimit, fmt.Errorf("%w of %s", errRunLimit, s.limit)
	case errors.Is(reason, errStill):
		return exitDied, fmt.Errorf("%w: no sign of life for %s", errStill, stillLimit)
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
