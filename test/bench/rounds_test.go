package bench

import (
	"errors"
	"fmt"
	"math"
	"runtime/debug"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

const (
	rounds    = 11
	slice     = 4 * time.Millisecond // that one reading is taken over
	perRound  = 25                   // readings of a kind of traffic in one round, the least of which counts
	drainTime = 2 * time.Millisecond
)

// samples are the nanoseconds of one observer for one kind of traffic, one for each round.
type samples []float64

func median(values []float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	n := len(sorted)
	if n == 0 {
		return 0
	}
	return (sorted[(n-1)/2] + sorted[n/2]) / 2
}

// added is what one observer adds to another: the median of the differences
// within the rounds, and half the distance between their quartiles.
func added(with, without samples) (middle, spread float64) {
	differences := make([]float64, len(with))
	for i := range with {
		differences[i] = with[i] - without[i]
	}
	sorted := slices.Sorted(slices.Values(differences))
	return median(sorted), (sorted[3*len(sorted)/4] - sorted[len(sorted)/4]) / 2
}

// A sender is the thread whose time is measured, with what it sends.
type sender struct {
	*worker
	kinds []traffic
	batch []int // packets in one slice, for each kind
}

func newSender(l *lab, kinds ...traffic) *sender {
	l.tb.Helper()
	s := &sender{worker: newWorker(l.tb, l.sending, true), kinds: kinds}
	for i := range kinds {
		const n = 2000
		_, err := s.reading(kinds[i], n)
		must(l.tb, err)
		nanoseconds, err := s.reading(kinds[i], n)
		must(l.tb, err)
		multiple := max(1, kinds[i].multiple)
		s.batch = append(s.batch, (int(float64(slice.Nanoseconds())/nanoseconds)/multiple+1)*multiple)
	}
	return s
}

// reading sends n packets and returns the sending thread's CPU time for each, in
// nanoseconds: its own clock, which getrusage() rounds to ticks.
func (s *sender) reading(kind traffic, n int) (nanoseconds float64, err error) {
	for range 20 {
		err = s.do(func() error {
			nanoseconds, err = measure(kind, n)
			if err == nil && kind.settle != nil {
				err = kind.settle()
			}
			return err
		})
		if err == nil {
			return nanoseconds, nil
		}
		if !errors.Is(err, errUnsent) {
			break
		}
		time.Sleep(drainTime)
	}
	return 0, fmt.Errorf("%s: %w", kind.name, err)
}

func measure(kind traffic, n int) (nanoseconds float64, err error) {
	before, err := threadTime()
	if err != nil {
		return 0, err
	}
	if err := kind.send(n); err != nil {
		return 0, err
	}
	after, err := threadTime()
	return float64(after-before) / float64(n), err
}

func threadTime() (int64, error) {
	var now unix.Timespec
	err := unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &now)
	return now.Nano(), err
}

// costs lets the observers take turns and returns what the sender pays for each
// kind of traffic, by the observer's name.
func (s *sender) costs(tb testing.TB, all []observer) []map[string]samples {
	tb.Helper()
	defer debug.SetGCPercent(debug.SetGCPercent(-1))
	costs := make([]map[string]samples, len(s.kinds))
	for i := range costs {
		costs[i] = make(map[string]samples)
	}
	for range rounds {
		for _, o := range all {
			detach := o.attach()
			for i := range s.kinds {
				costs[i][o.name] = append(costs[i][o.name], s.round(tb, i))
			}
			detach()
		}
	}
	return costs
}

// round is the least of several readings: what disturbs a reading only adds to it.
func (s *sender) round(tb testing.TB, kind int) float64 {
	tb.Helper()
	least := math.Inf(1)
	for range perRound {
		nanoseconds, err := s.reading(s.kinds[kind], s.batch[kind])
		must(tb, err)
		least = min(least, nanoseconds)
		time.Sleep(drainTime)
	}
	return least
}
