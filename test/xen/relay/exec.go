package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"sync"
	"syscall"
	"time"
)

// framer writes frames of one kind; framers of one stream share its lock.
type framer struct {
	mu     *sync.Mutex
	stream io.Writer
	kind   kind
}

// Write sends p in frames of at most maxFrame bytes.
func (f framer) Write(p []byte) (int, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for rest := p; ; {
		n := min(len(rest), maxFrame)
		if _, err := f.stream.Write(appendFrame(nil, f.kind, rest[:n])); err != nil {
			return 0, fmt.Errorf("output: %w", err)
		}
		if rest = rest[n:]; len(rest) == 0 {
			return len(p), nil
		}
	}
}

// aliveInterval is the time between two signs of life.
const aliveInterval = 20 * time.Second

// execProgram runs a program with its output framed onto the disk, and its status
// after it; before that the kernel's log, if it failed. With signs it also sends
// signs of life, which take instructions.
func execProgram(path string, argv []string, signs bool) (int, error) {
	disk, err := openDiskWriter(path)
	if err != nil {
		return exitUsage, err
	}
	var mu sync.Mutex
	to := func(k kind) framer { return framer{&mu, disk, k} }
	if _, err := to(begin).Write(nil); err != nil {
		return exitUsage, errors.Join(err, disk.Close())
	}
	stop := func() {}
	if signs {
		sign := func() { _, _ = to(alive).Write(nil) } // an error of the disk shows in the program's own output
		sign()
		stop = every(aliveInterval, sign)
	}
	code := wait(argv, to(stdout), to(stderr))
	stop()
	if code != 0 {
		dmesg := exec.Command("dmesg")
		dmesg.Stdout = to(kernelLog)
		err = dmesg.Run()
	}
	_, serr := to(status).Write([]byte(strconv.Itoa(code)))
	return 0, errors.Join(err, serr, disk.Close())
}

// every calls f again and again, until stop is called and f has returned.
func every(interval time.Duration, f func()) (stop func()) {
	ticker, done, stopped := time.NewTicker(interval), make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		for {
			select {
			case <-ticker.C:
				f()
			case <-done:
				return
			}
		}
	}()
	return func() {
		ticker.Stop()
		close(done)
		<-stopped
	}
}

// wait runs a program to its end and returns its exit status, 128 and the
// signal's number if a signal ended it.
func wait(argv []string, out, errs io.Writer) int {
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Stdout, cmd.Stderr = out, errs
	// A process left behind that holds the pipes must not hold up the status.
	cmd.WaitDelay = 2 * time.Second
	err := cmd.Run()
	var exit *exec.ExitError
	switch {
	case err == nil:
		return 0
	case errors.Is(err, exec.ErrWaitDelay):
		return cmd.ProcessState.ExitCode()
	case errors.As(err, &exit):
		if ws, ok := exit.Sys().(syscall.WaitStatus); ok && ws.Signaled() {
			return 128 + int(ws.Signal())
		}
		return exit.ExitCode()
	}
	fmt.Fprintln(errs, err)
	return 127
}

// send writes one frame to the console.
func send(path string, k kind, payload string) (int, error) {
	console, err := os.OpenFile(path, os.O_WRONLY|syscall.O_NOCTTY, 0)
	if err != nil {
		return exitUsage, err
	}
	defer console.Close()
	var mu sync.Mutex
	if _, err := (framer{&mu, console, k}).Write([]byte(payload)); err != nil {
		return exitUsage, err
	}
	return 0, nil
}
