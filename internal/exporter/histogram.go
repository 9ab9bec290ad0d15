package exporter

import (
	"math"

	dto "github.com/prometheus/client_model/go"
	"google.golang.org/protobuf/proto"

	"xentrace/internal/event"
)

// slotBuckets is the largest classic bucket: the slot limit.
const slotBuckets = 18

// nativeSchema has 16 buckets in each doubling. Each number of slots up to 22 has a bucket
// of its own: 23/22 is less than 2^(1/16).
const nativeSchema = 4

// slotsHistogram is both a classic and a native histogram.
func (w *writer) slotsHistogram(slots *event.Histogram) *dto.Histogram {
	var count, sum uint64
	classic := make([]*dto.Bucket, 0, slotBuckets)
	for n, packets := range slots {
		count += packets
		sum += uint64(n) * packets
		if n >= 1 && n <= slotBuckets {
			classic = append(classic, w.bucket(float64(n), count))
		}
	}
	h := &dto.Histogram{
		SampleCount: &count, SampleSum: proto.Float64(float64(sum)), Bucket: classic,
		Schema: proto.Int32(nativeSchema), ZeroThreshold: proto.Float64(0), ZeroCount: proto.Uint64(slots[0]),
	}
	addNative(h, slots)
	return h
}

// addNative adds the buckets that are not empty. Each span begins with its distance from the
// end of the one before, each count is the difference from the one before.
func addNative(h *dto.Histogram, slots *event.Histogram) {
	next, before := 0, int64(0)
	for n := 1; n < len(slots); {
		if slots[n] == 0 {
			n++
			continue
		}
		index, packets := nativeBucket(n), slots[n]
		for n++; n < len(slots) && nativeBucket(n) == index; n++ {
			packets += slots[n]
		}
		if last := len(h.PositiveSpan) - 1; last >= 0 && index == next {
			*h.PositiveSpan[last].Length++
		} else {
			h.PositiveSpan = append(h.PositiveSpan, &dto.BucketSpan{Offset: proto.Int32(int32(index - next)), Length: proto.Uint32(1)})
		}
		h.PositiveDelta = append(h.PositiveDelta, int64(packets)-before)
		next, before = index+1, int64(packets)
	}
	if len(h.PositiveSpan) == 0 { // an empty span: native, without an observation
		h.PositiveSpan = []*dto.BucketSpan{{Offset: proto.Int32(0), Length: proto.Uint32(0)}}
	}
}

// nativeBucket is the bucket whose upper bound is 2^(index/16).
func nativeBucket(n int) int {
	return int(math.Ceil(math.Log2(float64(n)) * (1 << nativeSchema)))
}

// A distribution is a log2 histogram that grows.
type distribution struct {
	counts event.Log2
	sum    float64 // NaN where it is not measured
}

func (d *distribution) add(more event.Log2, sum float64) {
	if len(d.counts) < len(more) {
		d.counts = append(d.counts, make(event.Log2, len(more)-len(d.counts))...)
	}
	for i, n := range more {
		d.counts[i] += n
	}
	d.sum += sum
}

// histogram has the buckets with those numbers as classic ones; a unit is what the counted
// values are in.
func (d *distribution) histogram(w *writer, bounds []int, unit float64) *dto.Histogram {
	var below uint64
	h := &dto.Histogram{SampleCount: proto.Uint64(d.counts.Count()), SampleSum: proto.Float64(d.sum)}
	next := 0
	for _, bound := range bounds {
		for ; next <= bound && next < len(d.counts); next++ {
			below += d.counts[next]
		}
		h.Bucket = append(h.Bucket, w.bucket(float64(event.Log2Bound(bound))*unit, below))
	}
	return h
}
