package live

import (
	"cmp"

	"xentrace/internal/event"
)

// An order is what flows are sorted by, the worst first.
type order int

const (
	byStalled order = iota
	byDrops
	bySeen
	bySndQ
	orders
)

func (o order) String() string {
	return [...]string{"stalled time", "drops", "last seen", "sndq"}[o]
}

func (o order) next() order { return (o + 1) % orders }

// compare orders two flows: the one with more of the sort key comes first.
func (o order) compare(a, b event.FlowHistory) int {
	worse := 0
	switch o {
	case byStalled:
		worse = cmp.Or(cmp.Compare(rank(a), rank(b)), cmp.Compare(a.StalledFor, b.StalledFor))
	case bySeen:
		worse = a.Last.Compare(b.Last)
	case bySndQ:
		worse = cmp.Compare(sndQ(a), sndQ(b))
	}
	if worse = cmp.Or(worse, cmp.Compare(a.Drops, b.Drops)); worse != 0 {
		return -worse
	}
	return cmp.Or(a.Source.Compare(b.Source), a.Destination.Compare(b.Destination)) // they stay where they are
}

// rank puts flows that stand still before those that are over it.
func rank(f event.FlowHistory) int {
	switch f.State {
	case event.Stalled:
		return 2
	case event.Troubled:
		return 1
	default:
		return 0
	}
}

func sndQ(f event.FlowHistory) uint32 {
	if f.TCP == nil {
		return 0
	}
	return f.TCP.SndQBytes
}
