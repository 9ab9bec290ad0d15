package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestNoticeIsUpToDate(t *testing.T) {
	want, err := notice("../..")
	if err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile("../../NOTICE")
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != want {
		t.Error("NOTICE does not hold the licences of what is linked in: run make notice")
	}
	for _, part := range []string{"\ngithub.com/cilium/ebpf v", "\nGo, runtime and standard library\n", "\nlibbpf, headers\n", "\ngithub.com/therootcompany/xz v"} {
		if !strings.Contains(want, part) {
			t.Errorf("no %q in it", part)
		}
	}
	for _, part := range []string{"honnef.co", "jsonschema"} {
		if strings.Contains(want, part) {
			t.Errorf("%s, which is not linked in, is in it", part)
		}
	}
}

func TestDependencyWithoutALicenceFails(t *testing.T) {
	root := t.TempDir()
	c := component{name: "example.org/x v1", root: root, directories: []string{filepath.Join(root, "a", "b")}}
	if err := os.MkdirAll(c.directories[0], 0o755); err != nil {
		t.Fatal(err)
	}
	if texts, err := c.licences(); err == nil || !strings.Contains(err.Error(), "example.org/x v1: no licence file") {
		t.Errorf("%q, error %v", texts, err)
	}
	for file, text := range map[string]string{"LICENSE.md": "one\r\ntwo\n\n", "a/COPYING": "three", "a/b/LICENSE": "three\n", "../LICENSE": "not this"} {
		if err := os.WriteFile(filepath.Join(root, file), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	texts, err := c.licences()
	if err != nil || len(texts) != 2 || !strings.Contains(strings.Join(texts, ""), "one\ntwo\n") || !strings.Contains(strings.Join(texts, ""), "three\n") {
		t.Errorf("%q, error %v", texts, err)
	}
}
