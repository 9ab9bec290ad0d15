package congestion

import "iter"

// A Histogram counts values in buckets that double: the first holds 0, the second 1,
// each other one what is above the bound before it and not above its own.
type Histogram []uint64

// Bound returns the upper bound of a bucket: 0, 1, 2, 4 and so on. The last bucket
// of a histogram also holds what is above its bound.
func Bound(bucket int) uint64 {
	if bucket == 0 {
		return 0
	}
	return 1 << (bucket - 1)
}

// Count returns how many values were counted.
func (h Histogram) Count() uint64 {
	var sum uint64
	for _, n := range h {
		sum += n
	}
	return sum
}

// All yields the bound and the count of each bucket that is not empty.
func (h Histogram) All() iter.Seq2[uint64, uint64] {
	return func(yield func(uint64, uint64) bool) {
		for bucket, n := range h {
			if n != 0 && !yield(Bound(bucket), n) {
				return
			}
		}
	}
}

// Quantile returns the bound of the bucket that holds the value below which this
// share of all values lie; 0 if none was counted.
func (h Histogram) Quantile(share float64) uint64 {
	want, sum := share*float64(h.Count()), uint64(0)
	last := uint64(0)
	for bucket, n := range h {
		if n == 0 {
			continue
		}
		sum += n
		if last = Bound(bucket); float64(sum) >= want {
			return last
		}
	}
	return last
}

// add adds more to it, in place.
func (h *Histogram) add(more []uint64) {
	for len(*h) < len(more) {
		*h = append(*h, 0)
	}
	for bucket, n := range more {
		(*h)[bucket] += n
	}
}

// minus returns what was counted since before.
func (h Histogram) minus(before Histogram) Histogram {
	difference := make(Histogram, len(h))
	for bucket := range h {
		difference[bucket] = h[bucket]
		if bucket < len(before) {
			difference[bucket] -= before[bucket]
		}
	}
	return difference
}
