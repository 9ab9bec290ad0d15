package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"xentrace/test/xen/situation"
)

// log writes a run's output of n situations, changed by edit.
func log(t *testing.T, n int, edit func(*situation.Situation)) string {
	t.Helper()
	var output strings.Builder
	for range n {
		s := situation.Situation{Release: "6.1.0", Driver: "prefix", ScatterGather: true, MTU: 1500, What: "as it comes",
			SGMTU: situation.Answer{Verdict: "SUCCESS"}, Rocket: situation.Answer{Verdict: "FAILURE", Right: true}, Ours: "FAIL linearize",
			OverLimit: situation.Traffic{Sent: 20, Dropped: 20}, Small: situation.Traffic{Sent: 480}, Defect: situation.Traffic{Sent: 20, Dropped: 20}}
		edit(&s)
		if err := s.Write(&output); err != nil {
			t.Fatal(err)
		}
	}
	path := filepath.Join(t.TempDir(), "log")
	if err := os.WriteFile(path, []byte(output.String()), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestRun(t *testing.T) {
	asIs := func(*situation.Situation) {}
	for _, test := range []struct {
		name string
		log  string
		says string // of the error
	}{
		{"enough", log(t, 12, asIs), ""},
		{"too few", log(t, 11, asIs), "11 situations"},
		{"none", log(t, 0, asIs), "has no situation"},
		{"not right", log(t, 12, func(s *situation.Situation) { s.SGMTU.Right = true }), "check is not right"},
	} {
		t.Run(test.name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "page.md")
			err := run(new(strings.Builder), []string{test.log}, file)
			page, readErr := os.ReadFile(file)
			if test.says != "" {
				if err == nil || !strings.Contains(err.Error(), test.says) || readErr == nil {
					t.Errorf("error %v, want %q and no page", err, test.says)
				}
				return
			}
			if err != nil || readErr != nil {
				t.Fatal(err, readErr)
			}
			for _, part := range []string{
				"## 6.1.0, prefix driver\n", "was wrong in 12 situations and\n`xennetrocket` in 0",
				"| on, 1500 | as it comes | 0 | SUCCESS: **wrong** | FAILURE: right | FAIL linearize | 20 of 20 | 0 of 480 | 20 of 20 |\n",
			} {
				if !strings.Contains(string(page), part) {
					t.Errorf("no %q in\n%s", part, page)
				}
			}
		})
	}
}
