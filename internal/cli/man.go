package cli

import (
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/cobra/doc"
)

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
