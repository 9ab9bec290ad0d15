package output

import (
	"xentrace/internal/congestion"
	"xentrace/internal/verdict"
)

// A Congestion is what was measured on one interface, what it means, and how it differs
// from an earlier run.
type Congestion struct {
	Report   *congestion.Report
	Judgment verdict.Judgment
	Changes  []congestion.Change // nil: no earlier run was given
}

// Type returns "congestion".
func (*Congestion) Type() string { return "congestion" }
