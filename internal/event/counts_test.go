package event

import (
	"maps"
	"testing"
)

func TestHistogram(t *testing.T) {
	var h Histogram
	h[1], h[18], h[19], h[35] = 11, 2, 3, 4
	if h.Packets() != 20 || h.Over(18) != 7 || h.Max() != 35 {
		t.Errorf("%d packets, %d over the limit, largest %d: want 20, 7, 35", h.Packets(), h.Over(18), h.Max())
	}
	want := map[int]uint64{1: 11, 18: 2, 19: 3, 35: 4}
	if got := maps.Collect(h.All()); !maps.Equal(got, want) {
		t.Errorf("buckets %v, want %v", got, want)
	}
	for first := range h.All() {
		if first != 1 {
			t.Errorf("first bucket %d, want 1", first)
		}
		break
	}
	if empty := (Histogram{}); empty.Max() != 0 || empty.Packets() != 0 {
		t.Error("an empty histogram holds something")
	}
}
