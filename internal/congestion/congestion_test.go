package congestion

import (
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"xentrace/bpf"
	"xentrace/internal/event"
	"xentrace/internal/kernel"
	"xentrace/internal/netdev"
)

func TestHistogram(t *testing.T) {
	h := event.Log2{1, 0, 2, 0, 0, 97}
	if h.Count() != 100 || h.Quantile(0.5) != 16 || h.Quantile(0.03) != 2 || h.Quantile(0.01) != 0 || h.Quantile(1) != 16 || event.Log2(nil).Quantile(0.5) != 0 {
		t.Errorf("count %d, quantiles %d %d %d", h.Count(), h.Quantile(0.5), h.Quantile(0.03), h.Quantile(0.01))
	}
	if got := maps.Collect(h.All()); !maps.Equal(got, map[uint64]uint64{0: 1, 2: 2, 16: 97}) {
		t.Errorf("buckets %v", got)
	}
	var sum event.Log2
	addTo(&sum, []uint64{1, 2})
	addTo(&sum, []uint64{1, 2, 3})
	if !slices.Equal(sum, event.Log2{2, 4, 3}) || !slices.Equal(difference(sum, event.Log2{1, 1}), event.Log2{1, 3, 3}) {
		t.Errorf("sum %v", sum)
	}
}

// An unfinished stop counts until now, and each of two reports has its part only.
func TestStopThatGoesOn(t *testing.T) {
	perCPU := []bpf.CongestionQueueCounters{{Stops: 1, FullNs: 100, Packets: 2}, {Packets: 3}}
	first := sumQueue(perCPU, 5000, 6000)
	second := sumQueue(perCPU, 5000, 9000)
	if first.fullNs != 1100 || second.fullNs != 4100 || first.packets != 5 {
		t.Errorf("full %d and %d, %d packets", first.fullNs, second.fullNs, first.packets)
	}
	if between := second.minus(&first); between.fullNs != 3000 || between.packets != 0 || between.stops != 0 {
		t.Errorf("between them %+v", between)
	}
}

func TestCPUs(t *testing.T) {
	parse := func(text string) []cpuTimes {
		cpus, err := parseCPUs(text)
		if err != nil {
			t.Fatal(err)
		}
		return cpus
	}
	before := parse("cpu  9 9 9 9 9 9 9 9 0 0\ncpu0 100 0 100 1000 0 0 0 0 0 0\ncpu1 100 0 100 1000 0 0 0 0 0 0\nintr 5\n")
	now := parse("cpu  9 9 9 9 9 9 9 9 0 0\ncpu0 110 0 110 1080 0 0 0 0 0 0\ncpu1 110 0 110 1010 0 10 40 20 0 0\nintr 5\n")
	r := event.CongestionReport{Missing: map[string]string{}}
	fillCPU(&r, before, now)
	c := r.CPU
	if c == nil || c.Count != 2 || c.Hottest != 1 || c.HottestInterrupts != 0.625 || c.HottestBusy != 0.875 || c.RestBusy != 0.2 || c.MeanInterrupts != 50.0/180 || c.Steal != 0.1 {
		t.Errorf("%+v", c)
	}
	fillCPU(&r, now, now)
	if r.Missing["cpu"] == "" {
		t.Error("no time has passed, and nothing says so")
	}
	if _, err := parseCPUs("cpu0 1 2 3 4 x 6 7 8 9 10\n"); err == nil {
		t.Error("x is no number")
	}
}

func TestListenCounters(t *testing.T) {
	c, err := parseListen("TcpExt: SyncookiesSent ListenOverflows ListenDrops\nTcpExt: 1 22 333\nIpExt: InNoRoutes\nIpExt: 0\n")
	if err != nil || c != (listenCounts{22, 333}) {
		t.Errorf("%+v, %v", c, err)
	}
	if _, err := parseListen("IpExt: InNoRoutes\nIpExt: 0\n"); err == nil {
		t.Error("they are not there, and nothing says so")
	}
}

func TestInterruptsOfQueues(t *testing.T) {
	text := func(a, b, c, d string) []kernel.Interrupt {
		return kernel.ParseInterrupts("  CPU0 CPU1\n 72: " + a + " xen-dyn -event vif0-q0-tx\n 73: " + b + " xen-dyn -event vif0-q0-rx\n 74: " +
			c + " xen-dyn -event vif0-q1-tx\n 75: " + d + " xen-dyn -event vif1-q1-tx\n")
	}
	r := event.CongestionReport{Queues: []event.CongestionQueue{{Number: 0}, {Number: 1}}, CPU: &event.CPULoad{}, Missing: map[string]string{}}
	fillInterrupts(&r, netdev.Interface{Name: "eth0", BusInfo: "vif-0"}, text("10 0", "5 0", "0 7", "9 9"), text("110 0", "15 0", "0 17", "90 90"))
	if *r.Queues[0].Interrupts != 110 || *r.Queues[1].Interrupts != 10 || *r.Total.Interrupts != 120 || r.CPU.InterruptsCPU != 0 || *r.CPU.InterruptShare != 110.0/120 {
		t.Errorf("queues %d and %d of %d, %v on CPU %d", *r.Queues[0].Interrupts, *r.Queues[1].Interrupts, *r.Total.Interrupts, *r.CPU.InterruptShare, r.CPU.InterruptsCPU)
	}
}

// 237 slots, 2 for a packet, 1 ms each: 118.5 thousand packets a second.
func TestRingBound(t *testing.T) {
	latency := time.Millisecond
	r := event.CongestionReport{Duration: 2 * time.Second, Queues: make([]event.CongestionQueue, 1), Total: event.CongestionQueue{Packets: 118_500, Slots: 237_000, MeanLatency: &latency}}
	bound(&r)
	if r.Bound == nil || r.Bound.PacketsPerSecond != 118_500 || r.Bound.Share != 0.5 {
		t.Errorf("%+v", r.Bound)
	}
}

func TestBaseline(t *testing.T) {
	b, err := ReadBaseline(strings.NewReader(`{"type":"summary"}
{"type":"congestion","ifname":"eth0","packets_per_second":100,"full_share":null,"tcp":{"accepts_per_second":50},"cpu":null}
{"type":"congestion","ifname":"eth0","packets_per_second":200,"full_share":null,"tcp":{"accepts_per_second":50},"cpu":null}
`))
	if err != nil {
		t.Fatal(err)
	}
	full, accepts := time.Second, uint64(19)
	r := event.CongestionReport{Name: "eth0", Duration: time.Second, Total: event.CongestionQueue{Packets: 100}, Queues: []event.CongestionQueue{{Full: &full}}, TCP: &event.Accepts{Accepts: &accepts}}
	r.Total.Full = &full
	got := make(map[string]event.Change)
	for _, c := range b.Changes(&r) {
		got[c.Key] = c
	}
	if c := got["packets_per_second"]; *c.Before != 200 || *c.Now != 100 {
		t.Errorf("%+v", c)
	}
	if c := got["full_share"]; c.Before != nil || *c.Now != 1 {
		t.Errorf("%+v", c)
	}
	if c := got["accepts_per_second"]; *c.Before != 50 || *c.Now != 19 {
		t.Errorf("%+v", c)
	}
	if c, there := got["steal_share"]; there {
		t.Errorf("%+v, which neither run has", c)
	}
	if b.Changes(&event.CongestionReport{Name: "eth1"}) != nil {
		t.Error("eth1 was not in the earlier run")
	}
	for _, text := range []string{"", `{"type":"summary"}`, "{"} {
		if _, err := ReadBaseline(strings.NewReader(text)); err == nil {
			t.Errorf("%q is a baseline", text)
		}
	}
}

// A namespace that has ended, or cannot be read, leaves the counts of the others.
func TestListenCountsOfOtherNamespaces(t *testing.T) {
	m := &Meter{hooks: &hooks{missing: make(map[string]string)}}
	snapshot := func(overflows, drops uint64) *Snapshot {
		return &Snapshot{
			tcp: map[uint32]tcpCounts{7: {}, 8: {}}, listen: map[uint32]listenCounts{7: {overflows: overflows, drops: drops}},
			missing: map[string]string{"listen": "namespace 8 not found"},
		}
	}
	before, now := snapshot(3, 4), snapshot(5, 9)
	for netns, want := range map[uint32]bool{7: true, 8: false} {
		r := event.CongestionReport{NetNS: netns, Missing: make(map[string]string)}
		m.connections(&r, before, now)
		if known := r.TCP.Overflows != nil && r.TCP.Drops != nil; known != want {
			t.Errorf("namespace %d: known %v, want %v", netns, known, want)
		} else if known && (*r.TCP.Overflows != 2 || *r.TCP.Drops != 5) {
			t.Errorf("%d overflows and %d drops, want 2 and 5", *r.TCP.Overflows, *r.TCP.Drops)
		}
	}
}
