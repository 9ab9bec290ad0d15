package trace

import (
	"context"
	"fmt"
	"time"

	"github.com/cilium/ebpf"

	"xentrace/bpf"
	"xentrace/internal/event"
)

const (
	// ratePeriod is the period in which at most Options.Rate records are made, wherever it
	// begins.
	ratePeriod = time.Second
	// rateInterval is how often the BPF programs are allowed more: a steady storm has up to
	// that much less than its rate.
	rateInterval = 100 * time.Millisecond
	// reservedPart is the part of all records that is reserved for single users: a quarter.
	reservedPart = 4
)

// ratePools counts records since the start: those of the common pool, then those of each
// share; see bpf/rate.h.
type ratePools = bpf.XentraceRatePools

// rateQuota returns how many records a period has of each pool. With few records there are
// no shares.
func rateQuota(rate int) ratePools {
	var quota ratePools
	shares := len(quota.Records) - 1
	share := rate / reservedPart / shares
	for i := range quota.Records {
		quota.Records[i] = uint64(share)
	}
	quota.Records[0] = uint64(rate - share*shares)
	return quota
}

// A rateSample is how many records there were at a time, or before it.
type rateSample struct {
	at    time.Time
	taken ratePools
}

// rateWindow works out how many records there may be since the start: those that there were
// a period ago, and the quota. So no period has more than the quota, however late it is
// asked.
type rateWindow struct {
	quota   ratePools
	samples []rateSample // the last of them that are older than a period, and all younger ones
}

// newRateWindow begins where no record was made yet.
func newRateWindow(rate int) *rateWindow {
	return &rateWindow{quota: rateQuota(rate), samples: make([]rateSample, 1)}
}

// limit returns it for a moment after now, from what was taken before now.
func (w *rateWindow) limit(taken ratePools, now time.Time) ratePools {
	w.samples = append(w.samples, rateSample{now, taken})
	for len(w.samples) > 1 && now.Sub(w.samples[1].at) >= ratePeriod {
		w.samples = w.samples[1:]
	}
	limit := w.samples[0].taken
	for i := range limit.Records {
		limit.Records[i] += w.quota.Records[i]
	}
	return limit
}

// steady reports that no record was made for a period: the limit stays as it is until one is.
func (w *rateWindow) steady() bool { return w.samples[0].taken == w.samples[len(w.samples)-1].taken }

// rateLimit is the limit of records of the BPF programs.
type rateLimit struct {
	rates  *ebpf.Map
	window *rateWindow
	last   ratePools // as it was set
}

// newRateLimit allows the records of the first period.
func newRateLimit(rates *ebpf.Map, rate int) (*rateLimit, error) {
	l := &rateLimit{rates: rates, window: newRateWindow(rate)}
	return l, l.set(l.window.quota)
}

func (l *rateLimit) set(limit ratePools) error {
	if err := l.rates.Put(uint32(bpf.XentraceRateEntryRATE_LIMIT), limit); err != nil {
		return fmt.Errorf("limit of records: %w", err)
	}
	l.last = limit
	return nil
}

// raise sets the limit as it is now.
func (l *rateLimit) raise() error {
	var taken ratePools
	if err := l.rates.Lookup(uint32(bpf.XentraceRateEntryRATE_TAKEN), &taken); err != nil {
		return fmt.Errorf("limit of records: %w", err)
	}
	limit := l.window.limit(taken, time.Now())
	if limit == l.last {
		return nil
	}
	return l.set(limit)
}

// keep raises the limit until ctx ends, while records are made: read holds a value if one
// was read since that was received. Without records it does not wake up.
func (l *rateLimit) keep(ctx context.Context, read <-chan struct{}) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-read:
		}
		// Should it fail, more records are suppressed until the next time, and counted.
		for l.raise() != nil || !l.window.steady() {
			select {
			case <-ctx.Done():
				return
			case <-time.After(rateInterval):
			}
		}
	}
}

// numSuppressions is how many kinds of records the BPF programs count that they did not
// make: by verdict, then drops by cause.
const numSuppressions = len(bpf.XentraceCounters{}.Suppressed)

// suppressionAt returns the verdict and cause of one of them.
func suppressionAt(index int) (event.Verdict, event.Cause) {
	if verdicts := int(bpf.XentraceVerdictVERDICTS); index >= verdicts {
		return event.Dropped, event.Cause(index - verdicts)
	}
	return event.Verdict(index), event.CauseNone
}

// suppressedBy lists the records that were not made, by verdict and cause, without those
// of packets that are not reported.
func suppressedBy(counted []interfaceTotals) []event.Suppressed {
	var sums [int(bpf.XentraceVerdictVERDICTS)][event.NumCauses]uint64
	for i := range counted {
		for index, records := range counted[i].suppressed {
			var p event.Packet
			p.Verdict, p.Cause = suppressionAt(index)
			refine(&p, counted[i].driver.value())
			sums[p.Verdict][p.Cause] += records
		}
	}
	all := []event.Suppressed{}
	for verdict := range sums {
		for cause, records := range sums[verdict] {
			if records != 0 && event.Verdict(verdict) != event.Sent {
				all = append(all, event.Suppressed{Verdict: event.Verdict(verdict), Cause: event.Cause(cause), Records: records})
			}
		}
	}
	return all
}
