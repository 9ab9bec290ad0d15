// Package feed is what the command line gives an exporter, as plain data: a program that
// links the command line only does not link HTTP.
package feed

import (
	"context"

	"xentrace/internal/event"
)

// Options select what is served, and where.
type Options struct {
	Listen    []string // addresses
	Systemd   bool     // listen on the sockets that systemd passes, instead
	WebConfig string   // path of TLS and basic auth settings, as exporter-toolkit has them; empty for none

	Drops      event.Drops // which drops are counted
	Rejected   bool        // packets that the backend rejected are counted
	Congestion bool        // Source.Congestion is set
	Recording  bool        // there is a recording that may pause

	Version string // of xentrace
	Commit  string
}

// Flows is the history of flows: a flow.Table.
type Flows interface {
	Counts() event.FlowCounts
	// Stalled returns how many flows are stalled, by interface.
	Stalled() map[event.Device]int
}

// A Source is what metrics are read from once everything is attached.
type Source struct {
	Backend event.Backend
	// Totals returns what was counted since the hooks were attached.
	Totals func(context.Context) (event.Totals, error)
	// Hooks returns how many hooks are attached, and how many are not and should be.
	Hooks func() (attached, missing int)
	Flows Flows
	// Congestion returns a report for each interface of the time since it was called last;
	// nil where that is not measured.
	Congestion func(context.Context) ([]event.CongestionReport, error)

	// Findings are those of the check at the start, and Check runs it again.
	Findings []event.Finding
	Check    func(context.Context) ([]event.Finding, error)
}
