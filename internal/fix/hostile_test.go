package fix

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"xentrace/test/memory"
)

// A state file, and a file in the place of one that fix writes, may be of any size.
func TestFilesOfAnySize(t *testing.T) {
	directory := t.TempDir()
	path := filepath.Join(directory, "large")
	if err := os.WriteFile(path, []byte(mark("text\n")), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(path, 1<<32); err != nil {
		t.Fatal(err)
	}
	memory.Within(t, 24<<20, func() {
		if state, err := (&store{path: path, disk: &disk{}}).load(); err == nil || !strings.Contains(err.Error(), "over 4 MiB") {
			t.Errorf("state %v, error %v", state, err)
		}
		f := &Fixer{Root: directory}
		if whose, _, err := f.look("/large", ""); whose != foreign || err != nil {
			t.Errorf("ownership %d, error %v, want %d", whose, err, foreign)
		}
	})
}

func FuzzState(f *testing.F) {
	f.Add([]byte(`{"version":1,"sysctls":[{"name":"net.core.x","was":"1","set":"0"}],"interfaces":[{"identity":{},"features":{"sg":{}},"mtu":1500}],"files":[{"path":"/etc/x","directory":true}]}`))
	f.Add([]byte(`{"version":2}`))
	f.Add([]byte(`{"version":1,"interfaces":[{"features":null}],"files":null}`))
	f.Add([]byte(strings.Repeat(`{"a":`, 10_000)))
	f.Add([]byte(`{"version":1,"sysctls":[` + strings.Repeat("{},", 10_000) + `{}]}`))
	root := f.TempDir() // without a machine-id: no state is of another machine
	f.Fuzz(func(t *testing.T, content []byte) {
		memory.Within(t, 1<<20+512*uint64(len(content)), func() {
			state, err := (&store{path: "state", disk: &disk{root: root}}).parse(content)
			if (state == nil) == (err == nil) {
				t.Fatalf("state %v, error %v", state, err)
			}
			if state.clone().Version != stateVersion {
				t.Errorf("a clone has version %d", state.clone().Version)
			}
		})
	})
}

// A marked file is ours, and one that was changed is not.
func FuzzMarker(f *testing.F) {
	f.Add("[Match]\nName=eth0\n")
	f.Add("#!/bin/sh\nexit 0\n")
	f.Add("")
	f.Add(mark("twice\n"))
	f.Add(markerStart + strings.Repeat("0", 64) + "\n" + markerStart)
	f.Fuzz(func(t *testing.T, text string) {
		memory.Within(t, 1<<20+64*uint64(len(text)), func() {
			owner(text)
			marked := mark(text)
			if strings.Contains(text, markerStart) || strings.HasPrefix(text, shebang) && !strings.Contains(text, "\n") {
				return
			}
			if whose := owner(marked); whose != ours {
				t.Errorf("ownership of %q is %d, want %d", marked, whose, ours)
			}
			if whose := owner(marked + "x"); whose != edited {
				t.Errorf("ownership of a changed %q is %d, want %d", marked, whose, edited)
			}
		})
	})
}
