// Relay carries a program's output and exit status out of the lab's guest: on the
// guest's disk, and what is short over a console that the kernel, too, writes to.
//
//	relay exec DISK PROGRAM ARGS...        in the guest: run the program
//	relay watched DISK PROGRAM ARGS...     the same, with signs of life
//	relay KIND CONSOLE TEXT                in the guest or dom0: send one frame
//	relay host [flags] QEMU ARGS...        on the host: run QEMU, whose stdout is the console
//
// The host prints the program's stdout and stderr as its own and ends with its
// status, or with one of the statuses below and a sentence. With -shell the
// console belongs to the user's terminal once the guest has booted; ^] ends it.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"
)

// Statuses of `relay host` that are not the guest program's.
const (
	exitDied    = 123 // the guest went away while the program ran
	exitLimit   = 124 // the program ran longer than -limit
	exitBoot    = 125 // the guest did not come as far as starting the program
	exitUsage   = 126
	exitStopped = 130 // interrupted
)

var errUsage = errors.New("usage: relay exec|watched DISK PROGRAM..., relay ready|begin|status|gone CONSOLE TEXT, relay host [flags] QEMU ARGS")

func main() {
	code, err := run(os.Args[1:])
	if err != nil {
		fmt.Fprintf(os.Stderr, "xen lab: %v\n", err)
	}
	os.Exit(code)
}

func run(args []string) (int, error) {
	if len(args) < 3 {
		return exitUsage, errUsage
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	switch args[0] {
	case "exec", "watched":
		return execProgram(args[1], args[2:], args[0] == "watched")
	case "ready":
		return send(args[1], ready, args[2])
	case "begin":
		return send(args[1], begin, args[2])
	case "status":
		return send(args[1], status, args[2])
	case "gone":
		return send(args[1], gone, args[2])
	case "host":
		return host(ctx, args[1:])
	}
	return exitUsage, errUsage
}
