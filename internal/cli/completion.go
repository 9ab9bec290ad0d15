package cli

import (
	"context"
	"fmt"
	"slices"
	"strings"
)

var shells = []string{"bash", "zsh", "fish"}

func completionCommand() *command {
	return &command{
		name:      "completion",
		arguments: "bash|zsh|fish",
		words:     func() []string { return shells },
		minArgs:   1,
		maxArgs:   1,
		short:     "print a script that completes xentrace's command lines in a shell",
		examples: []example{
			{"source <(xentrace completion bash)", "for this shell"},
			{"xentrace completion bash > /etc/bash_completion.d/xentrace", "for all users, from the next shell on"},
			{"xentrace completion zsh > /usr/local/share/zsh/site-functions/_xentrace", "the same for zsh"},
			{"xentrace completion fish > /etc/fish/completions/xentrace.fish", "the same for fish"},
		},
		run: func(_ context.Context, in *invocation) error {
			switch shell := in.args[0]; shell {
			case "bash":
				return in.print(bashCompletion())
			case "zsh":
				return in.print(zshCompletion())
			case "fish":
				return in.print(fishCompletion())
			default:
				return usageError{fmt.Errorf("shell %q: not one of %s", shell, strings.Join(shells, ", "))}
			}
		},
	}
}

// bashCompletion lists interfaces itself: compgen -W would expand their names,
// and those may hold anything.
func bashCompletion() string {
	var b strings.Builder
	fmt.Fprintf(&b, `# bash completion for xentrace
_xentrace() {
    local current=${COMP_WORDS[COMP_CWORD]} previous=${COMP_WORDS[COMP_CWORD-1]} interface
    COMPREPLY=()
    if ((COMP_CWORD == 1)); then
        COMPREPLY=($(compgen -W '%s' -- "$current"))
        return
    fi
    if [[ $current == = ]]; then
        current=
    elif [[ $previous == = ]]; then
        previous=${COMP_WORDS[COMP_CWORD-2]}
    fi
    case ${COMP_WORDS[1]} in
`, strings.Join(commandNames(), " "))
	for _, c := range commands() {
		fmt.Fprintf(&b, "    %s)\n        case $previous in\n", c.name)
		for _, f := range c.allFlags() {
			bashFlag(&b, f)
		}
		words := longFlags(c)
		if c.words != nil {
			words = slices.Concat(c.words(), words)
		}
		fmt.Fprintf(&b, "        *) COMPREPLY=($(compgen -W '%s' -- \"$current\")) ;;\n        esac\n        ;;\n", strings.Join(words, " "))
	}
	b.WriteString("    esac\n}\ncomplete -F _xentrace xentrace\n")
	return b.String()
}

func bashFlag(b *strings.Builder, f *flag) {
	if f.value == "" {
		return
	}
	pattern := "--" + f.name
	if f.short != "" {
		pattern = "-" + f.short + "|" + pattern
	}
	fmt.Fprintf(b, "        %s)\n", pattern)
	switch {
	case len(f.words) > 0:
		fmt.Fprintf(b, "            COMPREPLY=($(compgen -W '%s' -- \"$current\"))\n", strings.Join(f.words, " "))
	case f.completes == interfaceNames:
		b.WriteString(`            for interface in /sys/class/net/*; do
                interface=${interface##*/}
                [[ $interface == "$current"* ]] && COMPREPLY+=("$(printf %q "$interface")")
            done
`)
	case f.completes == fileNames:
		b.WriteString("            compopt -o default\n")
	}
	b.WriteString("            ;;\n")
}

func longFlags(c *command) []string {
	var names []string
	for _, f := range c.allFlags() {
		names = append(names, "--"+f.name)
	}
	return names
}

func zshCompletion() string {
	var b strings.Builder
	b.WriteString("#compdef xentrace\n_xentrace_interfaces() { compadd -- /sys/class/net/*(N:t) }\n\n_xentrace() {\n    local -a commands\n    commands=(\n")
	for _, c := range commands() {
		fmt.Fprintf(&b, "        %s\n", shellQuote(c.name+":"+c.short))
	}
	b.WriteString("    )\n    if ((CURRENT == 2)); then\n        _describe command commands\n        return\n    fi\n    local command=$words[2]\n    shift words\n    ((CURRENT--))\n    case $command in\n")
	for _, c := range commands() {
		fmt.Fprintf(&b, "    %s) _arguments -s", c.name)
		for _, f := range c.allFlags() {
			for _, spec := range zshFlag(f) {
				fmt.Fprintf(&b, " \\\n        %s", shellQuote(spec))
			}
		}
		if c.words != nil {
			fmt.Fprintf(&b, " \\\n        %s", shellQuote("1:argument:("+strings.Join(c.words(), " ")+")"))
		}
		b.WriteString(" ;;\n")
	}
	b.WriteString("    esac\n}\n\nif [[ $funcstack[1] == _xentrace ]]; then\n    _xentrace \"$@\"\nelse\n    compdef _xentrace xentrace\nfi\n")
	return b.String()
}

// zshFlag returns what _arguments is told of a flag, one specification for each
// way of writing it.
func zshFlag(f *flag) []string {
	means := "[" + strings.NewReplacer("[", `\[`, "]", `\]`, ":", `\:`).Replace(f.usage) + "]"
	long, short := "--"+f.name+means, "-"+f.short+means
	if f.value != "" {
		action := ":" + f.value + ":"
		switch {
		case len(f.words) > 0:
			action += "(" + strings.Join(f.words, " ") + ")"
		case f.completes == interfaceNames:
			action += "_xentrace_interfaces"
		case f.completes == fileNames:
			action += "_files"
		default:
			action += " "
		}
		long, short = "--"+f.name+"="+means+action, "-"+f.short+"+"+means+action
	}
	if f.completes == interfaceNames {
		long, short = "*"+long, "*"+short
	}
	if f.short == "" {
		return []string{long}
	}
	return []string{long, short}
}

func fishCompletion() string {
	var b strings.Builder
	b.WriteString("# fish completion for xentrace\ncomplete -c xentrace -f\n")
	for _, c := range commands() {
		fmt.Fprintf(&b, "complete -c xentrace -n __fish_use_subcommand -a %s -d %s\n", c.name, fishQuote(c.short))
	}
	for _, c := range commands() {
		when := "complete -c xentrace -n '__fish_seen_subcommand_from " + c.name + "'"
		if c.words != nil {
			fmt.Fprintf(&b, "%s -a %s\n", when, fishQuote(strings.Join(c.words(), " ")))
		}
		for _, f := range c.allFlags() {
			fmt.Fprintf(&b, "%s -l %s", when, f.name)
			if f.short != "" {
				fmt.Fprintf(&b, " -s %s", f.short)
			}
			switch {
			case len(f.words) > 0:
				fmt.Fprintf(&b, " -x -a %s", fishQuote(strings.Join(f.words, " ")))
			case f.completes == interfaceNames:
				b.WriteString(" -x -a '(command ls /sys/class/net)'")
			case f.completes == fileNames:
				b.WriteString(" -r -F")
			case f.value != "":
				b.WriteString(" -x")
			}
			fmt.Fprintf(&b, " -d %s\n", fishQuote(f.usage))
		}
	}
	return b.String()
}

func shellQuote(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }

func fishQuote(s string) string {
	return "'" + strings.NewReplacer(`\`, `\\`, "'", `\'`).Replace(s) + "'"
}
