package prometheus

import (
	"errors"
	"net"
	"net/url"
	"os"
	"testing"
	"time"

	"xentrace/test/need"
)

// An exporter that is killed and restarted again and again while its interface sends changes no
// alert but that of a target that is down, whether Prometheus notices the gap or not.
func TestAlertsOfAKilledExporter(t *testing.T) {
	need.Asked(t, "XENTRACE_ALERTS", "make test-alerts")
	exporter := os.Getenv("XENTRACE_ALERTS") // its path
	l := newLiveLab(t)
	l.export(exporter)
	l.monitor(interval)
	l.traffic()
	l.scraped()

	const down, restarts = "XentraceDown", 4
	for range restarts {
		l.kill()
		l.export(exporter)
		l.scraped()
	}
	for range 2 {
		before := len(l.notified(down))
		l.kill()
		l.eventually(down+" is notified", func() bool { return last(l.notified(down), before) == "firing" })
		l.export(exporter)
		l.scraped()
		l.eventually(down+" is resolved", func() bool { return last(l.notified(down), before) == "resolved" })
	}
	// 10 s are the 5 minutes that most rules look back.
	l.eventually("the exporter is up for 10 s", func() bool { return l.value(`min_over_time(up{job="xentrace"}[10s])`) == 1 })
	if all := l.all(); len(all) != 1 || len(all[down]) < 4 {
		t.Errorf("notified: %v; want %s alone, at least twice", all, down)
	}
	others, err := ask(l.client, server, "query", url.Values{"query": {`count by (alertname) (count_over_time(ALERTS{alertname!="` + down + `"}[5m]))`}})
	must(t, err)
	for _, other := range others {
		t.Errorf("%s was pending or firing", other.Metric["alertname"])
	}
}

// last is the last of the states after the first n, if there is one.
func last(states []string, n int) string {
	if len(states) <= n {
		return ""
	}
	return states[len(states)-1]
}

// kill kills the exporter.
func (l *liveLab) kill() {
	l.t.Helper()
	must(l.t, l.exporter.Process.Kill())
	_ = l.exporter.Wait() // killed
	l.client.CloseIdleConnections()
}

// scraped waits until Prometheus has scraped packets that this exporter has counted.
func (l *liveLab) scraped() {
	l.t.Helper()
	const packets = `xentrace_packets_total{device="near"}`
	ready := float64(time.Now().UnixMilli()) / 1000
	l.eventually("packets are scraped", func() bool { return l.value("timestamp("+packets+")") >= ready && l.value(packets) > 0 })
}

// traffic sends a datagram every millisecond to the far end, which reads them, until the end of
// the test.
func (l *liveLab) traffic() {
	l.t.Helper()
	var sink net.PacketConn
	must(l.t, l.far.Namespace.Do(func() (err error) {
		sink, err = net.ListenPacket("udp", "192.0.2.2:0")
		return err
	}))
	conn, err := l.dial(l.t.Context(), "udp", sink.LocalAddr().String())
	must(l.t, err)
	go func() {
		buffer := make([]byte, 100)
		for err := error(nil); err == nil; _, _, err = sink.ReadFrom(buffer) {
		}
	}()
	ended := make(chan error)
	go func() {
		var err error
		for ; err == nil; time.Sleep(time.Millisecond) {
			_, err = conn.Write(make([]byte, 100))
		}
		ended <- err
	}()
	l.t.Cleanup(func() {
		_ = conn.Close()
		if err := <-ended; !errors.Is(err, net.ErrClosed) {
			l.t.Error(err)
		}
		_ = sink.Close()
	})
}
