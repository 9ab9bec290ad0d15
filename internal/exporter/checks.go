package exporter

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"strings"
	"time"

	"xentrace/internal/check"
	"xentrace/internal/event"
)

const (
	// checkInterval is how often check runs, besides the start and each load of the driver or
	// new interface or name.
	checkInterval = time.Hour

	// checkDelay is how long a run waits after what it is for: a driver that was just loaded
	// has no interface yet, and a new interface not its last name.
	checkDelay = 2 * time.Second

	// checkPause is the least between two runs, whatever comes and goes: each may read the
	// kernel's types and symbols.
	checkPause = time.Minute
)

type findingKey struct {
	id event.FindingID
	key
}

// checks holds the latest findings.
type checks struct {
	findings   map[findingKey]event.Status
	order      []findingKey // of the findings: by interface and id
	at         time.Time
	linearizes *bool // nil: unknown
}

// add replaces the findings. What a run cannot decide keeps its status: later runs have
// fewer privileges than the first.
func (c *checks) add(findings []event.Finding, at time.Time) {
	before := c.findings
	c.findings, c.at = make(map[findingKey]event.Status, len(findings)), at
	for i := range findings {
		f := &findings[i]
		k := findingKey{f.ID, keyOf(event.Device{Name: f.Interface, NetNS: f.NetNS})}
		status := f.Status
		if known, was := before[k]; was && status == event.Unknown {
			status = known
		}
		c.findings[k] = max(status, c.findings[k])
		if f.ID == check.LinearizeCode && status != event.Unknown {
			yes := status == event.OK
			c.linearizes = &yes
		}
	}
	c.order = slices.SortedFunc(maps.Keys(c.findings), func(a, b findingKey) int {
		return cmp.Or(cmp.Compare(a.netns, b.netns), strings.Compare(a.device, b.device), strings.Compare(string(a.id), string(b.id)))
	})
}

// loaded takes in what the tracer found in the code of a driver that was loaded.
func (c *checks) loaded(linearizes *bool) {
	c.linearizes = linearizes
	status := event.Unknown
	if linearizes != nil {
		status = event.Fail
		if *linearizes {
			status = event.OK
		}
	}
	for k := range c.findings {
		if k.id == check.LinearizeCode {
			c.findings[k] = status
		}
	}
}

// followChecks runs check again and again until ctx ends.
func (e *Exporter) followChecks(ctx context.Context, run func(context.Context) ([]event.Finding, error)) {
	ticker := time.NewTicker(checkInterval)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		case <-e.recheck:
			ticker.Reset(checkInterval)
			sleep(ctx, e.delay)
			select {
			case <-e.recheck: // this run sees it
			default:
			}
		}
		if ctx.Err() != nil {
			return
		}
		if findings, err := run(ctx); err == nil { // else the time of the last check shows it
			e.collector.found(findings, time.Now())
		}
		sleep(ctx, e.pause)
	}
}

// sleep returns after that time, or once ctx ends.
func sleep(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}
