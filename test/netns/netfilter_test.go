package netns

import (
	"net"
	"os/exec"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"xentrace/test/need"
	"xentrace/test/tool"
)

// ruleset loads nftables rules into the namespace that the test is in.
func ruleset(t *testing.T, text string) {
	t.Helper()
	need.Tool(t, "nft")
	cmd := exec.Command("nft", "-f", "-")
	cmd.Stdin = strings.NewReader(text)
	out, err := cmd.CombinedOutput()
	need.That(t, err == nil, "a kernel with nf_tables and NAT: %v: %s", err, out)
}

// watchText watches the near interface for drops anywhere, in text, and returns what is written
// from the start of a reason's explanation on, as one line.
func watchText(t *testing.T, reason string, send func()) (records []string, explanation string) {
	t.Helper()
	watch := tool.Start(t, xentrace, "watch", "-i", "near", "--drops", "all")
	send()
	time.Sleep(200 * time.Millisecond) // the last records are read
	text := watch.StopText()
	for line := range strings.Lines(text) {
		if strings.Contains(line, "dropped elsewhere") {
			records = append(records, line)
		}
	}
	_, explanation, found := strings.Cut(strings.Join(strings.Fields(text), " "), reason+" (")
	if !found {
		t.Fatalf("nothing of %s in\n%s", reason, text)
	}
	return records, explanation
}

// Two connections that NAT gives one port: connection tracking drops the second one's packets, and
// no rule.
func TestClashOfConnections(t *testing.T) {
	l := newLab(t)
	sink := l.tcpSink(farAddress.Addr())
	listener := sink.Local().String()
	ruleset(t, "table ip n {\n chain p {\n type nat hook postrouting priority 100;\n ip protocol tcp snat to "+nearAddress.Addr().String()+":5000\n }\n}\n")
	first, err := net.Dial("tcp", listener)
	must(t, err)
	defer first.Close()
	_, explanation := watchText(t, "NETFILTER_DROP", func() {
		second, err := net.DialTimeout("tcp", listener, 1500*time.Millisecond)
		if err == nil {
			_ = second.Close()
			t.Error("the second connection was made")
		}
	})
	for _, part := range []string{"Connection tracking dropped packets in this time,", "for a connection that clashed with another (insert_failed), and not a netfilter rule.", "random-fully"} {
		if !strings.Contains(explanation, part) {
			t.Errorf("no %q in %s", part, explanation)
		}
	}
}

// A rule that drops, with connection tracking at work.
func TestDropOfARule(t *testing.T) {
	l := newLab(t)
	sink := l.udpSink(farAddress.Addr())
	dropAt(t, unix.NF_INET_LOCAL_OUT)
	_, explanation := watchText(t, "NETFILTER_DROP", func() {
		socket, err := net.Dial("udp", sink.Local().String())
		must(t, err)
		_, _ = socket.Write(make([]byte, 100)) // EPERM
		must(t, socket.Close())
	})
	for _, part := range []string{"A netfilter rule dropped the packet: connection tracking dropped none in this time.", "nft list ruleset"} {
		if !strings.Contains(explanation, part) {
			t.Errorf("no %q in %s", part, explanation)
		}
	}
}
