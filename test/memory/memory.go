// Package memory bounds what a function under test allocates.
package memory

import (
	"runtime"
	"testing"
)

// Within runs do, and fails the test if it allocates more than limit bytes, freed or not.
// Tests that run at the same time count too.
func Within(t testing.TB, limit uint64, do func()) {
	t.Helper()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	do()
	runtime.ReadMemStats(&after)
	if used := after.TotalAlloc - before.TotalAlloc; used > limit {
		t.Errorf("%d bytes allocated, limit is %d", used, limit)
	}
}
