package trace

import (
	"math/rand/v2"
	"reflect"
	"slices"
	"testing"
	"time"

	"xentrace/bpf"
	"xentrace/internal/event"
	"xentrace/internal/netfront"
)

// The quota is used up, and of 128 and more records every share has some.
func TestRateQuota(t *testing.T) {
	for rate, share := range map[int]uint64{1: 0, 10: 0, 127: 0, 128: 1, 1000: 7, 100_000: 781} {
		quota := rateQuota(rate)
		var sum uint64
		for i, n := range quota.Records {
			sum += n
			if i > 0 && n != share {
				t.Errorf("rate %d: a share of %d, want %d", rate, n, share)
			}
		}
		if sum != uint64(rate) || quota.Records[0] < uint64(rate)*3/4 {
			t.Errorf("rate %d: %d in all, %d for all", rate, sum, quota.Records[0])
		}
	}
}

// stormWindow is a window on which a storm takes whatever it is allowed at once.
func stormWindow(w *rateWindow, delays []time.Duration) (taken []uint64, at []time.Time) {
	now := time.Unix(1000, 0)
	all := w.quota
	for _, delay := range delays {
		taken, at = append(taken, all.Records[0]), append(at, now)
		now = now.Add(delay)
		all = w.limit(all, now)
	}
	return taken, at
}

// No second has more records than the rate, whenever userspace gets to run, and a steady
// storm has all of them but for the delay of a step.
func TestRateOfAStorm(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	steady, stuttering := make([]time.Duration, 1000), make([]time.Duration, 1000)
	for i := range steady {
		steady[i] = rateInterval
		stuttering[i] = rateInterval + time.Duration(random.IntN(1500))*time.Millisecond*time.Duration(random.IntN(2))
	}
	for name, delays := range map[string][]time.Duration{"steady": steady, "stuttering": stuttering} {
		w := newRateWindow(100)
		taken, at := stormWindow(w, delays)
		if longest := len(w.samples); longest > 12 {
			t.Errorf("%s: %d samples are kept", name, longest)
		}
		for i := range taken {
			// The records of step i are made right at its time.
			before := uint64(0)
			for j := i - 1; j >= 0 && before == 0; j-- {
				if at[i].Sub(at[j]) >= ratePeriod {
					before = taken[j]
				}
			}
			if taken[i]-before > 100 {
				t.Fatalf("%s: %d records in the second before step %d", name, taken[i]-before, i)
			}
		}
		if perSecond := float64(taken[999]) / at[999].Sub(at[0]).Seconds(); name == "steady" && (perSecond < 90 || perSecond > 102) {
			t.Errorf("%s: %.1f records per second, want 90 to 102", name, perSecond)
		}
	}
}

// The limit is raised until no record was made for a period.
func TestRateSteady(t *testing.T) {
	w := newRateWindow(100)
	now := time.Unix(1000, 0)
	w.limit(ratePools{}, now)
	if !w.steady() {
		t.Error("not steady before the first record")
	}
	var taken ratePools
	taken.Records[0] = 30
	limit, steps := uint64(0), 0
	for ; !w.steady() || steps == 0; steps++ {
		now = now.Add(rateInterval)
		limit = w.limit(taken, now).Records[0]
	}
	if limit != 130 || steps != 11 {
		t.Errorf("steady after %d steps with %d records allowed, want 11 and 130", steps, limit)
	}
	taken.Records[0]++
	if w.limit(taken, now.Add(time.Hour)); w.steady() {
		t.Error("steady behind a record")
	}
}

// What was not used is not saved up.
func TestRateAfterQuiet(t *testing.T) {
	w := newRateWindow(100)
	now := time.Unix(1000, 0)
	var taken ratePools
	for range 100 {
		now = now.Add(rateInterval)
		if limit := w.limit(taken, now); limit.Records[0] != 100 {
			t.Fatalf("%d records allowed after quiet, want 100", limit.Records[0])
		}
	}
	taken.Records[0] = 30
	now = now.Add(rateInterval)
	if limit := w.limit(taken, now); limit.Records[0] != 100 {
		t.Errorf("%d records allowed, 30 of them taken, want 100", limit.Records[0])
	}
	for range 10 {
		now = now.Add(rateInterval)
		w.limit(taken, now)
	}
	if limit := w.limit(taken, now.Add(rateInterval)); limit.Records[0] != 130 {
		t.Errorf("%d records allowed a second later, want 130", limit.Records[0])
	}
}

// Records that were not made are listed as they would have been reported.
func TestSuppressedByVerdictAndCause(t *testing.T) {
	drop := func(cause bpf.XentraceCause) int { return int(bpf.XentraceVerdictVERDICTS) + int(cause) }
	for _, test := range []struct {
		driver netfront.Linearization
		want   []event.Suppressed
	}{
		{netfront.Linearizes, []event.Suppressed{
			{Verdict: event.Dropped, Records: 4}, {Verdict: event.Dropped, Cause: event.LinearizeFailed, Records: 2},
			{Verdict: event.Linearized, Records: 1}, {Verdict: event.Rejected, Records: 3},
		}},
		// What this driver does not drop it sends as it is.
		{netfront.Drops, []event.Suppressed{
			{Verdict: event.Dropped, Records: 4}, {Verdict: event.Dropped, Cause: event.TooManySlots, Records: 2},
			{Verdict: event.Rejected, Records: 3},
		}},
	} {
		counted := make([]interfaceTotals, 2)
		for i := range counted {
			counted[i].driver = newGeneration(0)
			counted[i].driver.resolve(netfront.Answer{Value: test.driver})
		}
		counted[0].suppressed[bpf.XentraceVerdictVERDICT_LINEARIZED] = 1
		counted[0].suppressed[drop(bpf.XentraceCauseCAUSE_TOO_MANY_SLOTS)] = 2
		counted[0].suppressed[bpf.XentraceVerdictVERDICT_REJECTED] = 1
		counted[1].suppressed[bpf.XentraceVerdictVERDICT_REJECTED] = 2
		counted[1].suppressed[drop(bpf.XentraceCauseCAUSE_NONE)] = 4
		if got := suppressedBy(counted); !reflect.DeepEqual(got, test.want) {
			t.Errorf("driver %v: %+v, want %+v", test.driver, got, test.want)
		}
	}
	if got := suppressedBy(nil); got == nil || len(got) != 0 || slices.Contains(got, event.Suppressed{}) {
		t.Errorf("%v where nothing was suppressed, want an empty list", got)
	}
}
