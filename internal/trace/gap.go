package trace

import (
	"sync"
	"time"

	"xentrace/internal/event"
)

// maxGaps bounds what is remembered; of more, the last one is made to reach from
// where it began to the end of the latest.
const maxGaps = 1000

// gaps remembers them in the order in which they began. Its methods may be called
// from several goroutines.
type gaps struct {
	mu  sync.Mutex
	all []event.Gap
}

// begin notes that a gap begins, unless one of that reason is open already.
func (g *gaps) begin(reason event.GapReason, from time.Time) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.open(reason) == nil {
		g.append(event.Gap{From: from, Reason: reason})
	}
}

// end ends the gap of that reason and returns it, if one is open.
func (g *gaps) end(reason event.GapReason, to time.Time) (event.Gap, bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	gap := g.open(reason)
	if gap == nil {
		return event.Gap{}, false
	}
	gap.To = to
	return *gap, true
}

// add notes a gap that is over.
func (g *gaps) add(gap event.Gap) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.append(gap)
}

// list returns a copy.
func (g *gaps) list() []event.Gap {
	g.mu.Lock()
	defer g.mu.Unlock()
	return append([]event.Gap(nil), g.all...)
}

func (g *gaps) open(reason event.GapReason) *event.Gap {
	for i := range g.all {
		if g.all[i].Reason == reason && g.all[i].To.IsZero() {
			return &g.all[i]
		}
	}
	return nil
}

func (g *gaps) append(gap event.Gap) {
	if len(g.all) == maxGaps {
		last := &g.all[maxGaps-1]
		last.To, last.Reason = gap.To, gap.Reason
		return
	}
	g.all = append(g.all, gap)
}
