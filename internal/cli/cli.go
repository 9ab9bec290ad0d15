// Package cli is the command line: one file a command, and one table of
// commands and flags from which help, completion and manual pages are made.
package cli

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"strings"

	"github.com/spf13/pflag"
	"golang.org/x/sys/unix"
)

// Run carries out one command line, args without the program's name. What it
// returns is for Report and Status.
//
// SIGINT and SIGTERM end a command in good order; the second one kills at once.
// SIGPIPE is ignored for the process, so that a write to a closed pipe returns
// an error.
func Run(ctx context.Context, args []string, system System) error {
	signal.Ignore(unix.SIGPIPE)
	ctx, stop := signal.NotifyContext(ctx, os.Interrupt, unix.SIGTERM)
	defer stop()
	ctx, interrupt := context.WithCancel(ctx)
	defer interrupt()
	context.AfterFunc(ctx, stop)

	if len(args) == 0 {
		return usageError{fmt.Errorf("command: missing, one of %s; see xentrace help", strings.Join(commandNames(), ", "))}
	}
	name, rest := args[0], args[1:]
	switch name {
	case "-h", "--help":
		name = "help"
	case "--version":
		name = "version"
	}
	command, err := findCommand(name)
	if err != nil {
		return err
	}
	in, err := parse(command, rest)
	if err != nil {
		return err
	}
	in.System, in.interrupt = system, interrupt
	if in.help {
		return system.print(helpText(command))
	}
	return command.run(ctx, in)
}

// An invocation is one command with its flags and arguments.
type invocation struct {
	System
	settings
	args []string

	interrupt context.CancelFunc // ends the command as a signal does

	keepPrivileges bool // something is still to be done that needs them
}

// parse reads the flags of a command line.
func parse(c *command, args []string) (*invocation, error) {
	in := &invocation{settings: defaults()}
	in.duration = c.duration
	set := pflag.NewFlagSet(c.name, pflag.ContinueOnError)
	set.SortFlags = false
	for _, f := range c.allFlags() {
		f.add(set, &in.settings)
	}
	if err := set.Parse(args); err != nil {
		return nil, usageError{fmt.Errorf("%s: %w; see xentrace help %s", c.name, err, c.name)}
	}
	in.args = set.Args()
	if in.help {
		return in, nil
	}
	if len(in.args) > c.maxArgs {
		return nil, usageError{fmt.Errorf("%s: unexpected argument %q; see xentrace help %s", c.name, in.args[c.maxArgs], c.name)}
	}
	if len(in.args) < c.minArgs {
		return nil, usageError{fmt.Errorf("%s: %s is missing; see xentrace help %s", c.name, c.arguments, c.name)}
	}
	return in, nil
}

// findCommand returns the command of that name.
func findCommand(name string) (*command, error) {
	for _, c := range commands() {
		if c.name == name {
			return c, nil
		}
	}
	if strings.HasPrefix(name, "-") {
		return nil, usageError{fmt.Errorf("flag %s: before the command; write xentrace COMMAND %s", name, name)}
	}
	if near := nearest(name, commandNames()); near != "" {
		return nil, usageError{fmt.Errorf("command %q: unknown; did you mean %s?", name, near)}
	}
	return nil, usageError{fmt.Errorf("command %q: unknown; one of %s", name, strings.Join(commandNames(), ", "))}
}
