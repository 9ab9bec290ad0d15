package main

import (
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// The tool that people copy around links no HTTP.
func TestLinksNoHTTP(t *testing.T) {
	of := func(command string) []string {
		out, err := exec.Command("go", "list", "-deps", command).Output()
		if err != nil {
			t.Fatal(err)
		}
		return strings.Fields(string(out))
	}
	heavy := func(dependency string) bool {
		return dependency == "net/http" || strings.HasPrefix(dependency, "github.com/prometheus/")
	}
	if found := slices.DeleteFunc(of("."), func(d string) bool { return !heavy(d) }); len(found) > 0 {
		t.Errorf("xentrace links %q", found)
	}
	if !slices.ContainsFunc(of("../xentrace-exporter"), heavy) {
		t.Error("xentrace-exporter links none of it either: this test looks for the wrong names")
	}
}
