package report

import (
	"time"

	"xentrace/internal/event"
)

// A series is one quantity of the timeline. Those from causeSeries on are drops by cause.
type series int

const (
	packetSeries series = iota
	linearizedSeries
	bouncedSeries
	rejectedSeries
	overLimitSeries
	elsewhereSeries
	retransmissionSeries // records of segments that were recorded before, or that TCP marked as retransmitted
	lostSeries           // records
	suppressedSeries     // records
	causeSeries
	numSeries = causeSeries + series(event.NumCauses)
)

// pageBuckets is how many buckets the time axis of a page has.
const pageBuckets = 240

const (
	// narrowest doubles to 7.5 s, 15 s, 30 s and whole minutes.
	narrowest = time.Minute / 512
	// farthest is how far from the first event another one is placed where it belongs;
	// beyond, it is placed at the edge. A corrupt time would make every bucket years wide.
	farthest = 5 * 365 * 24 * time.Hour
)

// An axis divides time into buckets of equal width. It starts with narrow ones and doubles
// their width, in either direction, when a time does not fit.
type axis struct {
	base    time.Time
	width   time.Duration
	buckets int
	align   time.Duration // the first bucket begins at a multiple of it
}

// index returns the bucket of a time. Before, it calls merge for each doubling that is
// needed; shift: the old buckets are the second half of the new ones.
func (a *axis) index(at time.Time, merge func(shift bool)) int {
	if a.base.IsZero() {
		a.base, a.width = at.Truncate(a.align), narrowest
	}
	at = a.base.Add(min(max(at.Sub(a.base), -farthest), farthest))
	for at.Before(a.base) {
		a.base = a.base.Add(-a.width * time.Duration(a.buckets))
		a.width *= 2
		merge(true)
	}
	for at.Sub(a.base) >= a.width*time.Duration(a.buckets) {
		a.width *= 2
		merge(false)
	}
	return int(at.Sub(a.base) / a.width)
}

func (a *axis) start(bucket int) time.Time { return a.base.Add(a.width * time.Duration(bucket)) }

// halve makes buckets twice as wide.
func halve[N uint64 | int](counts []N, shift bool) {
	half := len(counts) / 2
	for i := range half {
		counts[i] = counts[2*i] + counts[2*i+1]
	}
	clear(counts[half:])
	if shift {
		copy(counts[half:], counts[:half])
		clear(counts[:half])
	}
}

// A timeline counts every series over one axis.
type timeline struct {
	axis
	counts [numSeries][pageBuckets]uint64
	sums   [numSeries]uint64
	began  [pageBuckets]int // connections that stalled
	ended  [pageBuckets]int // of those, that no longer are
}

func newTimeline() *timeline {
	return &timeline{axis: axis{buckets: pageBuckets, align: 15 * time.Second}}
}

func (t *timeline) at(when time.Time) int { return t.index(when, t.merge) }

func (t *timeline) merge(shift bool) {
	for s := range t.counts {
		halve(t.counts[s][:], shift)
	}
	halve(t.began[:], shift)
	halve(t.ended[:], shift)
}

func (t *timeline) add(s series, when time.Time, n uint64) {
	t.counts[s][t.at(when)] += n
	t.sums[s] += n
}

// spread adds what was counted between two times, evenly.
func (t *timeline) spread(s series, from, to time.Time, n uint64) {
	if n == 0 {
		return
	}
	if !from.Before(to) {
		t.add(s, to, n)
		return
	}
	t.at(from) // the axis has room for it, so that last stays right
	last := t.at(to.Add(-1))
	first := t.at(from)
	t.sums[s] += n
	length, done := to.Sub(from).Seconds(), uint64(0)
	for b := first; b < last; b++ {
		until := uint64(float64(n) * min(t.start(b+1).Sub(from).Seconds()/length, 1))
		if until > done {
			t.counts[s][b] += until - done
			done = until
		}
	}
	t.counts[s][last] += n - min(done, n)
}

// stalled returns how many connections were stalled at some time in each bucket.
func (t *timeline) stalled() [pageBuckets]uint64 {
	var now int
	var all [pageBuckets]uint64
	for b := range all {
		all[b] = uint64(max(now+t.began[b], 0))
		now += t.began[b] - t.ended[b]
	}
	return all
}

// allDropped is the sum of all causes.
func (t *timeline) allDropped() (sum uint64) {
	for s := causeSeries; s < numSeries; s++ {
		sum += t.sums[s]
	}
	return sum
}

// sparkBuckets is how many buckets the timeline of one connection has.
const sparkBuckets = 32

// A spark is the timeline of one connection: packets of it that went wrong.
type spark struct {
	axis
	counts [sparkBuckets]uint64
}

func (s *spark) add(when time.Time) {
	s.buckets, s.align = sparkBuckets, narrowest
	s.counts[s.index(when, func(shift bool) { halve(s.counts[:], shift) })]++
}
