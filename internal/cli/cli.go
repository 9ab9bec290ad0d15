// Package cli is the command line: one file and one options struct for each command.
package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"xentrace/internal/output"
	"xentrace/internal/trace"
)

// Run executes one command line, args without the program's name. What it returns is for
// Report and Status.
//
// SIGINT and SIGTERM end a command in good order; the second one kills at once. SIGPIPE is
// ignored for the process, so that a write to a closed pipe returns an error.
func Run(ctx context.Context, args []string, system System) error {
	signal.Ignore(unix.SIGPIPE)
	ctx, stop := signal.NotifyContext(ctx, os.Interrupt, unix.SIGTERM)
	defer stop()
	ctx, interrupt := context.WithCancel(ctx)
	defer interrupt()
	context.AfterFunc(ctx, stop)

	a := &app{System: system, interrupt: interrupt}
	root := a.root()
	root.SetArgs(append([]string{}, args...)) // nil would be those of the process
	return errors.Join(root.ExecuteContext(ctx), a.helped)
}

type app struct {
	System
	interrupt context.CancelFunc // ends the command as a signal does
	helped    error              // of writing help
}

func (a *app) root() *cobra.Command {
	var version bool
	root := &cobra.Command{
		Use:  "xentrace COMMAND [flags]",
		Long: about,
		Args: cobra.ArbitraryArgs,
		RunE: func(c *cobra.Command, args []string) error {
			switch {
			case version:
				return a.printVersion("text")
			case len(args) == 0:
				return usageError{fmt.Errorf("command: missing, one of %s; see xentrace help", strings.Join(commandNames(c), ", "))}
			}
			return unknownCommand(c, args[0])
		},
		SilenceErrors: true, SilenceUsage: true, DisableFlagsInUseLine: true,
		SuggestionsMinimumDistance: 2, CompletionOptions: cobra.CompletionOptions{DisableDefaultCmd: true},
	}
	root.Flags().BoolVar(&version, "version", false, "same as xentrace version")
	root.SetOut(a.Stdout)
	root.SetErr(a.Stderr)
	root.SetFlagErrorFunc(func(c *cobra.Command, err error) error {
		see := "xentrace help"
		if c.HasParent() {
			see += " " + c.Name()
		}
		return usageError{fmt.Errorf("%s: %w; see %s", c.Name(), err, see)}
	})
	root.SetHelpFunc(func(c *cobra.Command, _ []string) { a.helped = a.help(c) })
	root.SetHelpCommand(a.helpCommand())
	root.AddCommand(
		a.watchCommand(), a.histCommand(), a.checkCommand(), a.probeCommand(), a.fixCommand(), a.congestionCommand(),
		a.demoCommand(), a.versionCommand(), a.completionCommand(), a.manCommand(),
	)
	for _, c := range append(root.Commands(), root) {
		c.DisableFlagsInUseLine = true
		c.Flags().SortFlags = false
		c.InitDefaultHelpFlag()
		c.Flags().Lookup("help").Usage = "show this help"
	}
	return root
}

// commandNames lists the commands, in the order of the help.
func commandNames(root *cobra.Command) []string {
	var names []string
	for _, c := range root.Commands() {
		if !c.Hidden {
			names = append(names, c.Name())
		}
	}
	return names
}

func findCommand(root *cobra.Command, name string) (*cobra.Command, error) {
	for _, c := range root.Commands() {
		if c.Name() == name {
			return c, nil
		}
	}
	return nil, unknownCommand(root, name)
}

func unknownCommand(root *cobra.Command, name string) error {
	if near := root.SuggestionsFor(name); len(near) > 0 {
		return usageError{fmt.Errorf("command %q: unknown; did you mean %s?", name, strings.Join(near, " or "))}
	}
	return usageError{fmt.Errorf("command %q: unknown; one of %s", name, strings.Join(commandNames(root), ", "))}
}

// arguments accepts least to most of them; what names them.
func arguments(what string, least, most int) cobra.PositionalArgs {
	return func(c *cobra.Command, args []string) error {
		if len(args) > most {
			return usageError{fmt.Errorf("%s: unexpected argument %q; see xentrace help %s", c.Name(), args[most], c.Name())}
		}
		if len(args) < least {
			return usageError{fmt.Errorf("%s: %s is missing; see xentrace help %s", c.Name(), what, c.Name())}
		}
		return nil
	}
}

// The exit statuses that scripts rely on.
const (
	statusDone      = 0
	statusFinding   = 1
	statusUsage     = 2
	statusCannotRun = 3
	statusInternal  = 4
)

// A usageError is a command line that makes no sense.
type usageError struct{ error }

func (e usageError) Unwrap() error { return e.error }

// errFinding says, by way of the exit status alone, that what was looked for
// was found.
var errFinding = errors.New("a drop was seen")

// Status returns the exit status for what Run returned.
func Status(err error) int {
	var usage usageError
	switch {
	case err == nil, errors.Is(err, syscall.EPIPE):
		return statusDone
	case errors.Is(err, errFinding):
		return statusFinding
	case errors.As(err, &usage):
		return statusUsage
	case errors.Is(err, trace.ErrCannotRun):
		return statusCannotRun
	default:
		return statusInternal
	}
}

// Report writes what Run returned in one line, unless there is nothing to tell:
// a reader of standard output that went away wants to hear no more.
func Report(w io.Writer, err error) {
	if err == nil || errors.Is(err, errFinding) || errors.Is(err, syscall.EPIPE) {
		return
	}
	text := strings.ReplaceAll(strings.TrimSpace(err.Error()), "\n", "; ")
	fmt.Fprintf(w, "xentrace: %s\n", output.Printable(text))
}
