package packaging

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"xentrace/test/need"
)

// The module of EC2 Rescue for Linux reports each end of check as ec2rl reads it.
func TestEC2RLModule(t *testing.T) {
	need.Tool(t, "bash")
	_, rest, found := strings.Cut(readFile(t, "ec2rl/xentrace.yaml"), "content: !!str |\n")
	script, _, ends := strings.Cut(rest, "\nconstraint:")
	if !found || !ends {
		t.Fatal("no content")
	}
	script = strings.ReplaceAll("\n"+script, "\n  ", "\n")
	for status, want := range map[int]string{
		0: "[SUCCESS] xentrace check found nothing\n-- one\n-- two\n", 1: "[WARN] xentrace check found something\n-- one\n-- two\n", 3: "[WARN] xentrace check did not run\n-- one\n-- two\n",
	} {
		directory := t.TempDir()
		fake := fmt.Sprintf("#!/bin/sh\n[ \"$*\" = 'check --color never' ] || exit 9\necho one\necho two >&2\nexit %d\n", status)
		if err := os.WriteFile(filepath.Join(directory, "xentrace"), []byte(fake), 0o755); err != nil {
			t.Fatal(err)
		}
		c := exec.Command("bash", "-c", script)
		c.Env = append(os.Environ(), "PATH="+directory+":"+os.Getenv("PATH"))
		if out, err := c.CombinedOutput(); err != nil || string(out) != want {
			t.Errorf("check exits %d: %v, %q, want %q", status, err, out, want)
		}
	}
}

// The container of the DaemonSet has the capabilities of the service, and those that give them up.
func TestManifestHasTheCapabilitiesOfTheService(t *testing.T) {
	service, err := match(readFile(t, "systemd/xentrace.service"), `(?m)^CapabilityBoundingSet=(.*)$`)
	pod, failed := match(readFile(t, "kubernetes/xentrace.yaml"), `(?m)^ *add: \[(.*)\]$`)
	if err = errors.Join(err, failed); err != nil {
		t.Fatal(err)
	}
	want := append(strings.Fields(strings.ReplaceAll(service, "CAP_", "")), "SETUID", "SETGID", "SETPCAP")
	if got := strings.Split(pod, ", "); !slices.Equal(got, want) {
		t.Errorf("capabilities %v, want %v", got, want)
	}
}

func match(text, expression string) (string, error) {
	found := regexp.MustCompile(expression).FindStringSubmatch(text)
	if found == nil {
		return "", fmt.Errorf("no %s", expression)
	}
	return found[1], nil
}

func readFile(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
