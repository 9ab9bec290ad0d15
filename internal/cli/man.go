package cli

import (
	"context"
	"fmt"
	"strings"
)

func manCommand() *command {
	return &command{
		name:      "man",
		arguments: "[COMMAND]",
		words:     commandNames,
		maxArgs:   1,
		short:     "print a manual page, of xentrace or of one of its commands",
		long:      []string{"Prints a manual page in roff: xentrace(1), or with a command the page of that one, such as xentrace-watch(1)."},
		examples: []example{
			{"xentrace man | man -l -", "read it"},
			{"xentrace man watch > /usr/local/share/man/man1/xentrace-watch.1", "install one"},
		},
		run: func(_ context.Context, in *invocation) error {
			if len(in.args) == 0 {
				return in.print(overviewPage())
			}
			c, err := findCommand(in.args[0])
			if err != nil {
				return err
			}
			return in.print(commandPage(c))
		},
	}
}

// environment is told in the manual pages.
var environment = []struct{ name, means string }{
	{"NO_COLOR", "if it is not empty, no colours unless --color always."},
	{"TERM", "dumb means no colours and no status line."},
	{"COLUMNS", "how wide to write where no terminal tells; else 100."},
	{"LC_ALL, LC_CTYPE, LANG", "a UTF-8 locale means bars of block characters, else of #."},
}

// A page is a manual page in the making.
type page struct{ strings.Builder }

func newPage(title string) *page {
	p := &page{}
	fmt.Fprintf(p, ".TH %s 1 \"\" xentrace \"User Commands\"\n", strings.ToUpper(title))
	return p
}

func (p *page) section(name string) { fmt.Fprintf(p, ".SH %s\n", name) }

func (p *page) paragraphs(texts ...string) {
	for i, text := range texts {
		if i > 0 {
			p.WriteString(".PP\n")
		}
		p.WriteString(roff(text) + "\n")
	}
}

func (p *page) term(term, means string) {
	fmt.Fprintf(p, ".TP\n%s\n%s\n", term, roff(means))
}

// overviewPage is xentrace(1).
func overviewPage() string {
	p := newPage("xentrace")
	p.section("NAME")
	p.WriteString("xentrace \\- see what the Xen network frontend does to every packet\n")
	p.section("SYNOPSIS")
	p.WriteString("\\fBxentrace\\fR \\fICOMMAND\\fR [\\fIflags\\fR]\n")
	p.section("DESCRIPTION")
	p.paragraphs(
		about,
		"A packet takes one slot of the transmit ring for each 4 KiB page that it touches, and the frontend takes at most 18. What needs more is copied into one buffer by current drivers and dropped by those of Linux 3.7 to 3.16; small packets are dropped where scatter-gather is off. xentrace counts every packet in the kernel, with eBPF, and tells of each one that went wrong.",
		"This is not the program of the same name that comes with Xen's own tools for dom0, which records the hypervisor's trace buffers.",
	)
	p.section("COMMANDS")
	for _, c := range commands() {
		p.term(bold("xentrace "+c.name), sentence(c.short))
	}
	p.common()
	p.section("SEE ALSO")
	p.WriteString(".BR ethtool (8),\n.BR ip-link (8),\n.BR tcpdump (8)\n")
	return p.String()
}

// commandPage is the page of one command.
func commandPage(c *command) string {
	p := newPage("xentrace-" + c.name)
	p.section("NAME")
	fmt.Fprintf(p, "xentrace\\-%s \\- %s\n", c.name, roff(c.short))
	p.section("SYNOPSIS")
	line := bold("xentrace " + c.name)
	if c.arguments != "" {
		line += " " + roff(c.arguments)
	}
	p.WriteString(line + " [\\fIflags\\fR]\n")
	p.section("DESCRIPTION")
	if len(c.long) == 0 {
		p.paragraphs(sentence(c.short))
	}
	p.paragraphs(c.long...)
	p.section("OPTIONS")
	for _, f := range c.allFlags() {
		p.term(roffFlag(f), sentence(f.describe()))
	}
	if len(c.examples) > 0 {
		p.section("EXAMPLES")
	}
	for _, e := range c.examples {
		p.term(bold(e.command), sentence(e.does))
	}
	p.common()
	p.section("SEE ALSO")
	p.WriteString(".BR xentrace (1)\n")
	return p.String()
}

// common is what stands on every page.
func (p *page) common() {
	p.section("EXIT STATUS")
	for _, e := range exitStatuses {
		p.term(bold(e.status), sentence(e.means))
	}
	p.section("ENVIRONMENT")
	for _, e := range environment {
		p.term(bold(e.name), sentence(strings.TrimSuffix(e.means, ".")))
	}
}

func roffFlag(f *flag) string {
	term := bold("--" + f.name)
	if f.short != "" {
		term = bold("-"+f.short) + ", " + term
	}
	if f.value != "" {
		term += " \\fI" + roff(f.value) + "\\fR"
	}
	return term
}

func bold(text string) string { return "\\fB" + roff(text) + "\\fR" }

// roff makes plain text of what roff would take for a request.
func roff(text string) string {
	text = strings.NewReplacer(`\`, `\e`, "-", `\-`, "'", `\(aq`, "`", `\(ga`, "^", `\(ha`, "~", `\(ti`).Replace(text)
	if strings.HasPrefix(text, ".") {
		text = `\&` + text
	}
	return text
}
