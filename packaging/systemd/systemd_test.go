package systemd

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"xentrace/test/need"
)

// root returns a directory with the unit, the drop-in if asked for, and the program that
// it starts.
func root(t *testing.T, dropIn bool) string {
	t.Helper()
	need.Tool(t, "systemd-analyze")
	root := t.TempDir()
	units := "usr/lib/systemd/system/"
	files := map[string]string{"xentrace.service": units + "xentrace.service"}
	if dropIn {
		files["named-interfaces.conf"] = units + "xentrace.service.d/named-interfaces.conf"
	}
	for from, to := range files {
		text, err := os.ReadFile(from)
		if err != nil {
			t.Fatal(err)
		}
		put(t, filepath.Join(root, to), string(text), 0o644)
	}
	for _, target := range []string{"sysinit", "basic", "multi-user", "shutdown"} {
		put(t, filepath.Join(root, units, target+".target"), "[Unit]\nDescription="+target+"\n", 0o644)
	}
	put(t, filepath.Join(root, "usr/bin/xentrace-exporter"), "#!/bin/sh\n", 0o755)
	return root
}

func put(t *testing.T, path, text string, mode os.FileMode) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), mode); err != nil {
		t.Fatal(err)
	}
}

func analyze(t *testing.T, args ...string) string {
	t.Helper()
	out, err := exec.Command("systemd-analyze", args...).CombinedOutput()
	if err != nil {
		t.Fatalf("systemd-analyze %s: %v: %s", strings.Join(args, " "), err, out)
	}
	return string(out)
}

func TestUnitsAreValid(t *testing.T) {
	for _, dropIn := range []bool{false, true} {
		if out := analyze(t, "verify", "--man=no", "--root="+root(t, dropIn), "xentrace.service"); out != "" {
			t.Errorf("with drop-in %v: %s", dropIn, out)
		}
	}
}

// Exposure is what systemd-analyze security 252 computes: 0 is none, 10 a service without
// any restriction.
func TestExposure(t *testing.T) {
	for _, c := range []struct {
		name   string
		dropIn bool
		want   float64
	}{
		{"every interface", false, 3.2},
		{"named interfaces", true, 2.6},
	} {
		t.Run(c.name, func(t *testing.T) {
			out := analyze(t, "security", "--no-pager", "--offline=yes", "--root="+root(t, c.dropIn), "xentrace.service")
			level := regexp.MustCompile(`Overall exposure level for xentrace.service: ([0-9.]+)`).FindStringSubmatch(out)
			if level == nil {
				t.Fatalf("no level in %s", out)
			}
			if got, err := strconv.ParseFloat(level[1], 64); err != nil || got > c.want {
				t.Errorf("level %s, want %.1f or less: %s", level[1], c.want, out)
			}
		})
	}
}
