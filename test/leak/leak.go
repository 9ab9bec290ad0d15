// Package leak finds descriptors that a test opened and did not close. It compares what
// they refer to, not how many there are: one that an earlier test closes meanwhile hides
// nothing.
package leak

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"
)

// Descriptors counts the process's open descriptors by what they refer to, such as
// "socket:[4711]".
type Descriptors map[string]int

// Open lists them.
func Open(t testing.TB) Descriptors {
	t.Helper()
	// The runtime opens its poller's descriptors with the first pipe and keeps them.
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	_, _ = r.Close(), w.Close()
	return list(t)
}

func list(t testing.TB) Descriptors {
	t.Helper()
	paths, err := filepath.Glob("/proc/self/fd/*")
	if err != nil {
		t.Fatal(err)
	}
	open := make(Descriptors, len(paths))
	for _, path := range paths {
		// Closed meanwhile if there is none, as the one that the paths were read with.
		if target, err := os.Readlink(path); err == nil {
			open[target]++
		}
	}
	return open
}

// patience is how long what ends on its own may take to be closed.
const patience = 10 * time.Second

// Left waits until nothing is open that was not before, and returns what still is.
func (before Descriptors) Left(t testing.TB) []string {
	t.Helper()
	for deadline := time.Now().Add(patience); ; time.Sleep(5 * time.Millisecond) {
		left := before.opened(list(t))
		if len(left) == 0 || time.Now().After(deadline) {
			return left
		}
	}
}

// opened lists what is in now and not in before.
func (before Descriptors) opened(now Descriptors) []string {
	var opened []string
	for target, n := range now {
		if n > before[target] {
			opened = append(opened, fmt.Sprintf("%d %s", n-before[target], target))
		}
	}
	slices.Sort(opened)
	return opened
}
