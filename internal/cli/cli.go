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

	"xentrace/internal/netdev"
	"xentrace/internal/output"
	"xentrace/internal/trace"
)

// Run executes one command line, args without the program's name. What it returns is for
// Report and Status.
//
// SIGINT, SIGTERM, SIGHUP and SIGQUIT end a command with its summary, within 2 s if standard
// output or error is not read; one that follows after a second kills at once. SIGPIPE is
// ignored for the process, so that a write to a closed pipe returns an error.
func Run(ctx context.Context, args []string, system System) error {
	return run(ctx, args, system, (*app).root)
}

// RunExporter executes the command line of xentrace-exporter likewise.
func RunExporter(ctx context.Context, args []string, system System) error {
	return run(ctx, args, system, (*app).exporterRoot)
}

func run(ctx context.Context, args []string, system System, rootOf func(*app) *cobra.Command) error {
	signal.Ignore(unix.SIGPIPE)
	ctx, interrupt := context.WithCancel(ctx)
	defer interrupt()
	ctx, stop := withSignals(ctx)
	defer stop()

	system.ended = ctx.Done()
	a := &app{System: system, interrupt: interrupt}
	root := rootOf(a)
	args = append([]string{}, args...) // nil would be those of the process
	if len(args) == 1 && strings.HasPrefix(args[0], cobra.ShellCompRequestCmd) {
		args = append(args, "") // complete an empty word
	}
	root.SetArgs(args)
	command, err := root.ExecuteContextC(ctx)
	if ctx.Err() != nil && errors.Is(err, context.Canceled) { // interrupted before there was anything to show
		err = nil
	}
	return explained(command, errors.Join(err, a.helped))
}

// explained has a usage error name the command and its help.
func explained(c *cobra.Command, err error) error {
	var usage usageError
	if !errors.As(err, &usage) {
		return err
	}
	prefix, help := "", "xentrace help"
	switch {
	case c.HasParent():
		prefix, help = c.Name()+": ", help+" "+c.Name()
	case !c.HasAvailableSubCommands():
		help = c.Name() + " --help"
	}
	if strings.HasPrefix(err.Error(), prefix) {
		prefix = ""
	}
	if strings.Contains(err.Error(), "; see xentrace help") {
		return fmt.Errorf("%s%w", prefix, err)
	}
	return fmt.Errorf("%s%w; see %s", prefix, err, help)
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
		Args: noCommand,
		RunE: func(c *cobra.Command, _ []string) error {
			if version {
				return a.printVersion("text")
			}
			return usageError{fmt.Errorf("missing argument COMMAND: one of %s", strings.Join(commandNames(c), ", "))}
		},
	}
	toggle(root, &version, "version", "", "same as xentrace version")
	help := a.helpCommand()
	root.SetHelpCommand(help)
	root.AddCommand(
		help,
		a.watchCommand(), a.histCommand(), a.recordCommand(), a.replayCommand(), a.reportCommand(), a.compareCommand(),
		a.checkCommand(), a.probeCommand(), a.fixCommand(), a.congestionCommand(), a.learnCommand(),
		a.demoCommand(), a.versionCommand(), a.completionCommand(), a.manCommand(),
	)
	a.finish(root)
	return root
}

// finish sets what all commands have in common.
func (a *app) finish(root *cobra.Command) {
	root.SilenceErrors, root.SilenceUsage = true, true
	root.SuggestionsMinimumDistance, root.CompletionOptions = 2, cobra.CompletionOptions{DisableDefaultCmd: true}
	root.SetOut(a.stdout())
	root.SetErr(a.Stderr)
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return usageError{err} })
	root.SetHelpFunc(func(c *cobra.Command, _ []string) { a.helped = a.help(c) })
	for _, c := range append(root.Commands(), root) {
		c.DisableFlagsInUseLine = true
		c.Flags().SortFlags = false
		toggle(c, new(bool), "help", "h", "show this help") // cobra reads its value
		_ = c.Flags().SetAnnotation("help", cobra.FlagSetByCobraAnnotation, []string{"true"})
	}
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
	if near := root.SuggestionsFor(name); name != "" && len(near) > 0 {
		return usageError{fmt.Errorf("command %q: unknown (did you mean %s?); see xentrace help", name, strings.Join(near, " or "))}
	}
	return usageError{fmt.Errorf("command %q: unknown, not one of %s; see xentrace help", name, strings.Join(commandNames(root), ", "))}
}

// noCommand explains arguments of xentrace itself: none of them is a command, or it comes after --.
func noCommand(root *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	if command, err := findCommand(root, args[0]); err == nil {
		return usageError{fmt.Errorf("argument \"--\": not allowed before the command; run xentrace %s", command.Name())}
	}
	return unknownCommand(root, args[0])
}

// none accepts no argument.
func none(_ *cobra.Command, args []string) error {
	if len(args) > 0 {
		return usageError{fmt.Errorf("unexpected argument %q", args[0])}
	}
	return nil
}

// commandArgument accepts one argument at most, the name of a command.
func commandArgument(c *cobra.Command, args []string) error {
	if len(args) > 1 {
		return none(c, args[1:])
	}
	if len(args) == 1 {
		_, err := findCommand(c.Root(), args[0])
		return err
	}
	return nil
}

// The exit statuses that scripts rely on.
const (
	statusDone      = 0
	statusFinding   = 1
	statusUsage     = 2
	statusCannotRun = 3
	statusInternal  = 4
)

// A usageError ends with exit status 2.
type usageError struct{ error }

func (e usageError) Unwrap() error { return e.error }

// ofPath is an error of a file that the user named: of usage, unless the machine or an
// interrupt caused it.
func ofPath(err error) error {
	for _, other := range []error{context.Canceled, syscall.EMFILE, syscall.ENFILE, syscall.ENOMEM, syscall.ENOSPC, syscall.EDQUOT, syscall.EIO} {
		if errors.Is(err, other) {
			return err
		}
	}
	return usageError{err}
}

// errFinding sets the exit status only.
var errFinding = errors.New("a drop was seen")

// Status returns the exit status for what Run returned.
func Status(err error) int {
	var usage usageError
	var nagios nagiosStatus
	switch {
	case errors.As(err, &nagios):
		return int(nagios)
	case err == nil, errors.Is(err, syscall.EPIPE):
		return statusDone
	case errors.Is(err, errFinding):
		return statusFinding
	case errors.As(err, &usage):
		return statusUsage
	case errors.Is(err, trace.ErrCannotRun), errors.Is(err, netdev.ErrNoProc), moreDescriptors(err) != "":
		return statusCannotRun
	default:
		return statusInternal
	}
}

// moreDescriptors is what to do about an error that too many open files caused; "" for any other.
func moreDescriptors(err error) string {
	var limit syscall.Rlimit
	switch {
	case errors.Is(err, syscall.ENFILE):
		return ": raise the machine's limit (sysctl fs.file-max)"
	case errors.Is(err, syscall.EMFILE) && syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit) == nil:
		return fmt.Sprintf(": raise this process's limit of %d (ulimit -n)", limit.Cur)
	}
	return ""
}

// Report writes what Run returned in one line, unless there is nothing to report:
// a reader of standard output that went away wants to hear no more.
func Report(w io.Writer, err error) {
	var nagios nagiosStatus
	if err == nil || errors.Is(err, errFinding) || errors.As(err, &nagios) || errors.Is(err, syscall.EPIPE) {
		return
	}
	oneLine := strings.NewReplacer(":\n  ", ": ", "\n", "; ") // what is wrong in YAML is indented
	text := oneLine.Replace(strings.TrimSpace(err.Error())) + moreDescriptors(err)
	priority := ""
	if onJournal(w, os.Getenv) {
		priority = output.PriorityError
	}
	ended := make(chan struct{})
	close(ended) // whoever does not read standard error does not keep the process from ending
	fmt.Fprintf(&abandoningWriter{Writer: w, ended: ended, grace: writeGrace}, "%sxentrace: %s\n", priority, output.Printable(text))
}
