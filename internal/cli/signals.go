package cli

import (
	"context"
	"os"
	"os/signal"
	"runtime"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// sameRequest is how long after the first signal another of its kind belongs to it:
// timeout(1) signals the process and then its process group.
const sameRequest = time.Second

// withSignals returns a context that ends at the first SIGINT, SIGTERM, SIGHUP or SIGQUIT.
// A later one kills the process. stop restores the default actions.
func withSignals(parent context.Context) (ctx context.Context, stop func()) {
	kinds := []os.Signal{unix.SIGINT, unix.SIGTERM, unix.SIGQUIT}
	if !signal.Ignored(unix.SIGHUP) { // nohup(1) ignores it
		kinds = append(kinds, unix.SIGHUP)
	}
	signals := make(chan os.Signal, 4)
	signal.Notify(signals, kinds...)
	ctx, cancel := context.WithCancel(parent)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		endAtSignal(ctx, cancel, signals, time.Now, die)
	}()
	return ctx, func() {
		signal.Stop(signals)
		close(signals)
		cancel()
		<-ended
	}
}

// endAtSignal calls cancel at the first signal and kill at a later one, until signals is closed.
func endAtSignal(ctx context.Context, cancel func(), signals <-chan os.Signal, now func() time.Time, kill func(os.Signal)) {
	var first os.Signal
	var at time.Time
	for s := range signals {
		switch {
		case first == nil && (ctx.Err() == nil || s == unix.SIGHUP):
			// A run that ends because its terminal went away gets SIGHUP as well.
			first, at = s, now()
			cancel()
		case (s == first || s == unix.SIGHUP) && now().Sub(at) < sameRequest:
			// systemd sends SIGHUP right after SIGTERM to a login session.
		default:
			kill(s)
		}
	}
}

// die ends the process as the signal would have. SIGQUIT exits: the Go runtime would print
// every goroutine.
func die(s os.Signal) {
	number := s.(syscall.Signal)
	if number != unix.SIGQUIT {
		runtime.LockOSThread() // a signal to this thread is delivered before Tgkill returns
		signal.Reset(s)
		_ = unix.Tgkill(unix.Getpid(), unix.Gettid(), number)
	}
	const killed = 128 // what a shell adds to the signal's number
	os.Exit(killed + int(number))
}
