package exporter

import (
	"testing"
	"time"

	"xentrace/internal/check"
	"xentrace/internal/event"
)

func finding(id event.FindingID, device string, status event.Status) event.Finding {
	f := event.Finding{ID: id, Interface: device, Status: status}
	if device != "" {
		f.NetNS = 7
	}
	return f
}

// A later run, which has fewer privileges, changes what it can decide.
func TestLaterChecks(t *testing.T) {
	var c checks
	c.add([]event.Finding{
		finding(check.LinearizeCode, "", event.Fail), finding(check.KernelLog, "", event.Warn),
		finding(check.MTU, "eth0", event.OK), finding(check.MTU, "eth1", event.OK),
	}, start)
	c.add([]event.Finding{
		finding(check.LinearizeCode, "", event.Unknown), finding(check.KernelLog, "", event.Unknown),
		finding(check.MTU, "eth0", event.Warn), finding(check.Bounce, "eth0", event.Unknown),
	}, start.Add(time.Hour))
	want := map[findingKey]event.Status{
		{check.LinearizeCode, key{}}:   event.Fail,
		{check.KernelLog, key{}}:       event.Warn,
		{check.MTU, key{7, "eth0"}}:    event.Warn,
		{check.Bounce, key{7, "eth0"}}: event.Unknown,
	}
	if len(c.findings) != len(want) {
		t.Errorf("%d findings, want %d", len(c.findings), len(want))
	}
	for k, status := range want {
		if got, there := c.findings[k]; !there || got != status {
			t.Errorf("%v is %v (there: %v), want %v", k, got, there, status)
		}
	}
	if c.linearizes == nil || *c.linearizes || !c.at.Equal(start.Add(time.Hour)) {
		t.Errorf("linearizes %v at %s", c.linearizes, c.at)
	}
}

// The driver that was loaded last decides whether it linearizes.
func TestChecksOfALoadedDriver(t *testing.T) {
	yes := true
	for name, test := range map[string]struct {
		linearizes *bool
		want       event.Status
	}{"linearizes": {&yes, event.OK}, "drops": {new(bool), event.Fail}, "unknown": {nil, event.Unknown}} {
		t.Run(name, func(t *testing.T) {
			var c checks
			c.add([]event.Finding{finding(check.LinearizeCode, "", event.Warn)}, start)
			c.loaded(test.linearizes)
			if got := c.findings[findingKey{check.LinearizeCode, key{}}]; got != test.want || c.linearizes != test.linearizes {
				t.Errorf("status %v, want %v; linearizes %v", got, test.want, c.linearizes)
			}
		})
	}
}
