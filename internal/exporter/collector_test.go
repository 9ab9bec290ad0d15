package exporter

import (
	"context"
	"errors"
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	dto "github.com/prometheus/client_model/go"

	"xentrace/internal/event"
	"xentrace/internal/exporter/feed"
)

// A machine is a source whose counts the test sets.
type machine struct {
	totals  event.Totals
	err     error
	reports []event.CongestionReport
	flows   event.FlowCounts
	stalled map[event.Device]int
}

func (m *machine) Counts() event.FlowCounts      { return m.flows }
func (m *machine) Stalled() map[event.Device]int { return m.stalled }

func (m *machine) source() *feed.Source {
	return &feed.Source{
		Backend: event.Kprobe, Flows: m,
		Totals:     func(context.Context) (event.Totals, error) { return m.totals, m.err },
		Hooks:      func() (int, int) { return 2, 1 },
		Congestion: func(context.Context) ([]event.CongestionReport, error) { return m.reports, m.err },
	}
}

// everything is measured.
var everything = feed.Options{Drops: event.DropsAll, Rejected: true, Congestion: true, Recording: true, Version: "1.0", Commit: "abc"}

func collecting(o feed.Options, m *machine) *collector {
	c := newCollector(o)
	c.source.Store(m.source())
	return c
}

// whole is an interface of which everything is known.
func whole(index int, name string) event.InterfaceTotals {
	n := life(index, name, 0, false)
	n.XDP = true
	n.Rejected, n.TxDroppedDelta, n.Stuck, n.Reasons = new(uint64), new(uint64), new(time.Duration), map[string]uint64{}
	return n
}

func congested(index int, name string) event.CongestionReport {
	none := uint64(0)
	var full time.Duration
	return event.CongestionReport{
		Name: name, Index: index, NetNS: 7,
		Total: event.CongestionQueue{Full: &full, Occupancy: make(event.Log2, 10), Latency: make(event.Log2, 26)},
		TCP:   &event.Accepts{Accepts: &none, Accept: make(event.Log2, 26), Overflows: &none, Drops: &none},
	}
}

// gather returns every series and its value, a histogram as its buckets, sum and count. It
// fails where a registry would: for series that come twice or are of two kinds, and labels that
// are not in order.
func gather(t *testing.T, c *collector) map[string]float64 {
	t.Helper()
	families, err := prometheus.Gatherers{c}.Gather()
	if err != nil {
		t.Fatal(err)
	}
	all := make(map[string]float64)
	for _, f := range families {
		for _, m := range f.Metric {
			add(all, f.GetName(), m)
		}
	}
	return all
}

func add(all map[string]float64, name string, m *dto.Metric) {
	var labels []string
	for _, l := range m.Label {
		labels = append(labels, l.GetName()+"="+l.GetValue())
	}
	with := func(suffix string, more ...string) string {
		return name + suffix + "{" + strings.Join(append(labels, more...), ",") + "}"
	}
	switch {
	case m.Counter != nil:
		all[with("")] = m.Counter.GetValue()
	case m.Gauge != nil:
		all[with("")] = m.Gauge.GetValue()
	case m.Histogram != nil:
		for _, b := range m.Histogram.Bucket {
			all[with("_bucket", fmt.Sprintf("le=%g", b.GetUpperBound()))] = float64(b.GetCumulativeCount())
		}
		all[with("_bucket", "le=+Inf")] = float64(m.Histogram.GetSampleCount())
		all[with("_count")] = float64(m.Histogram.GetSampleCount())
		all[with("_sum")] = m.Histogram.GetSampleSum()
	}
}

// Every series of an interface is there at zero before anything happens, and the same ones
// after everything did.
func TestSeriesExistFromTheStart(t *testing.T) {
	m := &machine{totals: reading(1, whole(2, "eth0")), reports: []event.CongestionReport{congested(2, "eth0")}}
	m.totals.Lost.Recursion, m.totals.Lost.Missed = new(uint64), new(uint64)
	c := collecting(everything, m)
	before := gather(t, c)
	for series, value := range before {
		if strings.Contains(series, "device=eth0") && value > 0 && !strings.HasPrefix(series, "xentrace_interface_present") {
			t.Errorf("%s is %g at the start", series, value)
		}
	}
	n := whole(2, "eth0")
	n.Packets, n.Bytes, n.Dropped, n.Linearized, n.Bounced = 1000, 1<<20, 10, 3, 4
	for _, cause := range event.Causes() {
		n.Causes[cause] = 1
	}
	n.Slots[18], n.Slots[40] = 900, 100
	n.Elsewhere, n.Reasons = 9, map[string]uint64{"NETFILTER_DROP": 4, "QDISC_DROP_FLOW_LIMIT": 2, "NO_SUCH_REASON": 3}
	n.XDPPackets, n.XDPDropped = 77, 6
	*n.Rejected, *n.TxDroppedDelta, *n.Stuck = 5, 11, 1500*time.Millisecond
	m.totals = reading(2, n)
	m.totals.Lost = event.Lost{Ring: 1, Recursion: new(uint64), Missed: new(uint64)}
	m.flows, m.stalled = event.FlowCounts{Lost: 6}, map[event.Device]int{n.Device: 2}
	c.stall(n.Device)
	c.notice(&event.Notice{ID: event.NoticeRecordingPaused})
	after := gather(t, c)
	for series := range after {
		if _, was := before[series]; !was {
			t.Errorf("%s was not there before", series)
		}
	}
	for series, want := range map[string]float64{
		"xentrace_packets_total{device=eth0,netns=7}":                                         1000,
		"xentrace_bytes_total{device=eth0,netns=7}":                                           1 << 20,
		"xentrace_dropped_packets_total{cause=sg_off,device=eth0,netns=7}":                    1,
		"xentrace_linearized_packets_total{device=eth0,netns=7}":                              3,
		"xentrace_bounced_packets_total{device=eth0,netns=7}":                                 4,
		"xentrace_xdp_packets_total{device=eth0,netns=7}":                                     77,
		"xentrace_xdp_dropped_packets_total{device=eth0,netns=7}":                             6,
		"xentrace_rejected_packets_total{device=eth0,netns=7}":                                5,
		"xentrace_elsewhere_dropped_packets_total{device=eth0,netns=7,reason=NETFILTER_DROP}": 4,
		"xentrace_elsewhere_dropped_packets_total{device=eth0,netns=7,reason=QDISC_DROP}":     2,
		"xentrace_elsewhere_dropped_packets_total{device=eth0,netns=7,reason=other}":          3,
		"xentrace_slots_bucket{device=eth0,netns=7,le=18}":                                    900,
		"xentrace_slots_count{device=eth0,netns=7}":                                           1000,
		"xentrace_device_tx_dropped_total{device=eth0,netns=7}":                               11,
		"xentrace_queue_stuck_seconds_total{device=eth0,netns=7}":                             1.5,
		"xentrace_stalled_connections{device=eth0,netns=7}":                                   2,
		"xentrace_stalls_total{device=eth0,netns=7}":                                          1,
		"xentrace_interface_present{device=eth0,netns=7}":                                     1,
		"xentrace_lost_records_total{reason=ring}":                                            1,
		"xentrace_lost_records_total{reason=flows}":                                           6,
		"xentrace_notices_total{id=recording_paused}":                                         1,
		"xentrace_recording_paused{}":                                                         1,
		"xentrace_hooks_attached{}":                                                           2,
		"xentrace_hooks_missing{}":                                                            1,
		"xentrace_packets_total{device=(others),netns=}":                                      0,
	} {
		if got, there := after[series]; !there || got != want {
			t.Errorf("%s is %g (there: %v), want %g", series, got, there, want)
		}
	}
}

// A packet that is dropped while counts are read may be among the reasons and not yet in the sum.
func TestDropsElsewhereNeverGoBack(t *testing.T) {
	dropped := func(known uint64) event.Totals {
		n := whole(2, "eth0")
		n.Elsewhere, n.Reasons = 15, map[string]uint64{"NETFILTER_DROP": known, "NO_SUCH_REASON": 5}
		return reading(1, n)
	}
	m := &machine{totals: dropped(10)}
	c := collecting(everything, m)
	const known, other = "xentrace_elsewhere_dropped_packets_total{device=eth0,netns=7,reason=NETFILTER_DROP}", "xentrace_elsewhere_dropped_packets_total{device=eth0,netns=7,reason=other}"
	for _, want := range []float64{10, 11} {
		m.totals = dropped(uint64(want))
		if series := gather(t, c); series[known] != want || series[other] != 5 {
			t.Errorf("%g and %g others, want %g and 5", series[known], series[other], want)
		}
	}
	kernel := life(3, "eth1", 0, false) // one without reasons
	kernel.Elsewhere = 4
	m.totals = reading(2, kernel)
	if got := gather(t, c)["xentrace_elsewhere_dropped_packets_total{device=eth1,netns=7,reason=other}"]; got != 4 {
		t.Errorf("%g drops without a reason, want 4", got)
	}
}

// The limits hold for what has the most series, and nothing is lost to them but names.
func TestSeriesAreLimited(t *testing.T) {
	const interfaces = 100
	m := &machine{}
	var lives []event.InterfaceTotals
	c := newCollector(everything)
	for i := range interfaces {
		n := whole(i+2, fmt.Sprintf("eth%d", i))
		n.Packets, n.NetNS = 10, uint32(i+1)
		lives = append(lives, n)
		report := congested(n.Index, n.Name)
		report.NetNS = n.NetNS
		m.reports = append(m.reports, report)
		for id := range 11 {
			c.checks.add([]event.Finding{{ID: event.FindingID(fmt.Sprint(id)), Interface: n.Name, NetNS: n.NetNS}}, start)
		}
	}
	yes := true
	c.checks.linearizes = &yes
	m.totals = reading(1, lives...)
	c.source.Store(m.source())
	series := gather(t, c)
	each, all, sum := map[string]int{}, 0, 0.0
	device := regexp.MustCompile(`device=([^,}]+)`)
	for s, value := range series {
		if found := device.FindStringSubmatch(s); found != nil {
			each[found[1]]++
			all++
		} else if strings.Contains(s, "netns=") {
			all++
		}
		if strings.HasPrefix(s, "xentrace_packets_total") {
			sum += value
		}
	}
	if all > 2000 || all < 1500 {
		t.Errorf("%d series of interfaces, want at most 2000 and not much less", all)
	}
	for name, n := range each {
		if n > 150 {
			t.Errorf("%s has %d series, want at most 150", name, n)
		}
	}
	if got := series["xentrace_interfaces_without_series{}"]; got != float64(interfaces-len(each)+1) || got == 0 {
		t.Errorf("%g interfaces without series; %d have some", got, len(each)-1)
	}
	if series["xentrace_series_suppressed{}"] == 0 {
		t.Error("no series is counted as suppressed")
	}
	if sum != interfaces*10 {
		t.Errorf("%g packets in all, want %d", sum, interfaces*10)
	}
}

// What is reserved for an interface is what it has at most.
func TestSeriesOfAnInterface(t *testing.T) {
	for name, o := range map[string]feed.Options{"everything": everything, "little": {}} {
		t.Run(name, func(t *testing.T) {
			m := &machine{totals: reading(1, whole(2, "eth0"))}
			if o.Congestion {
				m.reports = []event.CongestionReport{congested(2, "eth0")}
			}
			if !o.Rejected {
				m.totals.Interfaces[0].Rejected = nil
			}
			c := collecting(o, m)
			yes := true
			c.checks.linearizes = &yes
			n := 0
			for s := range gather(t, c) {
				if strings.Contains(s, "netns=7") {
					n++
				}
			}
			if want := c.seriesEach() - 11; n != want { // findings
				t.Errorf("%d series, %d are reserved", n, want)
			}
		})
	}
}

func TestNamesAndHelp(t *testing.T) {
	m := &machine{totals: reading(1, whole(2, "eth0")), reports: []event.CongestionReport{congested(2, "eth0")}}
	c := collecting(everything, m)
	c.found([]event.Finding{{ID: "mtu", Interface: "eth0", NetNS: 7}}, start)
	problems, err := testutil.GatherAndLint(c)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		t.Errorf("%s: %s", p.Metric, p.Text)
	}
	// docs/metrics.md has each of them, and no other.
	page, err := os.ReadFile("../../docs/metrics.md")
	if err != nil {
		t.Fatal(err)
	}
	documented := make(map[string]bool)
	for _, row := range regexp.MustCompile("(?m)^\\| `(xentrace_[a-z_]+)`").FindAllStringSubmatch(string(page), -1) {
		documented[row[1]] = true
	}
	for _, f := range c.families.all {
		if !documented[f.name] {
			t.Errorf("%s is not in docs/metrics.md", f.name)
		}
		delete(documented, f.name)
	}
	for name := range documented {
		t.Errorf("docs/metrics.md has %s, which does not exist", name)
	}
}

// Counters and histograms have the time they began.
func TestBeginningsAreServed(t *testing.T) {
	c := collecting(everything, &machine{totals: reading(1, whole(2, "eth0")), reports: []event.CongestionReport{congested(2, "eth0")}})
	families, err := c.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		for _, m := range f.Metric {
			if m.Counter != nil && m.Counter.CreatedTimestamp == nil || m.Histogram != nil && m.Histogram.CreatedTimestamp == nil {
				t.Errorf("%s has no beginning", f.GetName())
			}
		}
	}
}

// Counts that cannot be read are those of the scrape before, and that is counted.
func TestCountsThatCannotBeRead(t *testing.T) {
	m := &machine{totals: reading(1, life(2, "eth0", 5, false))}
	c := collecting(feed.Options{}, m)
	gather(t, c)
	m.totals, m.err = reading(2, life(2, "eth0", 9, false)), errors.New("no")
	series := gather(t, c)
	if series["xentrace_packets_total{device=eth0,netns=7}"] != 5 || series["xentrace_collect_errors_total{}"] != 1 {
		t.Errorf("%g packets, %g errors, want 5 and 1", series["xentrace_packets_total{device=eth0,netns=7}"], series["xentrace_collect_errors_total{}"])
	}
}

// What --congestion measures is no condition for the counts.
func TestCongestionThatCannotBeRead(t *testing.T) {
	m := &machine{totals: reading(1, life(2, "eth0", 5, false))}
	c := newCollector(feed.Options{Congestion: true})
	source := m.source()
	source.Congestion = func(context.Context) ([]event.CongestionReport, error) { return nil, errors.New("no") }
	c.source.Store(source)
	series := gather(t, c)
	if series["xentrace_packets_total{device=eth0,netns=7}"] != 5 || series["xentrace_collect_errors_total{}"] != 1 {
		t.Errorf("%g packets, %g errors, want 5 and 1", series["xentrace_packets_total{device=eth0,netns=7}"], series["xentrace_collect_errors_total{}"])
	}
}

// A reading that does not end delays nobody for good, and none begins once it is closed.
func TestReadingThatDoesNotEnd(t *testing.T) {
	c := newCollector(feed.Options{})
	c.patience = time.Millisecond
	m := &machine{}
	source := m.source()
	source.Totals = func(ctx context.Context) (event.Totals, error) {
		<-ctx.Done()
		return event.Totals{}, ctx.Err()
	}
	c.source.Store(source)
	for range 2 {
		if err := c.read(t.Context()); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("read: %v", err)
		}
	}
	c.close()
	if err := c.read(t.Context()); err != nil {
		t.Errorf("read after close: %v", err)
	}
}
