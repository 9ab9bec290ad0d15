package netdev

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"xentrace/internal/procfs"
)

// A finder reads a process in each of its first rounds and in one of ten later, and one that a
// namespace's path is by in each.
func TestFinderRounds(t *testing.T) {
	root := t.TempDir()
	enter := func(pid, inum int) {
		t.Helper()
		link := filepath.Join(root, fmt.Sprint(pid), "ns/net")
		if err := os.MkdirAll(filepath.Dir(link), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.Remove(link); err != nil && !os.IsNotExist(err) {
			t.Fatal(err)
		}
		if err := os.Symlink(fmt.Sprintf("net:[%d]", inum), link); err != nil {
			t.Fatal(err)
		}
	}
	f := newFinder(procfs.NewProcesses(root))
	path := func(inum uint32) string {
		t.Helper()
		found, err := f.find(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if at := slices.IndexFunc(found, func(n Found) bool { return n.Inum == inum }); at >= 0 {
			return found[at].Path
		}
		return ""
	}
	rounds := func(inum uint32, want string) (n int) {
		t.Helper()
		for n = 1; path(inum) != want; n++ {
			if n > 2*settledRounds {
				t.Fatalf("namespace %d is not %q after %d rounds", inum, want, n)
			}
		}
		return n
	}
	of := func(pid int) string { return filepath.Join(root, fmt.Sprint(pid), "ns/net") }

	for pid := 1; pid <= 20; pid++ {
		enter(pid, 100)
	}
	if n := rounds(100, of(1)); n != 1 {
		t.Errorf("found in round %d, want 1", n)
	}
	enter(5, 101) // young
	if n := rounds(101, of(5)); n != 1 {
		t.Errorf("a young process was read in round %d, want 1", n)
	}
	enter(5, 100) // it names namespace 101
	if n := rounds(101, ""); n != 1 {
		t.Errorf("the process that names a namespace was read in round %d, want 1", n)
	}
	enter(1, 102)
	if n := rounds(100, of(2)); n != 1 {
		t.Errorf("the next process names the namespace in round %d, want 1", n)
	}
	for range settledAfter {
		path(100)
	}
	for pid := 11; pid <= 20; pid++ { // settled
		enter(pid, 200+pid)
		if n := rounds(uint32(200+pid), of(pid)); n > settledRounds {
			t.Errorf("process %d was read in round %d, want %d at most", pid, n, settledRounds)
		}
	}
	enter(30, 103)
	if n := rounds(103, of(30)); n != 1 {
		t.Errorf("a new process was read in round %d, want 1", n)
	}
	if err := os.RemoveAll(filepath.Join(root, "30")); err != nil {
		t.Fatal(err)
	}
	if n := rounds(103, ""); n != 1 {
		t.Errorf("a process that ended was forgotten in round %d, want 1", n)
	}
	if got := len(f.known); got != 20 {
		t.Errorf("%d processes are remembered, want 20", got)
	}
}
