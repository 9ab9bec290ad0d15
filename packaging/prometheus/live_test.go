package prometheus

import (
	"fmt"
	"math"
	"net"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"

	"xentrace/test/need"
)

// A stalled connection of a real interface becomes an alert of a real Alertmanager, and
// resolves; a killed exporter is reported as down, and changes no other alert. Counters are
// the interface's.
func TestAlertsOfALiveExporter(t *testing.T) {
	need.Asked(t, "XENTRACE_ALERTS", "make test-alerts")
	exporter := os.Getenv("XENTRACE_ALERTS") // its path
	l := newLiveLab(t)
	before, droppedBefore, err := l.near.Transmitted()
	must(t, err)
	l.export(exporter)
	l.monitor(interval)
	conn := l.connect()
	l.eventually("Prometheus has scraped it", func() bool { return l.value(`up{job="xentrace"}`) == 1 })

	l.stallAndRecover(conn)
	l.compare(before, droppedBefore)

	const down = "XentraceDown"
	must(t, l.exporter.Process.Kill())
	l.eventually(down+" is notified", func() bool { return slices.Contains(l.notified(down), "firing") })
	l.export(exporter)
	l.eventually(down+" is resolved", func() bool { return slices.Equal(l.notified(down), []string{"firing", "resolved"}) })
	for alert, states := range l.all() {
		if len(states) != 2 || alert != stalled && alert != down {
			t.Errorf("%s: %v", alert, states)
		}
	}
}

const stalled = "XentraceConnectionsStalled"

// stallAndRecover has the near driver drop a segment of a connection until the alert is
// notified, and then send it.
func (l *liveLab) stallAndRecover(conn net.Conn) {
	l.t.Helper()
	const size = 1000 // of a segment that fits into the near interface's MTU, not into the far one's
	l.narrow(size)
	_, err := conn.Write(make([]byte, size))
	must(l.t, err)
	l.datagrams(20, size)
	l.eventually(stalled+" is notified", func() bool { return slices.Equal(l.notified(stalled), []string{"firing"}) })
	l.fires(stalled, "xentrace_stalled_connections", `instance="`+exporterAddress+`"`)
	l.narrow(1500)
	l.eventually(stalled+" is resolved", func() bool { return slices.Equal(l.notified(stalled), []string{"firing", "resolved"}) })
}

// compare compares what Prometheus has scraped, once all is, with the interface's own counters.
func (l *liveLab) compare(sentBefore, droppedBefore uint64) {
	l.t.Helper()
	sent, dropped, err := l.near.Transmitted()
	must(l.t, err)
	sent, dropped = sent-sentBefore, dropped-droppedBefore
	packets := `xentrace_packets_total{device="near"}`
	l.eventually("the last packet is scraped", func() bool { return l.value(packets) == float64(sent+dropped) })
	if dropped < 22 {
		l.t.Errorf("%d packets dropped, want 20 and a segment at least twice", dropped)
	}
	for metric, want := range map[string]uint64{
		`sum(xentrace_elsewhere_dropped_packets_total{device="near"})`: dropped, `xentrace_device_tx_dropped_total{device="near"}`: dropped,
		`xentrace_slots_count{device="near"}`: sent + dropped, `xentrace_stalls_total{device="near"}`: 1,
		`sum(xentrace_lost_records_total)`: 0, `xentrace_unmonitored_seconds_total`: 0, `xentrace_collect_errors_total`: 0,
	} {
		if got := l.value(metric); got != float64(want) {
			l.t.Errorf("%s is %g, want the interface's %d", metric, got, want)
		}
	}
}

// datagrams sends datagrams of that many bytes to the far end, where nobody reads them.
func (l *liveLab) datagrams(n, size int) {
	l.t.Helper()
	for range n {
		conn, err := l.dial(l.t.Context(), "udp", "192.0.2.2:9")
		must(l.t, err)
		_, err = conn.Write(make([]byte, size))
		must(l.t, err)
		must(l.t, conn.Close())
	}
}

// value is that of a query with one result; -1 if it has none.
func (l *liveLab) value(expr string) float64 {
	l.t.Helper()
	result, err := ask(l.client, server, "query", url.Values{"query": {expr}})
	must(l.t, err)
	if len(result) != 1 {
		return -1
	}
	n, err := strconv.ParseFloat(result[0].last(), 64)
	must(l.t, err)
	return n
}

// fires checks that an alert fires within two evaluation intervals after its cause was
// scraped, by the times that Prometheus gave both. Both have those labels.
func (l *liveLab) fires(alert, cause, labels string) {
	l.t.Helper()
	scraped := l.first(cause + "{" + labels + "}")
	fired := l.first(fmt.Sprintf(`ALERTS{alertname=%q,alertstate="firing",%s}`, alert, labels))
	l.t.Logf("%s (%s) fires %.3f s after its cause was scraped", alert, labels, fired-scraped)
	if took := fired - scraped; took < 0 || took > 2*interval.Seconds() {
		l.t.Errorf("%s fires %.3f s after its cause was scraped, want at most 2 evaluations", alert, took)
	}
}

// first returns when a series was not zero for the first time, in seconds.
func (l *liveLab) first(series string) float64 {
	l.t.Helper()
	result, err := ask(l.client, server, "query", url.Values{"query": {series + "[2m]"}})
	must(l.t, err)
	first := math.Inf(1)
	for _, s := range result {
		for _, pair := range s.Values {
			if at, is := pair[0].(float64); is && pair[1] != "0" {
				first = min(first, at)
			}
		}
	}
	return first
}

// capture writes what was scraped from an instance.
func (l *liveLab) capture(path, instance string) {
	l.t.Helper()
	wanted := `{instance="` + instance + `",__name__=~"up|xentrace_.*|process_cpu_seconds_total|process_resident_memory_bytes"}[2m]`
	result, err := ask(l.client, server, "query", url.Values{"query": {wanted}})
	must(l.t, err)
	must(l.t, os.WriteFile(path, []byte(openMetrics(result)), 0o644))
}

// openMetrics is every second sample of series, without types.
func openMetrics(result []sample) string {
	const every = 2
	var series []string
	for _, s := range result {
		name, labels := s.Metric["__name__"], make([]string, 0, len(s.Metric))
		for key, value := range s.Metric {
			if key != "__name__" {
				labels = append(labels, fmt.Sprintf("%s=%q", key, value))
			}
		}
		slices.Sort(labels)
		var text strings.Builder
		for i := (len(s.Values) - 1) % every; i < len(s.Values); i += every {
			fmt.Fprintf(&text, "%s{%s} %s %.3f\n", name, strings.Join(labels, ","), s.Values[i][1], s.Values[i][0])
		}
		series = append(series, text.String())
	}
	slices.Sort(series) // the series of a name follow each other
	return strings.Join(series, "") + "# EOF\n"
}
