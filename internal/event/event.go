// Package event is what xentrace reports, as plain data: the vocabulary that every other
// package shares. It imports nothing of this project.
package event

// An Event is one thing that is reported: one line of JSON, in the type that Type names.
type Event interface {
	Type() string
}

// Type returns "packet".
func (*Packet) Type() string { return "packet" }

// Type returns "flow".
func (*FlowEvent) Type() string { return "flow" }

// Type returns "summary".
func (*Summary) Type() string { return "summary" }

// Type returns "finding".
func (*Finding) Type() string { return "finding" }

// Type returns "notice".
func (*Notice) Type() string { return "notice" }

// Type returns "start".
func (*Start) Type() string { return "start" }

// Type returns "interval".
func (*Interval) Type() string { return "interval" }

// A Summary is the end of a run: what was counted, and which flows lost packets.
type Summary struct {
	Totals
	Flows *FlowSummary // nil where flows were not followed
	// Explained is what was counted and what helps, drops first.
	Explained []Explanation

	Filter  []string // what chose the events that were shown, as flags; empty if all were
	LeftOut uint64   // events that were not shown because of that
}

// AnyDropped reports whether a packet was dropped on any interface: by the driver, or
// elsewhere where that was asked for.
func (t *Totals) AnyDropped() bool {
	sum := t.Sum()
	return sum.Dropped+sum.Elsewhere != 0
}
