package cli

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"xentrace/internal/kernel"
)

func TestHelpNamesEveryCommandAndFlag(t *testing.T) {
	all := runWith(t, nil, "help")
	for _, c := range commands() {
		if !strings.Contains(all.stdout, "\n  "+c.name+" ") {
			t.Errorf("help does not name %s", c.name)
		}
		one := runWith(t, nil, "help", c.name)
		asked := runWith(t, nil, c.name, "--help")
		if one.stdout != asked.stdout || one.status != 0 || asked.status != 0 || one.stderr+asked.stderr != "" {
			t.Errorf("help %s and %s --help differ, or failed", c.name, c.name)
		}
		for _, f := range c.flags {
			if !strings.Contains(one.stdout, "--"+f.name) {
				t.Errorf("help %s does not name --%s", c.name, f.name)
			}
		}
		for line := range strings.Lines(all.stdout + one.stdout) {
			if len(line) > helpWidth+1 || strings.HasSuffix(line, " \n") {
				t.Errorf("help %s: %q is too wide, or ends in a space", c.name, line)
			}
		}
	}
	for _, flag := range []string{"-h", "--help"} {
		if got := runWith(t, nil, flag); got.stdout != all.stdout {
			t.Errorf("xentrace %s is not xentrace help", flag)
		}
	}
}

func TestTheContractsFlagsAreThere(t *testing.T) {
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
		c, err := findCommand(words[0])
		if err != nil {
			t.Fatal(err)
		}
		if _, err := parse(c, words[1:]); err != nil {
			t.Errorf("%s: %v", line, err)
		}
	}
}

// checkScript lets a program check text, and fails with what it says.
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

func TestCompletionScriptsParse(t *testing.T) {
	for _, shell := range shells {
		t.Run(shell, func(t *testing.T) {
			script := runWith(t, nil, "completion", shell).stdout
			for _, part := range append(commandNames(), "ready-file", "tracepoint") {
				if !strings.Contains(script, part) {
					t.Errorf("%q is not completed", part)
				}
			}
			if _, err := exec.LookPath(shell); err != nil && shell != "bash" {
				t.Fatalf("%s is not installed: make deps does it", shell)
			}
			checkScript(t, script, shell, "-n")
		})
	}
}

// complete returns what bash offers for a command line; the last word is the
// one being typed.
func complete(t *testing.T, words ...string) []string {
	t.Helper()
	script := bashCompletion() + "\nCOMP_WORDS=(\"$@\")\nCOMP_CWORD=$(($# - 1))\n" +
		"compopt() { echo \"<$*>\"; }\n_xentrace\nprintf '%s\\n' \"${COMPREPLY[@]}\"\n"
	out, err := exec.Command("bash", append([]string{"-c", script, "bash", "xentrace"}, words...)...).CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return strings.Fields(string(out))
}

func TestBashCompletes(t *testing.T) {
	for line, want := range map[string]string{
		"w":                        "watch",
		"watch --ba":               "--backend",
		"watch --backend f":        "fentry",
		"watch --backend = k":      "kprobe",
		"hist -o j":                "json",
		"completion z":             "zsh",
		"man ver":                  "version",
		"watch --ready-file /":     "<-o default>",
		"check --driver-file /":    "<-o default>",
		"check --dr":               "--driver-file",
		"watch -i l":               "lo",
		"watch --interface l":      "lo",
		"watch --color":            "--color",
		"watch -d 30s --exit-code": "--exit-code",
	} {
		if got := strings.Join(complete(t, strings.Fields(line)...), " "); got != want {
			t.Errorf("%s: offers %q, want %q", line, got, want)
		}
	}
	if got := complete(t, "version", "--"); strings.Join(got, " ") != "--output --help" {
		t.Errorf("version -- offers %q", got)
	}
}

func TestManualPages(t *testing.T) {
	pages := map[string]string{"xentrace": runWith(t, nil, "man").stdout}
	for _, name := range commandNames() {
		pages["xentrace-"+name] = runWith(t, nil, "man", name).stdout
	}
	for name, text := range pages {
		t.Run(name, func(t *testing.T) {
			for _, part := range []string{".TH " + strings.ToUpper(name) + " 1", ".SH NAME", ".SH SYNOPSIS", ".SH DESCRIPTION", ".SH EXIT STATUS"} {
				if !strings.Contains(text, part) {
					t.Errorf("no %s", part)
				}
			}
			if strings.Contains(text, "—") || strings.ContainsFunc(text, func(r rune) bool { return r > '~' }) {
				t.Error("not plain ASCII")
			}
			if _, err := exec.LookPath("groff"); err != nil {
				t.Fatal("groff is not installed: make deps does it")
			}
			checkScript(t, text, "groff", "-man", "-Tascii", "-ww", "-z")
		})
	}
	if !strings.Contains(pages["xentrace"], "dom0") {
		t.Error("the page does not tell of Xen's own xentrace")
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
		"kernel": release.Text, "btf": kernel.HasKernelTypes(), "architecture": runtime.GOARCH,
	} {
		if got[key] != want {
			t.Errorf("%s is %v, want %v", key, got[key], want)
		}
	}
	if _, there := got["modified"]; !there {
		t.Error("no key modified")
	}
	text := v.text()
	for _, part := range []string{"xentrace 1.2.3\n", "commit   0123abc", "clang    19.1.7\n", "kernel   " + release.Text + ", "} {
		if !strings.Contains(text, part) {
			t.Errorf("no %q in %s", part, text)
		}
	}
	printed := runWith(t, nil, "version", "-o", "json").stdout
	if err := json.Unmarshal([]byte(printed), &got); err != nil || got["type"] != "version" || strings.Count(printed, "\n") != 1 {
		t.Errorf("version -o json prints %q (%v)", printed, err)
	}
	if plain := runWith(t, nil, "--version").stdout; !strings.Contains(plain, "kernel   "+release.Text) {
		t.Errorf("--version prints %q", plain)
	}
}

func TestNearest(t *testing.T) {
	for word, want := range map[string]string{
		"wacth": "watch", "watc": "watch", "histo": "hist", "hi": "hist", "vresion": "version", "frobnicate": "", "x": "", "ma": "man",
	} {
		if got := nearest(word, commandNames()); got != want {
			t.Errorf("nearest(%s) = %q, want %q", word, got, want)
		}
	}
}
