package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"sync"
	"syscall"
	"time"
)

// framer writes frames of one kind; framers of one console share its lock.
type framer struct {
	mu      *sync.Mutex
	console io.Writer
	kind    kind
}

// Write sends p in frames of at most maxFrame bytes.
func (f framer) Write(p []byte) (int, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for rest := p; ; {
		n := min(len(rest), maxFrame)
		if _, err := f.console.Write(appendFrame(nil, f.kind, rest[:n])); err != nil {
			return 0, fmt.Errorf("console: %w", err)
		}
		if rest = rest[n:]; len(rest) == 0 {
			return len(p), nil
		}
	}
}

// execProgram runs a program with its output framed onto the console and
// returns its exit status, 128 and the signal's number if a signal ended it.
func execProgram(path string, argv []string) (int, error) {
	console, err := os.OpenFile(path, os.O_WRONLY|syscall.O_NOCTTY, 0)
	if err != nil {
		return exitUsage, err
	}
	defer console.Close()
	var mu sync.Mutex
	if _, err := (framer{&mu, console, begin}).Write(nil); err != nil {
		return exitUsage, err
	}
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Stdout = framer{&mu, console, stdout}
	cmd.Stderr = framer{&mu, console, stderr}
	// A process left behind that holds the pipes must not hold up the status.
	cmd.WaitDelay = 2 * time.Second
	err = cmd.Run()
	var exit *exec.ExitError
	switch {
	case err == nil, errors.Is(err, exec.ErrWaitDelay):
		return cmd.ProcessState.ExitCode(), nil
	case errors.As(err, &exit):
		if ws, ok := exit.Sys().(syscall.WaitStatus); ok && ws.Signaled() {
			return 128 + int(ws.Signal()), nil
		}
		return exit.ExitCode(), nil
	}
	fmt.Fprintf(cmd.Stderr, "%v\n", err)
	return 127, nil
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
