package cli

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/cobra/doc"
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

func (a *app) completionCommand() *cobra.Command {
	shells := []string{"bash", "zsh", "fish", "powershell"}
	return &cobra.Command{
		Use: "completion " + strings.Join(shells, "|"), Short: "Print a shell completion script",
		Args: arguments(strings.Join(shells, "|"), 1, 1), ValidArgs: shells,
		Example: `  source <(xentrace completion bash)    # this shell
  xentrace completion bash > /etc/bash_completion.d/xentrace
  xentrace completion zsh > /usr/local/share/zsh/site-functions/_xentrace
  xentrace completion fish > /etc/fish/completions/xentrace.fish`,
		RunE: func(c *cobra.Command, args []string) error {
			root := c.Root()
			switch args[0] {
			case "bash":
				return root.GenBashCompletionV2(a.Stdout, true)
			case "zsh":
				return root.GenZshCompletion(a.Stdout)
			case "fish":
				return root.GenFishCompletion(a.Stdout, true)
			case "powershell":
				return root.GenPowerShellCompletionWithDesc(a.Stdout)
			}
			return usageError{fmt.Errorf("shell %q: not one of %s", args[0], strings.Join(shells, ", "))}
		},
	}
}

func (a *app) manCommand() *cobra.Command {
	return &cobra.Command{
		Use: "man [COMMAND]", Short: "Print a man page (roff) for xentrace or a command",
		Args: arguments("COMMAND", 0, 1), ValidArgsFunction: completeCommands,
		Example: `  xentrace man | man -l -
  xentrace man watch > /usr/local/share/man/man1/xentrace-watch.1`,
		RunE: func(c *cobra.Command, args []string) error {
			page := c.Root()
			if len(args) > 0 {
				command, err := findCommand(page, args[0])
				if err != nil {
					return err
				}
				page = command
			}
			return a.man(page)
		},
	}
}

var environment = []struct{ name, means string }{
	{"NO_COLOR", "if not empty: no colors, unless --color always"},
	{"TERM", "dumb: no colors, no status line"},
	{"COLUMNS", "output width where stdout is not a terminal; default 100"},
	{"LC_ALL, LC_CTYPE, LANG", "a UTF-8 locale: bars of block characters, otherwise #"},
}

// man writes the manual page. What help does not have is added to the description, as Markdown.
func (a *app) man(c *cobra.Command) error {
	var b strings.Builder
	b.WriteString(strings.TrimSuffix(c.Short, "."))
	if c.Long != "" {
		b.Reset()
		b.WriteString(c.Long)
	}
	if !c.HasParent() {
		c.Short = "trace the Linux Xen network frontend"
		b.WriteString("\n\nThis is not Xen's own xentrace for dom0, which records hypervisor trace buffers.\n")
	}
	b.WriteString("\n# EXIT STATUS\n")
	for _, e := range exitStatuses {
		b.WriteString("**" + e.status + "**\n:   " + e.means + ".\n\n")
	}
	b.WriteString("# ENVIRONMENT\n")
	for _, e := range environment {
		b.WriteString("**" + e.name + "**\n:   " + e.means + ".\n\n")
	}
	c.Long = b.String()
	c.DisableAutoGenTag = true
	return doc.GenMan(c, &doc.GenManHeader{Section: "1", Source: "xentrace", Manual: "User Commands"}, a.Stdout)
}
