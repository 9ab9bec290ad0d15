package cli

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"xentrace/test/need"
	"xentrace/test/tool"
)

// completions are what Tab offers for the last word; they are the same in each shell.
var completions = map[string][]string{
	"xentrace wat":               {"watch"},
	"xentrace watch --ba":        {"--backend"},
	"xentrace watch --backend k": {"kprobe"},
	"xentrace hist -o ":          {"json", "text"},
	"xentrace fix --step sg":     {"sg-off", "sg-on"},
	"xentrace completion z":      {"zsh"},
}

// installed puts xentrace, which is this test binary, and the script of a shell into a new
// directory, and returns the script and the environment that finds xentrace.
func installed(t *testing.T, shell string) (script string, environment []string) {
	t.Helper()
	directory := t.TempDir()
	if err := os.Symlink(os.Args[0], filepath.Join(directory, "xentrace")); err != nil {
		t.Fatal(err)
	}
	script = filepath.Join(directory, "script")
	if err := os.WriteFile(script, []byte(runWith(t, nil, "completion", shell).stdout), 0o644); err != nil {
		t.Fatal(err)
	}
	return script, append(os.Environ(), "XENTRACE_FAKE=1", "PATH="+directory+":"+os.Getenv("PATH"), "HOME="+directory, "TERM=xterm")
}

// offered has a shell run a program, and returns the sorted first words of its lines.
func offered(t *testing.T, environment []string, shell ...string) []string {
	t.Helper()
	cmd := exec.Command(shell[0], shell[1:]...)
	cmd.Env = environment
	out, err := cmd.Output() // bash complains that Tab was not pressed
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	var words []string
	for line := range strings.Lines(string(out)) {
		if fields := strings.Fields(line); len(fields) > 0 {
			words = append(words, fields[0])
		}
	}
	slices.Sort(words)
	return words
}

func TestBashCompletes(t *testing.T) {
	t.Parallel()
	need.File(t, "/usr/share/bash-completion/bash_completion")
	script, environment := installed(t, "bash")
	const press = `source /usr/share/bash-completion/bash_completion; source "$1"
		[[ $(complete -p xentrace) = *__start_xentrace* ]] || { complete -p xentrace; exit 1; }
		COMP_LINE=$2 COMP_POINT=${#2} COMP_TYPE=9 COMP_KEY=9; read -ra COMP_WORDS <<<"$2"
		[[ $2 = *" " ]] && COMP_WORDS+=("")
		COMP_CWORD=$((${#COMP_WORDS[@]} - 1)); __start_xentrace; printf '%s\n' "${COMPREPLY[@]}"`
	for line, want := range completions {
		if got := offered(t, environment, "bash", "--norc", "-c", press, "bash", script, line); !slices.Equal(got, want) {
			t.Errorf("%q: %q, want %q", line, got, want)
		}
	}
}

func TestFishCompletes(t *testing.T) {
	t.Parallel()
	need.Tool(t, "fish")
	script, environment := installed(t, "fish")
	for line, want := range completions {
		if got := offered(t, environment, "fish", "-N", "-c", `source $argv[1]; complete -C $argv[2]`, script, line); !slices.Equal(got, want) {
			t.Errorf("%q: %q, want %q", line, got, want)
		}
	}
}

// zsh completes in its line editor only: on a terminal, where Tab is pressed.
func TestZshCompletes(t *testing.T) {
	t.Parallel()
	need.Tool(t, "zsh")
	script, environment := installed(t, "zsh")
	terminal := tool.OpenTerminal(t, 100, 40)
	shell := exec.Command("zsh", "-f", "-i")
	shell.Env = environment
	shell.Stdin, shell.Stdout, shell.Stderr = terminal.Slave, terminal.Slave, terminal.Slave
	shell.SysProcAttr = tool.Controls(0)
	if err := shell.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = shell.Process.Kill(); _ = shell.Wait() })
	press := func(keys string, want ...string) {
		t.Helper()
		from := len(terminal.Raw())
		terminal.Press(t, keys)
		for deadline := time.Now().Add(time.Minute); ; time.Sleep(10 * time.Millisecond) {
			raw := terminal.Raw()[from:]
			if !slices.ContainsFunc(want, func(part string) bool { return !strings.Contains(raw, part) }) {
				return
			}
			if time.Now().After(deadline) {
				t.Fatalf("%q: no %q in %q", keys, want, raw)
			}
		}
	}
	press("autoload -Uz compinit && compinit -D -u && source "+script+" && echo rea''dy\n", "ready\r\n")
	for line, want := range completions {
		rest := want
		if len(want) == 1 { // the rest of the word is typed
			typed := line[strings.LastIndexByte(line, ' ')+1:]
			rest = []string{strings.TrimPrefix(want[0], typed)}
		}
		press(line+"\t\t", rest...)            // the second lists what the first found, if that is several
		press("\x15echo do''ne\n", "done\r\n") // ^U
	}
}
