package cli

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"
)

const about = "xentrace shows which packets xen-netfront drops, linearizes or bounces, and why."

const helpWidth = 80

var exitStatuses = []struct{ status, means string }{
	{"0", "done; also after an interrupt"},
	{"1", "a finding: check has a WARN or FAIL, watch --exit-code saw a drop, probe lost a datagram, fix refused a step or drops continue"},
	{"2", "usage error"},
	{"3", "cannot run here (privilege, lockdown, no BTF, no interface); the message says what is missing"},
	{"4", "internal error"},
}

// helpCommand replaces cobra's, which exits with 0 for a command that does not exist.
func (a *app) helpCommand() *cobra.Command {
	return &cobra.Command{
		Use: "help [COMMAND]", Short: "Show help for xentrace or a command",
		Args: arguments("COMMAND", 0, 1), ValidArgsFunction: completeCommands,
		RunE: func(c *cobra.Command, args []string) error {
			if len(args) == 0 {
				return c.Root().Help()
			}
			command, err := findCommand(c.Root(), args[0])
			if err != nil {
				return err
			}
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

func (a *app) help(c *cobra.Command) error {
	var b strings.Builder
	if c.Long == "" {
		b.WriteString(c.Short + ".\n")
	} else {
		b.WriteString(c.Long + "\n")
	}
	fmt.Fprintf(&b, "\nUsage: %s\n", c.UseLine())
	if !c.HasParent() {
		b.WriteString("\nCommands:\n")
		for _, command := range c.Commands() {
			fmt.Fprintf(&b, "  %-12s%s\n", command.Name(), command.Short)
		}
		b.WriteString("\nExit status:\n")
		for _, e := range exitStatuses {
			fmt.Fprintf(&b, "  %s  %s\n", e.status, strings.ReplaceAll(wrapped(e.means, 5), "\n", "\n     "))
		}
		b.WriteString("\n")
	}
	b.WriteString("\nFlags:\n" + c.LocalFlags().FlagUsagesWrapped(helpWidth))
	if c.Example != "" {
		b.WriteString("\nExamples:\n" + c.Example + "\n")
	}
	if !c.HasParent() {
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
