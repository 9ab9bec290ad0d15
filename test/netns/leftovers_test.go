package netns

import (
	"testing"

	"xentrace/test/leak"
)

// holdings are the BPF objects that a process held.
type holdings struct{ leak.BPF }

// holdingsOf waits until a process that watches holds all it needs, and returns that. What
// only records need is loaded a moment after it is ready.
func holdingsOf(t *testing.T, pid int) holdings {
	t.Helper()
	var h holdings
	eventually(t, "the program of the tracepoint backend and the one that finds owners, a link for each, and their maps", func() bool {
		h.BPF = leak.BPFOf(t, pid)
		return len(h.Programs) >= 2 && len(h.Links) == 2 && len(h.Maps) >= 5
	})
	return h
}

// gone waits until none of them is there any more.
func (h holdings) gone(t *testing.T) {
	t.Helper()
	for _, left := range h.Left(t) {
		t.Errorf("%s is left", left)
	}
}
