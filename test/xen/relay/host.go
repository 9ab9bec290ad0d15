package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"syscall"
	"time"
)

// outcome collects what the frames told.
type outcome struct {
	began bool
	code  int
	ended bool   // code is the program's status
	gone  string // dom0's sentence
}

var (
	errBootLimit = errors.New("no program was started within the time a boot may take")
	errRunLimit  = errors.New("the program ran into its time limit")
)

// host runs QEMU until the program in the guest has ended, a limit is reached
// or ctx is done, and leaves no QEMU behind.
func host(ctx context.Context, args []string) (int, error) {
	flags := flag.NewFlagSet("host", flag.ContinueOnError)
	boot := flags.Duration("boot", 2*time.Minute, "how long booting may take")
	limit := flags.Duration("limit", 10*time.Minute, "how long the program may run")
	logPath := flags.String("log", os.DevNull, "file for the guest's console without the program's output")
	if err := flags.Parse(args); err != nil {
		return exitUsage, err
	}
	noise, err := os.OpenFile(*logPath, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o644)
	if err != nil {
		return exitUsage, err
	}
	defer noise.Close()

	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	timer := time.AfterFunc(*boot, func() { cancel(errBootLimit) })
	defer timer.Stop()
	cmd := exec.CommandContext(ctx, flags.Arg(0), flags.Args()[1:]...)
	cmd.Stderr = noise
	// Its own group, so that ^C reaches QEMU through us only; and never without us.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	console, err := cmd.StdoutPipe()
	if err != nil {
		return exitUsage, err
	}
	if err := cmd.Start(); err != nil {
		return exitUsage, err
	}
	var got outcome
	err = decode(console, noise, func(k kind, payload []byte) bool {
		if k == begin {
			timer.Stop()
			timer = time.AfterFunc(*limit, func() { cancel(errRunLimit) })
		}
		return got.take(k, payload)
	})
	reason := context.Cause(ctx)
	cancel(nil)
	waitErr := cmd.Wait()
	return got.verdict(reason, errors.Join(err, waitErr))
}

// take handles one frame and reports whether more are to be expected.
func (o *outcome) take(k kind, payload []byte) bool {
	switch k {
	case begin:
		o.began = true
	case stdout:
		write(os.Stdout, payload)
	case stderr:
		write(os.Stderr, payload)
	case status:
		code, err := strconv.Atoi(string(payload))
		o.code, o.ended = code, err == nil
		return false
	case gone:
		o.gone = string(payload)
		return false
	}
	return true
}

// write passes the program's output on; a reader that went away (a pipe into
// head) does not stop the program.
func write(w io.Writer, p []byte) { _, _ = w.Write(p) }

// verdict turns what was seen into the host's exit status and sentence.
func (o *outcome) verdict(reason, err error) (int, error) {
	switch {
	case o.ended:
		return o.code, nil
	case errors.Is(reason, errRunLimit):
		return exitLimit, errRunLimit
	case errors.Is(reason, context.Canceled):
		return exitStopped, errors.New("interrupted")
	case o.began:
		return exitDied, fmt.Errorf("the guest died while the program ran: %s", o.why(err))
	case errors.Is(reason, errBootLimit):
		return exitBoot, fmt.Errorf("the guest did not boot: %w", errBootLimit)
	}
	return exitBoot, fmt.Errorf("the guest did not boot: %s", o.why(err))
}

func (o *outcome) why(err error) string {
	if o.gone != "" {
		return o.gone
	}
	return fmt.Sprintf("QEMU ended by itself (%v)", err)
}
