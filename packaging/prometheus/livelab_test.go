package prometheus

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"xentrace/internal/demo/network"
	"xentrace/test/need"
)

// Addresses in the namespace of the near end.
const (
	exporterAddress     = "127.0.0.1:10118"
	prometheusAddress   = "127.0.0.1:9090"
	alertmanagerAddress = "127.0.0.1:9093"
	hookAddress         = "127.0.0.1:9999"
	server              = "http://" + prometheusAddress
)

// scale is what durations of the rules are divided by: 5 minutes are 10 s. Scrapes and
// evaluations come every second.
const (
	scale    = 30
	interval = time.Second
)

// A liveLab is a veth pair in namespaces of its own; at its near end are an exporter that
// watches it, Prometheus, Alertmanager and whom it notifies.
type liveLab struct {
	t         *testing.T
	near, far network.End
	directory string
	exporter  *exec.Cmd
	client    *http.Client

	mu     sync.Mutex
	alerts map[string][]string // states, by name, as Alertmanager notified of them
}

func newLiveLab(t *testing.T) *liveLab {
	t.Helper()
	need.Root(t, "to attach")
	l := &liveLab{t: t, directory: t.TempDir(), alerts: make(map[string][]string)}
	for name, end := range map[string]*network.End{"near": &l.near, "far": &l.far} {
		namespace, err := network.NewNamespace()
		must(t, err)
		t.Cleanup(func() { _ = namespace.Close() })
		*end = network.End{Namespace: namespace, Name: name}
	}
	l.near.Addresses = []netip.Prefix{netip.MustParsePrefix("192.0.2.1/24")}
	l.far.Addresses = []netip.Prefix{netip.MustParsePrefix("192.0.2.2/24")}
	must(t, network.Join(l.near, l.far, 1500))
	must(t, l.near.Namespace.Do(queue))
	l.client = &http.Client{Transport: &http.Transport{DialContext: l.dial}}
	t.Cleanup(l.client.CloseIdleConnections)
	return l
}

// queue puts one before the near interface: TCP is not reported what the driver drops, as
// with xen-netfront.
func queue() error {
	link, err := netlink.LinkByName("near")
	if err != nil {
		return err
	}
	return netlink.QdiscReplace(&netlink.Tbf{
		QdiscAttrs: netlink.QdiscAttrs{LinkIndex: link.Attrs().Index, Handle: netlink.MakeHandle(1, 0), Parent: netlink.HANDLE_ROOT},
		Rate:       1 << 30, Buffer: 1 << 20, Limit: 1 << 20,
	})
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// dial connects from the near end.
func (l *liveLab) dial(_ context.Context, kind, address string) (conn net.Conn, err error) {
	err = l.near.Namespace.Do(func() error {
		conn, err = net.Dial(kind, address)
		return err
	})
	return conn, err
}

// run starts a program at the near end until the end of the test.
func (l *liveLab) run(name string, args ...string) *exec.Cmd {
	l.t.Helper()
	log, err := os.Create(filepath.Join(l.directory, filepath.Base(name)+".log"))
	must(l.t, err)
	l.t.Cleanup(func() {
		if l.t.Failed() {
			text, _ := os.ReadFile(log.Name())
			l.t.Logf("%s: %s", name, text)
		}
	})
	defer log.Close()
	c := exec.Command(name, args...)
	c.Stdout, c.Stderr = log, log
	must(l.t, l.near.Namespace.Do(c.Start))
	l.t.Cleanup(func() {
		_ = c.Process.Signal(syscall.SIGTERM)
		_ = c.Wait()
	})
	return c
}

// export starts the exporter, and waits until it is attached.
func (l *liveLab) export(program string) {
	l.t.Helper()
	l.exporter = l.run(program, "-i", "near", "--backend", "tracepoint", "--drops", "all", "--record", filepath.Join(l.directory, "recording"))
	l.eventually("the exporter is ready", func() bool { return l.up("http://" + exporterAddress + "/-/ready") })
}

// monitor starts Prometheus, with the rules that the package has, and Alertmanager. It scrapes
// the exporter of the near end and more targets of a configuration.
func (l *liveLab) monitor(scrapes time.Duration, more ...string) {
	l.t.Helper()
	l.receive()
	l.put("rules.yml", scaled(read(l.t, rules)))
	l.put("prometheus.yml", fmt.Sprintf(`
global: {scrape_interval: %[1]s, scrape_timeout: %[1]s, evaluation_interval: 1s}
rule_files: [rules.yml]
alerting: {alertmanagers: [{static_configs: [{targets: ['%s']}]}]}
scrape_configs: [{job_name: xentrace, static_configs: [%s]}]
`, scrapes, alertmanagerAddress, strings.Join(append(more, fmt.Sprintf("{targets: ['%s']}", exporterAddress)), ", ")))
	l.put("alertmanager.yml", fmt.Sprintf(`
route: {receiver: hook, group_by: [alertname], group_wait: 1s, group_interval: 1s, repeat_interval: 1h}
receivers: [{name: hook, webhook_configs: [{url: 'http://%s', send_resolved: true}]}]
`, hookAddress))
	// Debian's Alertmanager has its templates in /usr/share and is not installed.
	const overlaid = `mount -t overlay overlay -o "lowerdir=$0:/usr/share" /usr/share && exec "$@"`
	l.run("unshare", "--mount", "sh", "-c", overlaid, program(l.t, "share"), program(l.t, "prometheus-alertmanager"), "--config.file="+l.path("alertmanager.yml"), "--storage.path="+l.path("alertmanager"),
		"--web.listen-address="+alertmanagerAddress, "--cluster.listen-address=")
	l.eventually("Alertmanager is ready", func() bool { return l.up("http://" + alertmanagerAddress + "/-/ready") })
	l.run(program(l.t, "prometheus"), "--config.file="+l.path("prometheus.yml"), "--storage.tsdb.path="+l.path("tsdb"), "--web.listen-address="+prometheusAddress)
	l.eventually("Prometheus is ready", func() bool { return l.up(server + "/-/ready") })
}

func (l *liveLab) path(name string) string { return filepath.Join(l.directory, name) }

func (l *liveLab) put(name, text string) {
	l.t.Helper()
	must(l.t, os.WriteFile(l.path(name), []byte(text), 0o644))
}

// scaled divides the durations of rules by scale; names of recording rules stay.
func scaled(text string) string {
	return regexp.MustCompile(`(\[|for: )(\d+)m\b`).ReplaceAllStringFunc(text, func(found string) string {
		parts := regexp.MustCompile(`(.*?)(\d+)m`).FindStringSubmatch(found)
		minutes, _ := strconv.Atoi(parts[2])
		return fmt.Sprintf("%s%ds", parts[1], minutes*60/scale)
	})
}

// receive notes what Alertmanager sends.
func (l *liveLab) receive() {
	l.t.Helper()
	var listener net.Listener
	must(l.t, l.near.Namespace.Do(func() (err error) {
		listener, err = net.Listen("tcp", hookAddress)
		return err
	}))
	hook := &http.Server{Handler: http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		var notification struct {
			Alerts []struct {
				Status string
				Labels map[string]string
			}
		}
		if err := json.NewDecoder(r.Body).Decode(&notification); err != nil {
			l.t.Error(err)
		}
		l.mu.Lock()
		defer l.mu.Unlock()
		for _, a := range notification.Alerts {
			name := nameOf(a.Labels)
			if states := l.alerts[name]; len(states) == 0 || states[len(states)-1] != a.Status {
				l.alerts[name] = append(states, a.Status)
			}
		}
	})}
	go func() { _ = hook.Serve(listener) }()
	l.t.Cleanup(func() { _ = hook.Close() })
}

// nameOf is the name of an alert, with instance and cause where it is not of the near end.
func nameOf(labels map[string]string) string {
	name := labels["alertname"]
	if instance := labels["instance"]; instance != exporterAddress {
		name += " " + instance
		if cause := labels["cause"]; cause != "" {
			name += " " + cause
		}
	}
	return name
}

// all returns the states of every alert that Alertmanager has sent.
func (l *liveLab) all() map[string][]string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return maps.Clone(l.alerts) // states are only appended
}

func (l *liveLab) notified(alert string) []string { return l.all()[alert] }

func (l *liveLab) up(url string) bool {
	response, err := l.client.Get(url)
	if err != nil {
		return false
	}
	defer response.Body.Close()
	return response.StatusCode == http.StatusOK
}

func (l *liveLab) eventually(what string, is func() bool) {
	l.t.Helper()
	for deadline := time.Now().Add(time.Minute); !is(); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(deadline) {
			l.t.Fatalf("after a minute it is not so that %s; notified: %v", what, l.all())
		}
	}
}

// narrow makes the far interface take no packets above an MTU: the near one's driver
// drops them, each time that they are retransmitted.
func (l *liveLab) narrow(mtu int) {
	l.t.Helper()
	must(l.t, l.far.Namespace.Do(func() error {
		link, err := netlink.LinkByName("far")
		if err != nil {
			return err
		}
		return netlink.LinkSetMTU(link, mtu)
	}))
}

// connect makes a TCP connection to the far end, where all is read.
func (l *liveLab) connect() net.Conn {
	l.t.Helper()
	var listener net.Listener
	must(l.t, l.far.Namespace.Do(func() (err error) {
		listener, err = net.Listen("tcp", "192.0.2.2:0")
		return err
	}))
	l.t.Cleanup(func() { _ = listener.Close() })
	go func() {
		conn, err := listener.Accept()
		if err != nil {
			return
		}
		defer conn.Close()
		buffer := make([]byte, 4096)
		for err == nil {
			_, err = conn.Read(buffer)
		}
	}()
	conn, err := l.dial(l.t.Context(), "tcp", listener.Addr().String())
	must(l.t, err)
	l.t.Cleanup(func() { _ = conn.Close() })
	return conn
}
