package cli

import (
	"context"
	"fmt"
	"strings"
)

// about is what xentrace is, in a sentence.
const about = "See what the Xen network frontend of Linux does to every packet it is handed."

// exitStatuses are told in help and manual pages.
var exitStatuses = []struct{ status, means string }{
	{"0", "done; an interrupt is the usual end"},
	{"1", "a finding: watch --exit-code saw a drop, check found something to WARN of or a FAIL, probe lost its packet, fix refused a step or did not end the drops"},
	{"2", "the command line makes no sense"},
	{"3", "cannot run here: no privilege, lockdown, no BTF, no interface; the message says what is missing"},
	{"4", "internal error"},
}

func helpCommand() *command {
	return &command{
		name:      "help",
		arguments: "[COMMAND]",
		words:     commandNames,
		maxArgs:   1,
		short:     "show how to use xentrace, or one of its commands",
		run: func(_ context.Context, in *invocation) error {
			if len(in.args) == 0 {
				return in.print(overview())
			}
			c, err := findCommand(in.args[0])
			if err != nil {
				return err
			}
			return in.print(helpText(c))
		},
	}
}

// overview is the help on xentrace as a whole.
func overview() string {
	var b strings.Builder
	b.WriteString(about + "\n\nUsage: xentrace COMMAND [flags]\n\nCommands:\n")
	for _, c := range commands() {
		definition(&b, c.name, c.short, 14)
	}
	b.WriteString("\nExit status:\n")
	for _, e := range exitStatuses {
		definition(&b, e.status, e.means, 5)
	}
	b.WriteString("\nxentrace help COMMAND tells its flags; xentrace man makes a manual page.\n")
	return b.String()
}

// helpText is the help on one command.
func helpText(c *command) string {
	if c.name == "help" {
		return overview()
	}
	var b strings.Builder
	fmt.Fprintf(&b, "Usage: %s\n\n", usageLine(c))
	if len(c.long) == 0 {
		wrap(&b, sentence(c.short), 0, 0)
	}
	for i, paragraph := range c.long {
		if i > 0 {
			b.WriteByte('\n')
		}
		wrap(&b, paragraph, 0, 0)
	}
	b.WriteString("\nFlags:\n")
	for _, f := range c.allFlags() {
		definition(&b, flagTerm(f), f.describe(), 26)
	}
	if len(c.examples) > 0 {
		b.WriteString("\nExamples:\n")
	}
	for _, e := range c.examples {
		fmt.Fprintf(&b, "  %s\n", e.command)
		wrap(&b, e.does, 6, 6)
	}
	return b.String()
}

func usageLine(c *command) string {
	line := "xentrace " + c.name
	if c.arguments != "" {
		line += " " + c.arguments
	}
	return line + " [flags]"
}

// flagTerm is how a flag is written: -o, --output FORMAT.
func flagTerm(f *flag) string {
	term := "    --" + f.name
	if f.short != "" {
		term = "-" + f.short + ", --" + f.name
	}
	if f.value != "" {
		term += " " + f.value
	}
	return term
}

// sentence makes one of a phrase.
func sentence(phrase string) string {
	return strings.ToUpper(phrase[:1]) + phrase[1:] + "."
}

const helpWidth = 80

// definition writes a term and what it means, the latter indented to a column
// of its own.
func definition(b *strings.Builder, term, means string, column int) {
	if len(term) > column-4 {
		fmt.Fprintf(b, "  %s\n", term)
		wrap(b, means, column, column)
		return
	}
	fmt.Fprintf(b, "  %-*s", column-2, term)
	wrap(b, means, 0, column)
}

// wrap writes text in lines of at most helpWidth columns: the first indented by
// first (what stands before it is up to the caller), the others by rest.
func wrap(b *strings.Builder, text string, first, rest int) {
	b.WriteString(strings.Repeat(" ", first))
	column := rest
	for i, word := range strings.Fields(text) {
		switch {
		case i == 0:
		case column+1+len(word) > helpWidth:
			b.WriteString("\n" + strings.Repeat(" ", rest))
			column = rest
		default:
			b.WriteByte(' ')
			column++
		}
		b.WriteString(word)
		column += len(word)
	}
	b.WriteByte('\n')
}
