package exporter

import (
	"math"
	"testing"

	dto "github.com/prometheus/client_model/go"

	"xentrace/internal/event"
)

// native returns the counts of a native histogram by bucket.
func native(h *dto.Histogram) map[int]int64 {
	counts := make(map[int]int64)
	index, n, value := 0, 0, int64(0)
	for _, span := range h.PositiveSpan {
		index += int(span.GetOffset())
		for range span.GetLength() {
			value += h.PositiveDelta[n]
			counts[index] = value
			index, n = index+1, n+1
		}
	}
	return counts
}

func TestSlotsHistogram(t *testing.T) {
	var slots event.Histogram
	slots[1], slots[2], slots[3], slots[17], slots[18], slots[19], slots[45], slots[255] = 10, 5, 1, 7, 2, 3, 4, 6
	h := (&writer{}).slotsHistogram(&slots)
	if h.GetSampleCount() != 38 || h.GetSampleSum() != 10+10+3+119+36+57+180+1530 {
		t.Errorf("count %d, sum %g", h.GetSampleCount(), h.GetSampleSum())
	}
	want := map[float64]uint64{1: 10, 2: 15, 3: 16, 16: 16, 17: 23, 18: 25}
	if len(h.Bucket) != 18 {
		t.Errorf("%d classic buckets, want 18", len(h.Bucket))
	}
	for _, b := range h.Bucket {
		if n, listed := want[b.GetUpperBound()]; listed && b.GetCumulativeCount() != n {
			t.Errorf("bucket %g: %d, want %d", b.GetUpperBound(), b.GetCumulativeCount(), n)
		}
	}
	counts := native(h)
	for n, packets := range slots {
		if packets != 0 && counts[nativeBucket(n)] != int64(packets) {
			t.Errorf("native bucket of %d slots: %d, want %d", n, counts[nativeBucket(n)], packets)
		}
	}
	if len(counts) != 8 {
		t.Errorf("%d native buckets, want 8", len(counts))
	}
}

// A histogram is that of its moment: it is written while the next scrape counts on.
func TestSlotsHistogramStaysAsItIs(t *testing.T) {
	slots := event.Histogram{0: 1, 1: 2}
	h := (&writer{}).slotsHistogram(&slots)
	slots[0], slots[1] = 10, 20
	if zero, one, all := h.GetZeroCount(), native(h)[nativeBucket(1)], h.GetSampleCount(); zero != 1 || one != 2 || all != 3 {
		t.Errorf("%d packets of no slot, %d of one, %d in all: want 1, 2, 3", zero, one, all)
	}
}

// Each number of slots up to 22 has a native bucket of its own, whose bounds hold it.
func TestNativeBuckets(t *testing.T) {
	for n := 1; n < event.Buckets; n++ {
		bound := func(i int) float64 { return math.Exp2(float64(i) / (1 << nativeSchema)) }
		if i := nativeBucket(n); float64(n) > bound(i)*(1+1e-12) || float64(n) <= bound(i-1) {
			t.Errorf("%d slots: bucket %d is (%g, %g]", n, i, bound(i-1), bound(i))
		}
		if n <= 22 && n > 1 && nativeBucket(n) == nativeBucket(n-1) {
			t.Errorf("%d and %d slots share a bucket", n-1, n)
		}
	}
}

func TestEmptyHistogramIsNative(t *testing.T) {
	h := (&writer{}).slotsHistogram(&event.Histogram{})
	if len(h.PositiveSpan) != 1 || h.PositiveSpan[0].GetLength() != 0 || h.GetSampleCount() != 0 {
		t.Errorf("spans %v, count %d", h.PositiveSpan, h.GetSampleCount())
	}
}

func TestDistribution(t *testing.T) {
	var d distribution
	d.add(event.Log2{0, 3, 0, 2}, 0.5)
	d.add(event.Log2{1, 0, 0, 0, 4}, 1)
	h := d.histogram(&writer{}, []int{1, 3}, 0.001)
	if h.GetSampleCount() != 10 || h.GetSampleSum() != 1.5 {
		t.Errorf("count %d, sum %g", h.GetSampleCount(), h.GetSampleSum())
	}
	for i, want := range []struct {
		bound float64
		count uint64
	}{{0.001, 4}, {0.004, 6}} {
		if b := h.Bucket[i]; b.GetUpperBound() != want.bound || b.GetCumulativeCount() != want.count {
			t.Errorf("bucket %g: %d, want %g: %d", b.GetUpperBound(), b.GetCumulativeCount(), want.bound, want.count)
		}
	}
}
