package prometheus

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"xentrace/test/need"
)

// tunnelAddress leads to the guest's exporter, in the namespace of the near end.
const tunnelAddress = "127.0.0.1:10128"

// guestScrapes is how often both exporters are scraped: the guest is emulated.
const guestScrapes = 2 * time.Second

// Alerts of a Xen guest and of a veth host, in one Prometheus: a connection of the guest
// stalls, and its driver drops packets while scatter-gather is off; both alerts fire, reach
// Alertmanager and resolve, and counters are the driver's. With XENTRACE_CAPTURE=FILE what was
// scraped from the guest is written there, for the tests of the dashboard.
func TestAlertsOfAGuest(t *testing.T) {
	need.Asked(t, "XENTRACE_GUEST", "make test-xen-alerts")
	g := guest{t: t}
	if _, err := fmt.Sscan(os.Getenv("XENTRACE_GUEST"), &g.metrics, &g.control); err != nil {
		t.Fatal(err)
	}
	defer g.ask("end")
	l := newLiveLab(t)
	l.export(os.Getenv("XENTRACE_ALERTS"))
	l.lead(tunnelAddress, g.metrics)
	l.monitor(guestScrapes, fmt.Sprintf("{targets: ['%s'], labels: {instance: guest}}", tunnelAddress))
	conn := l.connect()
	l.eventually("Prometheus has scraped both", func() bool { return l.value(`sum(up{job="xentrace"})`) == 2 })
	if got := l.value(`xentrace_driver_linearizes{instance="guest"}`); got != 0 {
		t.Errorf("xentrace_driver_linearizes of a driver that drops is %g", got)
	}

	ofGuest := []string{"firing", "resolved"}
	lost := g.ask("stall")
	t.Logf("a connection of the guest is stalled after %s drops", strings.TrimSpace(lost))
	l.eventually(stalled+" of the guest is notified", func() bool { return slices.Equal(l.notified(stalled+" guest"), ofGuest[:1]) })
	l.fires(stalled, "xentrace_stalled_connections", `instance="guest"`)
	g.ask("close")
	l.eventually(stalled+" of the guest is resolved", func() bool { return slices.Equal(l.notified(stalled+" guest"), ofGuest) })

	const dropped = "XentracePacketsDropped"
	var without float64
	_, err := fmt.Sscan(g.ask("sg off"), &without)
	must(t, err)
	l.eventually(dropped+" is notified", func() bool { return slices.Equal(l.notified(dropped+" guest sg_off"), ofGuest[:1]) })
	l.fires(dropped, "xentrace_dropped_packets_total", `instance="guest",cause="sg_off"`)
	l.compareGuest(&g, without)
	if path := os.Getenv("XENTRACE_CAPTURE"); path != "" {
		l.capture(path, "guest")
	}
	l.eventually(dropped+" is resolved", func() bool { return slices.Equal(l.notified(dropped+" guest sg_off"), ofGuest) })

	l.stallAndRecover(conn)
	t.Logf("notified: %v", l.all())
}

// guest is the guest of test/xen/alerts.
type guest struct {
	t                *testing.T
	metrics, control string // addresses on this machine
}

// ask has the guest do something, and returns its answer.
func (g *guest) ask(what string) string {
	g.t.Helper()
	conn, err := net.Dial("tcp", g.control)
	must(g.t, err)
	defer conn.Close()
	_, err = fmt.Fprintln(conn, what)
	must(g.t, err)
	answer, err := bufio.NewReader(conn).ReadString('\n')
	must(g.t, err)
	return answer
}

// lead carries connections to an address of the near end to an address of this machine.
func (l *liveLab) lead(from, to string) {
	l.t.Helper()
	var listener net.Listener
	must(l.t, l.near.Namespace.Do(func() (err error) {
		listener, err = net.Listen("tcp", from)
		return err
	}))
	l.t.Cleanup(func() { _ = listener.Close() })
	go func() {
		for {
			near, err := listener.Accept()
			if err != nil {
				return
			}
			far, err := net.Dial("tcp", to)
			if err != nil {
				_ = near.Close()
				continue
			}
			for _, pair := range [][2]net.Conn{{near, far}, {far, near}} {
				go func() {
					_, _ = io.Copy(pair[0], pair[1])
					_ = pair[0].Close()
				}()
			}
		}
	}()
}

// compareGuest compares what Prometheus has scraped with the driver's counters.
func (l *liveLab) compareGuest(g *guest, withoutScatterGather float64) {
	l.t.Helper()
	read := func() (sent, dropped float64) {
		_, err := fmt.Sscan(g.ask("counters"), &sent, &dropped)
		must(l.t, err)
		return sent, dropped
	}
	sentBefore, dropped := read()
	ofGuest := func(metric string) float64 { return l.value(`sum(` + metric + `{instance="guest"})`) }
	l.eventually("the last drop is scraped", func() bool { return ofGuest("xentrace_dropped_packets_total") == dropped })
	time.Sleep(2 * guestScrapes) // until both are of one scrape after the last drop
	packets := ofGuest("xentrace_packets_total")
	sentAfter, again := read()
	if again != dropped || ofGuest("xentrace_dropped_packets_total") != dropped || ofGuest("xentrace_device_tx_dropped_total") != dropped {
		l.t.Errorf("%g packets dropped by the driver, then %g; xentrace %g, tx_dropped as scraped %g",
			dropped, again, ofGuest("xentrace_dropped_packets_total"), ofGuest("xentrace_device_tx_dropped_total"))
	}
	// What the guest sent meanwhile are answers to scrapes.
	if got := packets - dropped; got < sentBefore || got > sentAfter {
		l.t.Errorf("%g packets counted and not dropped, the driver sent %g to %g", got, sentBefore, sentAfter)
	}
	if got := l.value(`sum(xentrace_dropped_packets_total{instance="guest",cause="sg_off"})`); got != withoutScatterGather {
		l.t.Errorf("%g packets dropped for sg_off, the driver dropped %g", got, withoutScatterGather)
	}
	l.t.Logf("the guest's driver: %g packets dropped, %g of them for scatter-gather; %g packets counted, %g to %g sent", dropped, withoutScatterGather, packets, sentBefore, sentAfter)
}
