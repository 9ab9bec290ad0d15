package memory

import "testing"

type outcome struct {
	testing.TB
	failed bool
}

func (o *outcome) Helper()               {}
func (o *outcome) Errorf(string, ...any) { o.failed = true }

func TestAllocationsAreBounded(t *testing.T) {
	var kept []byte
	for size, want := range map[int]bool{64 << 10: false, 4 << 20: true} {
		o := &outcome{}
		Within(o, 1<<20, func() { kept = make([]byte, size) })
		if o.failed != want || len(kept) != size {
			t.Errorf("%d bytes: failed is %v, want %v", size, o.failed, want)
		}
	}
}
