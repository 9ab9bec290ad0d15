package cli

import (
	"strings"
	"testing"
	"time"

	"xentrace/internal/event"
	"xentrace/internal/netdev"
)

func TestOnlyNetfront(t *testing.T) {
	netfront := func(name string, up bool) netdev.Interface {
		return netdev.Interface{Name: name, Driver: netdev.DriverNetfront, Up: up}
	}
	lo, veth := netdev.Interface{Name: "lo", Up: true, Loopback: true}, netdev.Interface{Name: "veth0", Driver: "veth", Up: true}
	for _, test := range []struct {
		name   string
		all    []netdev.Interface
		want   string
		status int
		says   string
	}{
		{"one", []netdev.Interface{lo, veth, netfront("eth0", true)}, "eth0", 0, ""},
		{"one that is up", []netdev.Interface{netfront("eth0", false), netfront("eth1", true)}, "eth1", 0, ""},
		{"none", []netdev.Interface{lo, veth}, "", 3, "no xen-netfront interface is up"},
		{"none that is up", []netdev.Interface{netfront("eth0", false)}, "", 3, "no xen-netfront interface is up"},
		{"several", []netdev.Interface{netfront("eth0", true), netfront("eth1", true)}, "", 2, "use -i with one of eth0, eth1"},
	} {
		got, err := onlyNetfront(test.all)
		if got.Name != test.want || Status(err) != test.status || err != nil && !strings.Contains(err.Error(), test.says) {
			t.Errorf("%s: %q, %v: want %q, status %d, %q", test.name, got.Name, err, test.want, test.status, test.says)
		}
	}
}

func TestJudgeProbes(t *testing.T) {
	lost := event.Probe{Seen: true, Verdict: event.Dropped}
	refused := event.Probe{Seen: true, Verdict: event.Rejected}
	sent, linearized := event.Probe{Seen: true, Verdict: event.Sent}, event.Probe{Seen: true, Verdict: event.Linearized}
	over := event.Probe{Seen: true, Verdict: event.OverLimit}
	for _, test := range []struct {
		results []event.Probe
		want    int
	}{
		{nil, 0}, {[]event.Probe{sent, linearized, over}, 0}, {[]event.Probe{sent, lost}, 1}, {[]event.Probe{refused}, 1},
		{[]event.Probe{{}}, 3}, {[]event.Probe{sent, {}}, 3}, {[]event.Probe{{}, lost}, 1},
		{[]event.Probe{{Verdict: event.Rejected, Answer: event.AnswerRejected}}, 1}, // what the driver did was not reported
	} {
		if got := Status(judgeProbes(test.results)); got != test.want {
			t.Errorf("%+v: status %d, want %d", test.results, got, test.want)
		}
	}
}

func TestProbesOutOfTime(t *testing.T) {
	sent, lost := event.Probe{Seen: true, Verdict: event.Sent}, event.Probe{Seen: true, Verdict: event.Dropped}
	for _, test := range []struct {
		results []event.Probe
		count   int
		status  int
		says    string
	}{
		{nil, 0, 3, "--duration 500ms is over after 0 of 1 probes"},
		{[]event.Probe{sent}, 300, 3, "--duration 500ms is over after 1 of 300 probes"},
		{[]event.Probe{sent, lost}, 300, 0, ""}, // judgeProbes has the finding
	} {
		run := &traced{in: &tracing{duration: 500 * time.Millisecond, count: test.count}}
		err := run.outOfTime(test.results)
		if Status(err) != test.status || err != nil && !strings.Contains(err.Error(), test.says) {
			t.Errorf("%d results of %d: %v, want status %d, %q", len(test.results), test.count, err, test.status, test.says)
		}
	}
}

func TestProbeRefusesUsage(t *testing.T) {
	for _, test := range []struct{ args, says string }{
		{"--slots 1", "can be 2 to 31"},
		{"--slots 32", "can be 2 to 31"},
		{"--slots 0", "can be 2 to 31"},
		{"--slots many", "can be 2 to 31"},
		{"--count 0", "must be >= 1"},
		{"--to localhost:9", "not an address and a port"},
		{"--to 192.0.2.1:0", "port 0"},
		{"--ipv4 --ipv6", "exclude each other"},
		{"-i eth0 -i eth1", "only one"},
		{"-i lo --to 192.0.2.1", "loopback interface"},
		{"eth0", "unexpected argument"},
	} {
		got := runWith(t, nil, append([]string{"probe"}, strings.Fields(test.args)...)...)
		if got.status != 2 || !strings.Contains(got.stderr, test.says) || got.stdout != "" {
			t.Errorf("probe %s: status %d, %q%q: want 2 and %q", test.args, got.status, got.stdout, got.stderr, test.says)
		}
	}
}
