package cli

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/pflag"

	"xentrace/internal/kernel"
	"xentrace/test/need"
)

func commandLine() *app { return &app{System: System{Getenv: os.Getenv}} }

// privateWords returns the words of the list that a text has, as whole words.
func privateWords(t *testing.T, text string) []string {
	t.Helper()
	list, err := os.ReadFile("testdata/banned.txt")
	if err != nil {
		t.Fatal(err)
	}
	words := strings.ReplaceAll(strings.TrimSpace(string(list)), "\n", "|")
	banned := regexp.MustCompile("(?:^|[^a-z0-9_-])(" + words + ")(?:$|[^a-z0-9_-])")
	flat := strings.ReplaceAll(strings.Join(strings.Fields(strings.ToLower(text)), " "), "a page boundary", "a boundary")
	var found []string
	for _, match := range banned.FindAllStringSubmatch(flat, -1) {
		found = append(found, match[1])
	}
	return found
}

func TestPrivateWordsAreFound(t *testing.T) {
	for text, want := range map[string]string{
		"The guest is not told.":                     "told",
		"a zero-window probe, sndq_window":           "",
		"One piece\nof it":                           "one piece",
		"It straddles a page, the first":             "straddles a page",
		"It straddles a page boundary":               "",
		"two words at once: the driver takes, tells": "driver takes tells",
	} {
		if got := strings.Join(privateWords(t, text), " "); got != want {
			t.Errorf("%q: found %q, want %q", text, got, want)
		}
	}
}

// pages are README.md and the documentation.
func pages(t *testing.T) map[string]string {
	t.Helper()
	names, err := filepath.Glob("../../docs/*.md")
	if err != nil || len(names) < 10 {
		t.Fatalf("%d pages: %v", len(names), err)
	}
	texts := map[string]string{}
	for _, name := range append(names, "../../README.md") {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		texts[filepath.Base(name)] = string(text)
	}
	return texts
}

func TestPages(t *testing.T) {
	const long = 150 // lines
	for name, text := range pages(t) {
		if found := privateWords(t, text); len(found) > 0 {
			t.Errorf("%s has %q", name, found)
		}
		sections := regexp.MustCompile(`(?m)^## (.*)$`).FindAllStringSubmatch(text, -1)
		for _, section := range sections {
			anchor := regexp.MustCompile("[^a-z0-9 _-]").ReplaceAllString(strings.ToLower(section[1]), "")
			if link := "](#" + strings.ReplaceAll(anchor, " ", "-") + ")"; strings.Count(text, "\n") > long && !strings.Contains(text, link) {
				t.Errorf("%s: no link to %q (%s) at the top", name, section[1], link)
			}
		}
	}
}

// helpRows are those of a terminal that help fits.
const helpRows = 50

// Help fits a small terminal, and names every flag.
func TestHelp(t *testing.T) {
	all := runWith(t, nil, "help")
	check := func(name, text string) {
		t.Helper()
		if n := strings.Count(text, "\n"); n > helpRows {
			t.Errorf("help %s has %d rows", name, n)
		}
		for line := range strings.Lines(text) {
			if len(line) > helpWidth+1 || strings.HasSuffix(line, " \n") {
				t.Errorf("help %s: %q is too wide, or ends in a space", name, line)
			}
		}
		if found := privateWords(t, text); len(found) > 0 {
			t.Errorf("help %s has %q", name, found)
		}
	}
	check("", all.stdout)
	root := commandLine().root()
	for _, c := range root.Commands() {
		if !strings.Contains(all.stdout, "\n  "+c.Name()+" ") {
			t.Errorf("help does not name %s", c.Name())
		}
		one := runWith(t, nil, "help", c.Name())
		asked := runWith(t, nil, c.Name(), "--help")
		if one.stdout != asked.stdout || one.status != 0 || asked.status != 0 || one.stderr+asked.stderr != "" {
			t.Errorf("help %s and %s --help differ, or failed", c.Name(), c.Name())
		}
		c.Flags().VisitAll(func(f *pflag.Flag) {
			if !strings.Contains(one.stdout, "--"+f.Name+" ") || f.Usage == "" {
				t.Errorf("help %s does not explain --%s", c.Name(), f.Name)
			}
		})
		check(c.Name(), one.stdout)
	}
	for _, flag := range []string{"-h", "--help"} {
		if got := runWith(t, nil, flag); got.stdout != all.stdout {
			t.Errorf("xentrace %s is not xentrace help", flag)
		}
	}
	if got := runWith(t, nil, "help", "wacth"); got.status != 2 || !strings.Contains(got.stderr, "did you mean watch?") {
		t.Errorf("help wacth: %+v", got)
	}
}

// Scripts rely on these command lines.
func TestFlagsOfEachCommand(t *testing.T) {
	for _, line := range []string{
		"watch -i eth0 --interface eth1 --backend tracepoint -o json -d 30s --color never -v --ready-file /x --wait --ring-size 4MiB --count 3 --exit-code --live",
		"watch --host 10.0.0.1 --host fd00::/8 --port 443 --pid 1 --comm nginx --cause sg_off --verdict dropped --min-slots 19",
		"hist -i eth0 --backend fentry --output text --duration 1h30m --color always --verbose --ready-file /x --wait",
		"check -i eth0 --interface eth1 --ec2rl --observe 5s --ready-file /x -o json --color never -v",
		"check --driver-file /x --output text",
		"probe -i eth0 --to 192.0.2.1:9 --slots 19 --count 3 --backend kprobe -o json -d 5s --color never -v --ready-file /x",
		"probe --interface eth0 --to [2001:db8::1]:9 --ipv6 --output text --duration 0",
		"fix -i eth0 --apply --persist systemd --force -o json",
		"fix --revert --force --state /x --color never",
		"fix --step sg-on --step mtu-9000 --watch 1s --no-probe",
		"congestion -i eth0 --interface eth1 -d 10s -o json --watch --baseline /x --wait --ready-file /x --color never -v",
		"version -o json",
	} {
		words := strings.Fields(line)
		c, err := findCommand(commandLine().root(), words[0])
		if err != nil {
			t.Fatal(err)
		}
		if err := c.ParseFlags(words[1:]); err != nil || c.Flags().NArg() != 0 {
			t.Errorf("%s: %v, arguments %q", line, err, c.Flags().Args())
		}
	}
}

// checkScript has a program check text, and fails with what it prints.
func checkScript(t *testing.T, text, program string, args ...string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "text")
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command(program, append(args, path)...).CombinedOutput()
	if err != nil || len(out) != 0 {
		t.Errorf("%s %s: %v: %s", program, strings.Join(args, " "), err, out)
	}
}

func TestPowerShellCompletion(t *testing.T) {
	if script := runWith(t, nil, "completion", "powershell").stdout; !strings.Contains(script, "Register-ArgumentCompleter -CommandName 'xentrace'") {
		t.Errorf("powershell: %.200s", script)
	}
}

// What the scripts ask the program for.
func TestCompletes(t *testing.T) {
	for line, want := range map[string]string{
		"w":                    "watch",
		"watch --ba":           "--backend",
		"watch --backend ":     "auto fentry kprobe tracepoint",
		"watch --backend=k":    "kprobe",
		"hist -o j":            "json",
		"completion z":         "zsh",
		"man ver":              "version",
		"check --dr":           "--driver-file",
		"watch --verdict over": "over_limit",
		"fix --step sg":        "sg-on sg-off",
		"watch --min-slots ":   "",
		"watch -i l":           "lo",
		"watch --color ":       "auto always never",
	} {
		words := strings.Split(line, " ")
		got := runWith(t, nil, append([]string{"__complete"}, words...)...)
		var offered []string
		for l := range strings.Lines(got.stdout) {
			word, _, _ := strings.Cut(strings.TrimSuffix(l, "\n"), "\t")
			if !strings.HasPrefix(word, ":") {
				offered = append(offered, word)
			}
		}
		prefix := words[len(words)-1]
		prefix = prefix[strings.Index(prefix, "=")+1:]
		offered = slices.DeleteFunc(offered, func(word string) bool { return !strings.HasPrefix(word, prefix) })
		if strings.Join(offered, " ") != want {
			t.Errorf("%q: offers %q, want %q", line, offered, want)
		}
	}
	if got := runWith(t, nil, "__complete", "watch", "--ready-file", "").stdout; got != ":0\n" {
		t.Errorf("files are not completed: %q", got)
	}
}

func TestManualPages(t *testing.T) {
	t.Parallel()
	need.Tool(t, "groff")
	pages := map[string]string{"xentrace": runWith(t, nil, "man").stdout}
	for _, name := range commandNames(commandLine().root()) {
		pages["xentrace-"+name] = runWith(t, nil, "man", name).stdout
	}
	for name, text := range pages {
		t.Run(name, func(t *testing.T) {
			for _, part := range []string{`.TH "` + strings.ToUpper(name) + `" "1"`, ".SH NAME", ".SH SYNOPSIS", ".SH DESCRIPTION", ".SH EXIT STATUS", ".SH ENVIRONMENT"} {
				if !strings.Contains(strings.ReplaceAll(text, `\-`, "-"), part) {
					t.Errorf("no %s", part)
				}
			}
			if strings.ContainsFunc(text, func(r rune) bool { return r > '~' }) {
				t.Error("not plain ASCII")
			}
			checkScript(t, text, "groff", "-man", "-Tascii", "-z")
		})
	}
	main := strings.ReplaceAll(pages["xentrace"], `\-`, "-")
	for _, name := range slices.DeleteFunc(commandNames(commandLine().root()), func(name string) bool { return name == "help" }) {
		if !strings.Contains(main, "xentrace-"+name+"(1)") || !strings.Contains(main, "\\fB"+name+"\\fP\n") {
			t.Errorf("xentrace(1) does not list %s and its page", name)
		}
	}
	for _, part := range []string{".SH KEYS OF --live", "\\fBpage up/down\\fP\n", "\\fB^L\\fP\n", "\\fB?\\fP\n"} {
		if text := strings.ReplaceAll(pages["xentrace-watch"], `\-`, "-"); !strings.Contains(text, part) {
			t.Errorf("xentrace-watch(1) has no %q", part)
		}
	}
	if !strings.Contains(main, "dom0") {
		t.Error("the page does not mention Xen's own xentrace")
	}
}

// make install installs the page of every command.
func TestEveryManPageIsInstalled(t *testing.T) {
	makefile, err := os.ReadFile("../../Makefile")
	if err != nil {
		t.Fatal(err)
	}
	line := regexp.MustCompile(`(?m)^COMMANDS := (.*)$`).FindSubmatch(makefile)
	if line == nil {
		t.Fatal("the Makefile lists no commands")
	}
	for _, name := range commandNames(commandLine().root()) {
		if name != "help" && !slices.Contains(strings.Fields(string(line[1])), name) {
			t.Errorf("xentrace-%s(1) is not installed", name)
		}
	}
}

// Each flag is in the man page with the words that the help has for it.
func TestManAndHelpAgree(t *testing.T) {
	t.Parallel()
	need.Tool(t, "groff")
	joined := func(text string) string { return strings.Join(strings.Fields(text), "") } // groff fills and breaks lines
	for _, c := range append(commandLine().root().Commands(), commandLine().root()) {
		args := []string{"man", c.Name()}
		if !c.HasParent() {
			args = args[:1]
		}
		groff := exec.Command("groff", "-man", "-Tascii", "-P-cbou", "-rHY=0")
		groff.Stdin = strings.NewReader(runWith(t, nil, args...).stdout)
		page, err := groff.Output()
		if err != nil {
			t.Fatal(err)
		}
		options := joined(string(page))
		for _, flag := range strings.Split(c.LocalFlags().FlagUsages(), "\n") {
			if !strings.Contains(options, joined(flag)) {
				t.Errorf("%v has not %q", args, flag)
			}
		}
	}
}

func TestVersion(t *testing.T) {
	release, err := kernel.ReadRelease()
	if err != nil {
		t.Fatal(err)
	}
	build := Build{Version: "1.2.3", Commit: "0123abc", Clang: "19.1.7"}
	v, err := versionOf(build)
	if err != nil {
		t.Fatal(err)
	}
	line, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	var got map[string]any
	if err := json.Unmarshal(line, &got); err != nil {
		t.Fatal(err)
	}
	for key, want := range map[string]any{
		"type": "version", "version": "1.2.3", "commit": "0123abc", "clang": "19.1.7", "go": runtime.Version(),
		"kernel": release, "btf": kernel.HasKernelTypes(), "architecture": runtime.GOARCH,
	} {
		if got[key] != want {
			t.Errorf("%s is %v, want %v", key, got[key], want)
		}
	}
	if _, there := got["modified"]; !there {
		t.Error("no key modified")
	}
	text := v.text()
	for _, part := range []string{"xentrace 1.2.3\n", "commit   0123abc", "clang    19.1.7\n", "kernel   " + release + ", "} {
		if !strings.Contains(text, part) {
			t.Errorf("no %q in %s", part, text)
		}
	}
	printed := runWith(t, nil, "version", "-o", "json").stdout
	if err := json.Unmarshal([]byte(printed), &got); err != nil || got["type"] != "version" || strings.Count(printed, "\n") != 1 {
		t.Errorf("version -o json prints %q (%v)", printed, err)
	}
	if plain := runWith(t, nil, "--version").stdout; !strings.Contains(plain, "kernel   "+release) {
		t.Errorf("--version prints %q", plain)
	}
}
