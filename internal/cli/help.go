package cli

import (
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"
)

const about = "xentrace shows which packets xen-netfront drops, linearizes or bounces, and why."

const helpWidth = 80

type exitStatus struct{ status, means string }

var exitStatuses = []exitStatus{
	{"0", "done; also after an interrupt"},
	{"1", "a finding: check has a WARN or FAIL, watch --exit-code saw a drop, probe lost a datagram, fix refused a step or drops continue"},
	{"2", "usage error"},
	{"3", "cannot run here (privilege, lockdown, no BTF, no interface); the message names what is missing"},
	{"4", "internal error"},
}

// statusesOf are those that a command exits with; xentrace-exporter finds nothing.
func statusesOf(c *cobra.Command) []exitStatus {
	if c.Root().HasAvailableSubCommands() {
		return exitStatuses
	}
	return slices.DeleteFunc(slices.Clone(exitStatuses), func(e exitStatus) bool { return e.status == "1" })
}

// helpCommand replaces cobra's, which exits with 0 for a command that does not exist.
func (a *app) helpCommand() *cobra.Command {
	return &cobra.Command{
		Use: "help [COMMAND]", Short: "Show help for xentrace or a command",
		Args: commandArgument, ValidArgsFunction: completeCommands,
		RunE: func(c *cobra.Command, args []string) error {
			if len(args) == 0 {
				return c.Root().Help()
			}
			command, _ := findCommand(c.Root(), args[0])
			return command.Help()
		},
	}
}

func completeCommands(c *cobra.Command, args []string, _ string) ([]cobra.Completion, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	return commandNames(c.Root()), cobra.ShellCompDirectiveNoFileComp
}

// help prints the help of a command; arguments that the command does not accept are an error.
func (a *app) help(c *cobra.Command) error {
	if args := c.Flags().Args(); len(args) > 0 {
		if err := c.ValidateArgs(args); err != nil {
			return err
		}
	}
	var b strings.Builder
	if c.Long == "" {
		b.WriteString(c.Short + ".\n")
	} else {
		b.WriteString(c.Long + "\n")
	}
	fmt.Fprintf(&b, "\nUsage: %s\n", c.UseLine())
	if c.HasAvailableSubCommands() {
		b.WriteString("\nCommands:\n")
		for _, command := range c.Commands() {
			fmt.Fprintf(&b, "  %-12s%s\n", command.Name(), command.Short)
		}
	}
	if !c.HasParent() {
		b.WriteString("\nExit status:\n")
		for _, e := range statusesOf(c) {
			fmt.Fprintf(&b, "  %s  %s\n", e.status, strings.ReplaceAll(wrapped(e.means, 5), "\n", "\n     "))
		}
		b.WriteString("\n")
	}
	b.WriteString("\nFlags:\n" + c.LocalFlags().FlagUsagesWrapped(helpWidth))
	if c.Example != "" {
		b.WriteString("\nExamples:\n" + c.Example + "\n")
	}
	if c.HasAvailableSubCommands() {
		b.WriteString("\nxentrace help COMMAND lists its flags.\n")
	}
	return a.print(strings.ReplaceAll(b.String(), "\n\n\n", "\n\n"))
}

// wrapped breaks text into lines; the first begins in column.
func wrapped(text string, column int) string {
	const helpWidth = helpWidth - 5 // of what is indented
	var b strings.Builder
	for i, word := range strings.Fields(text) {
		switch {
		case i == 0:
		case column+1+len(word) > helpWidth:
			b.WriteByte('\n')
			column = 0
		default:
			b.WriteByte(' ')
			column++
		}
		b.WriteString(word)
		column += len(word)
	}
	return b.String()
}

func (a *app) completionCommand() *cobra.Command {
	shells := []string{"bash", "zsh", "fish", "powershell"}
	return &cobra.Command{
		Use: "completion " + strings.Join(shells, "|"), Short: "Print a shell completion script",
		Long: "Prints a completion script. The one for bash needs the bash-completion package.",
		Args: func(c *cobra.Command, args []string) error {
			switch {
			case len(args) == 0:
				return usageError{fmt.Errorf("missing argument SHELL: one of %s", strings.Join(shells, ", "))}
			case !slices.Contains(shells, args[0]):
				return usageError{fmt.Errorf("shell %q: not one of %s", args[0], strings.Join(shells, ", "))}
			}
			return none(c, args[1:])
		},
		ValidArgs: shells,
		Example: `  source <(xentrace completion bash)    # this shell
  xentrace completion bash > /etc/bash_completion.d/xentrace
  xentrace completion zsh > /usr/local/share/zsh/site-functions/_xentrace
  xentrace completion fish > /etc/fish/completions/xentrace.fish`,
		RunE: func(c *cobra.Command, args []string) error {
			root, out := c.Root(), a.stdout()
			switch args[0] {
			case "bash":
				return root.GenBashCompletionV2(out, true)
			case "zsh":
				return root.GenZshCompletion(out)
			case "fish":
				return root.GenFishCompletion(out, true)
			default:
				return root.GenPowerShellCompletionWithDesc(out)
			}
		},
	}
}
