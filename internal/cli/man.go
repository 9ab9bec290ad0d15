package cli

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/cobra/doc"
	"github.com/spf13/pflag"

	"xentrace/internal/live"
)

func (a *app) manCommand() *cobra.Command {
	return &cobra.Command{
		Use: "man [COMMAND]", Short: "Print a man page (roff) for xentrace or a command",
		Args: commandArgument, ValidArgsFunction: completeCommands,
		Example: `  xentrace man | man -l -
  xentrace man watch > /usr/local/share/man/man1/xentrace-watch.1`,
		RunE: func(c *cobra.Command, args []string) error {
			page := c.Root()
			if len(args) > 0 {
				page, _ = findCommand(page, args[0])
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

// man writes the man page. Its sections but the first and the last are added to the
// description, as Markdown.
func (a *app) man(c *cobra.Command) error {
	var b strings.Builder
	b.WriteString(strings.TrimSuffix(c.Short, "."))
	if c.Long != "" {
		b.Reset()
		b.WriteString(c.Long)
	}
	define := func(term, means string) { b.WriteString(term + "\n:   " + means + ".\n\n") }
	if c.HasAvailableSubCommands() {
		c.Short = "trace the Linux Xen network frontend"
		b.WriteString("\n\nThis is not Xen's own xentrace for dom0, which records hypervisor trace buffers.\n")
		b.WriteString("\n# COMMANDS\n")
		for _, name := range commandNames(c) {
			command, _ := findCommand(c, name)
			define("**"+name+"**", command.Short)
		}
	}
	b.WriteString("\n# OPTIONS\n")
	c.LocalFlags().VisitAll(func(f *pflag.Flag) {
		define(option(f))
		f.Hidden = true // GenMan would list it without the name of its value
	})
	if c.Flags().Lookup("live") != nil {
		b.WriteString("# KEYS OF --live\n")
		for _, key := range live.Keys() {
			define("**"+key.What+"**", key.Means)
		}
	}
	b.WriteString("# EXIT STATUS\n")
	for _, e := range statusesOf(c) {
		define("**"+e.status+"**", e.means)
	}
	b.WriteString("# ENVIRONMENT\n")
	for _, e := range environment {
		define("**"+e.name+"**", e.means)
	}
	c.Long = b.String()
	c.DisableAutoGenTag = true
	return doc.GenMan(c, &doc.GenManHeader{Section: "1", Source: "xentrace", Manual: "User Commands"}, a.stdout())
}

// option is a flag as the help has it.
func option(f *pflag.Flag) (term, means string) {
	name, means := pflag.UnquoteUsage(f)
	term = "**--" + f.Name + "**"
	if f.Shorthand != "" {
		term = "**-" + f.Shorthand + "**, " + term
	}
	if name != "" {
		term += " *" + name + "*"
	}
	if f.DefValue != "" && f.DefValue != "false" {
		means += fmt.Sprintf(" (default %s)", f.DefValue)
	}
	return term, means
}
