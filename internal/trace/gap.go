package trace

import (
	"sync"
	"time"
)

// A Gap is a time in which packets may have gone unseen, or in which the machine
// did not run.
type Gap struct {
	From   time.Time
	To     time.Time // zero if it lasted until the end
	Reason GapReason
}

// A GapReason is why there is a gap. Its text is what the JSON output says.
type GapReason string

// The reasons of gaps.
const (
	// GapDriverUnloaded: the driver's module was taken out, and the hooks in it with it.
	GapDriverUnloaded GapReason = "driver_unloaded"
	// GapSuspended: the machine did not run: it was suspended, or saved and restored.
	GapSuspended GapReason = "machine_suspended"
)

// maxGaps bounds what is remembered; of more, the last one is made to reach from
// where it began to the end of the latest.
const maxGaps = 1000

// gaps remembers them in the order in which they began. Its methods may be called
// from several goroutines.
type gaps struct {
	mu  sync.Mutex
	all []Gap
}

// begin notes that a gap begins, unless one of that reason is open already.
func (g *gaps) begin(reason GapReason, from time.Time) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.open(reason) == nil {
		g.append(Gap{From: from, Reason: reason})
	}
}

// end ends the gap of that reason and returns it, if one is open.
func (g *gaps) end(reason GapReason, to time.Time) (Gap, bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	gap := g.open(reason)
	if gap == nil {
		return Gap{}, false
	}
	gap.To = to
	return *gap, true
}

// add notes a gap that is over.
func (g *gaps) add(gap Gap) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.append(gap)
}

// list returns a copy.
func (g *gaps) list() []Gap {
	g.mu.Lock()
	defer g.mu.Unlock()
	return append([]Gap(nil), g.all...)
}

func (g *gaps) open(reason GapReason) *Gap {
	for i := range g.all {
		if g.all[i].Reason == reason && g.all[i].To.IsZero() {
			return &g.all[i]
		}
	}
	return nil
}

func (g *gaps) append(gap Gap) {
	if len(g.all) == maxGaps {
		last := &g.all[maxGaps-1]
		last.To, last.Reason = gap.To, gap.Reason
		return
	}
	g.all = append(g.all, gap)
}
