package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"xentrace/test/xen/cell"
)

// logs writes a run of each kernel with every cell, changed by edit, and returns
// the directory. A cell for which edit returns false is left out.
func logs(t *testing.T, kernels []string, edit func(c *cell.Cell) bool) string {
	t.Helper()
	dir := t.TempDir()
	for _, kernel := range kernels {
		var out strings.Builder
		out.WriteString("=== RUN   TestMatrix\ncell by cell\n")
		for _, path := range cell.Paths {
			for _, backend := range cell.Backends {
				c := cell.Cell{Kernel: kernel, Release: kernel + ".0", Path: path.ID, Backend: backend, Status: cell.Agrees}
				if edit(&c) {
					if err := c.Write(&out); err != nil {
						t.Fatal(err)
					}
				}
			}
		}
		s := cell.Session{Kernel: kernel, Counted: 12, TxPackets: 9, TxDropped: 3, Dropped: 3, Causes: map[string]uint64{"sg_off": 3}}
		if err := s.Write(&out); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, kernel+".log"), []byte(out.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func isFentry510(c *cell.Cell) bool { return c.Kernel == "5.10" && c.Backend == "fentry" }

func TestEveryCellMustAgree(t *testing.T) {
	kernels := []string{"5.10", "6.1"}
	tests := []struct {
		name string
		edit func(c *cell.Cell) bool
		want string // in the output; the table is refused unless it is empty
	}{
		{"all agree", func(c *cell.Cell) bool { return true }, ""},
		{"one is missing", func(c *cell.Cell) bool { return !isFentry510(c) || c.Path != "too_big" },
			"RED too_big, kernel 5.10, fentry: missing"},
		{"one is red", func(c *cell.Cell) bool {
			if isFentry510(c) && c.Path == "sg_off" {
				c.Status, c.Why = cell.Red, "3 records, want 4"
			}
			return true
		}, "RED sg_off, kernel 5.10, fentry: 3 records, want 4"},
		{"one cannot exist and says why", func(c *cell.Cell) bool {
			if isFentry510(c) {
				c.Status, c.Why = cell.Impossible, "no BTF"
			}
			return true
		}, ""},
		{"one cannot exist and does not say why", func(c *cell.Cell) bool {
			if isFentry510(c) {
				c.Status = cell.Impossible
			}
			return true
		}, "does not say why"},
		{"one has no status", func(c *cell.Cell) bool { c.Status = ""; return true }, "RED completions"},
		{"one is of a path that is not there", func(c *cell.Cell) bool {
			if isFentry510(c) && c.Path == "sg_off" {
				c.Path = "sg_of"
			}
			return true
		}, "no such cell was asked for"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			dir := logs(t, kernels, test.edit)
			page := filepath.Join(dir, "page.md")
			var out strings.Builder
			err := run(&out, dir, kernels, page)
			_, missing := os.Stat(page)
			if refused := test.want != ""; (err != nil) != refused || (missing != nil) != refused {
				t.Errorf("error %v, page %v; want it refused: %v\n%s", err, missing, refused, out.String())
			}
			if !strings.Contains(out.String(), test.want) {
				t.Errorf("output %q, want %q in it", out.String(), test.want)
			}
		})
	}
}

func TestCellTwice(t *testing.T) {
	dir := logs(t, []string{"6.1"}, func(*cell.Cell) bool { return true })
	text, err := os.ReadFile(filepath.Join(dir, "6.1.log"))
	if err != nil {
		t.Fatal(err)
	}
	m := newMatrix([]string{"6.1"})
	for range 2 {
		if err := m.read(string(text)); err != nil {
			t.Fatal(err)
		}
	}
	if got, want := len(m.faults()), len(cell.Paths)*len(cell.Backends); got != want {
		t.Errorf("%d faults, want %d", got, want)
	}
}

// A line that the end of a run tore is not passed over.
func TestTornLine(t *testing.T) {
	for _, line := range []string{"cell {\"Kernel\":\"6.1\",", "session {\"Kernel\""} {
		if err := newMatrix([]string{"6.1"}).read("PASS\n" + line); err == nil {
			t.Errorf("%q was read", line)
		}
	}
}

func TestPage(t *testing.T) {
	kernels := []string{"5.10", "6.1"}
	dir := logs(t, kernels, func(c *cell.Cell) bool {
		if isFentry510(c) {
			c.Status, c.Why = cell.Impossible, "no BTF"
		}
		if c.Path == "device_broken" && c.Kernel == "5.10" && c.Backend != "fentry" {
			c.Note = "unknown there"
		}
		return true
	})
	file := filepath.Join(dir, "page.md")
	var out strings.Builder
	if err := run(&out, dir, kernels, file); err != nil {
		t.Fatal(err)
	}
	page, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"| path | driver | made to happen by | 5.10.0 | 6.1.0 |\n",
		"an MTU of 65,535 | –✔✔ (1) | ✔✔✔ |\n",
		"marked as broken | –✔✔ (1) (2) | ✔✔✔ |\n",
		"\n1. no BTF\n2. unknown there\n",
		"| `tx_dropped` | 3 | 3 | 6 |\n",
		"| – `sg_off` | 3 | 3 | 6 |\n",
		"| false records | 0 | 0 | 0 |\n",
	} {
		if !strings.Contains(string(page), want) {
			t.Errorf("the page lacks %q:\n%s", want, page)
		}
	}
	if want := "95 cells agree, 19 cannot exist"; !strings.Contains(out.String(), want) {
		t.Errorf("output %q, want %q in it", out.String(), want)
	}
}
