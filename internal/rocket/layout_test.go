package rocket

import (
	"fmt"
	"testing"
)

func TestPlanPutsEachWriteAcrossABoundary(t *testing.T) {
	for _, pageSize := range []int{4096, 16384, 65536} {
		for _, length := range []int{2, 16, 63, 64, 80, 512, 2048, 4095} {
			for _, n := range []int{0, 1, 7, 8, 13, 17, 45} {
				t.Run(fmt.Sprintf("%d writes of %d with pages of %d", n, length, pageSize), func(t *testing.T) {
					p := newPlan(n, length, pageSize)
					if len(p.before) != n {
						t.Fatalf("%d gaps, want %d", len(p.before), n)
					}
					f := fragment{size: blockSize(pageSize)}
					for i, gap := range p.before {
						f.advance(gap)
						start := f.offset
						if start+length > f.size || start%4096 != 4096-length/2 {
							t.Fatalf("write %d lies at %d of %d", i, start, f.size)
						}
						if i > 0 && gap == 0 {
							t.Fatalf("write %d adjoins the one before and would be merged with it", i)
						}
						f.advance(length)
					}
					f.advance(p.after)
					if f.offset != f.size {
						t.Errorf("ends at %d of %d", f.offset, f.size)
					}
				})
			}
		}
	}
}

// The last write of an odd number of slots lies inside one, apart from the one before.
func TestPlanOfAnOddNumberOfSlots(t *testing.T) {
	for _, pageSize := range []int{4096, 65536} {
		for _, length := range []int{16, 80, 2048} {
			for slots := 1; slots <= 33; slots += 2 {
				p := newSlotPlan(slots, length, pageSize)
				f := fragment{size: blockSize(pageSize)}
				got := 0
				for i, gap := range p.before {
					f.advance(gap)
					if i > 0 && gap == 0 {
						t.Fatalf("%d slots: write %d adjoins the one before", slots, i)
					}
					if f.offset+length > f.size {
						t.Fatalf("%d slots: write %d of %d lies at %d of %d", slots, i, length, f.offset, f.size)
					}
					got += (f.offset%slotSize + length + slotSize - 1) / slotSize
					f.advance(length)
				}
				if f.advance(p.after); got != slots || f.offset != f.size {
					t.Errorf("writes of %d: %d slots, want %d; ends at %d of %d", length, got, slots, f.offset, f.size)
				}
			}
		}
	}
}

func TestFragmentFollowsTheKernel(t *testing.T) {
	for _, test := range []struct{ offset, written, want int }{
		{0, 4056, 4056},
		{0, 32768, 32768},
		{32768, 1, 1},
		{32736, 1, 32737},    // 32 bytes left
		{32737, 1, 1},        // 31 left: skipped
		{32700, 100, 32},     // 68 left, then a new block
		{100, 65536, 100},    // 32668 left, a whole block, 100 more
		{32760, 40000, 7232}, // skipped, a whole block, the rest
	} {
		f := fragment{offset: test.offset, size: 32768}
		if f.advance(test.written); f.offset != test.want {
			t.Errorf("%d bytes at %d end at %d, want %d", test.written, test.offset, f.offset, test.want)
		}
	}
}
