// Package packaging holds what is installed and how. Its test is of make install.
package packaging

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"xentrace/test/need"
)

// make install continues where xentrace itself is in PATH, and refuses where Xen's program of
// that name is.
func TestInstallRefusesToShadowAnotherXentrace(t *testing.T) {
	need.Tool(t, "make")
	for _, c := range []struct {
		name    string
		build   func(t *testing.T, path string)
		destdir string
		refused bool
	}{
		{"nothing is there", func(*testing.T, string) {}, "", false},
		{"xentrace itself", buildXentrace, "", false},
		{"another program", writeScript, "", true},
		{"another program, but into a package", writeScript, "/nowhere", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			directory := t.TempDir()
			path := filepath.Join(directory, "xentrace")
			c.build(t, path)
			out, err := exec.Command("make", "-C", "..", "no-other-xentrace", "SEARCHED="+directory, "DESTDIR="+c.destdir).CombinedOutput()
			if (err != nil) != c.refused {
				t.Errorf("make: %v: %s", err, out)
			}
			if c.refused && !strings.Contains(string(out), path+" is another program") {
				t.Errorf("it prints %s", out)
			}
		})
	}
}

// make uninstall removes all that make install installed, with the directories that only
// xentrace has. Scripts stand for the programs.
func TestUninstallLeavesNothing(t *testing.T) {
	need.Tool(t, "make")
	tree, root := t.TempDir(), t.TempDir()
	for to, from := range map[string]string{"Makefile": "../Makefile", "NOTICE": "../NOTICE", "packaging/xentrace.lua": "xentrace.lua"} {
		text, err := os.ReadFile(from)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.MkdirAll(filepath.Dir(filepath.Join(tree, to)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(tree, to), text, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for _, program := range []string{"xentrace", "xentrace-exporter"} {
		writeScript(t, filepath.Join(tree, program))
	}
	for _, c := range []struct {
		target string
		files  bool
	}{{"install", true}, {"uninstall", false}} {
		made, err := exec.Command("make", "-C", tree, "-o", "build", "-o", "no-other-xentrace", c.target, "DESTDIR="+root).CombinedOutput()
		if err != nil {
			t.Fatalf("make %s: %v: %s", c.target, err, made)
		}
		found, err := exec.Command("find", root, "-name", "*xentrace*").Output()
		if err != nil {
			t.Fatal(err)
		}
		if files := len(found) > 0; files != c.files {
			t.Errorf("after make %s there is %q", c.target, found)
		}
	}
}

func writeScript(t *testing.T, path string) {
	t.Helper()
	if err := os.WriteFile(path, []byte("#!/bin/sh\n"), 0o755); err != nil {
		t.Fatal(err)
	}
}

// buildXentrace builds a program with the path of xentrace's main package.
func buildXentrace(t *testing.T, path string) {
	t.Helper()
	module := t.TempDir()
	main := filepath.Join(module, "cmd/xentrace")
	if err := os.MkdirAll(main, 0o755); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{
		filepath.Join(module, "go.mod"): "module xentrace\n",
		filepath.Join(main, "main.go"):  "package main\n\nfunc main() {}\n",
	} {
		if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	build := exec.Command("go", "build", "-o", path, "./cmd/xentrace")
	build.Dir = module
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("go build: %v: %s", err, out)
	}
}
