package netns

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"xentrace/test/need"
	"xentrace/test/rocket"
)

// frames are the lines that tshark prints of a capture.
func frames(t *testing.T, capture string, args ...string) []string {
	t.Helper()
	need.Tool(t, "tshark")
	path := filepath.Join(t.TempDir(), "x.pcapng")
	must(t, os.WriteFile(path, []byte(capture), 0o600))
	out, err := exec.Command("tshark", append([]string{"-n", "-r", path, "-X", "lua_script:../../packaging/xentrace.lua"}, args...)...).Output()
	must(t, err)
	return strings.FieldsFunc(string(out), func(r rune) bool { return r == '\n' })
}

// The headers in a capture are the packets' own: tshark's analysis of TCP finds each
// segment once, its length and flags right, and none out of order.
func TestCapture(t *testing.T) {
	const n = 50
	for _, at := range []struct {
		name   string
		sink   func(*lab) *rocket.TCP
		family string
	}{
		{"IPv4", func(l *lab) *rocket.TCP { return l.tcp(l.tcpSink(farAddress.Addr()).Local(), rocket.Options{}) }, "ip"},
		{"IPv6", func(l *lab) *rocket.TCP { return l.tcp(l.tcpSink(farAddress6.Addr()).Local(), rocket.Options{}) }, "ipv6"},
	} {
		t.Run(at.name, func(t *testing.T) {
			l := newLab(t)
			sender := at.sink(l)
			watch := start(t, "watch", "-i", "near", "-o", "pcapng")
			var want []string
			for range n {
				s, err := sender.Send(t.Context())
				must(t, err)
				want = append(want, fmt.Sprintf("%d %d 0x0018 over_limit %d", s.Seq, s.Remote.Port(), s.Slots))
			}
			watch.stop()
			capture := watch.stdout.String()
			got := frames(t, capture, "-T", "fields", "-E", "separator= ", "-e", "tcp.seq_raw", "-e", "tcp.dstport", "-e", "tcp.flags", "-e", "xentrace.verdict", "-e", "xentrace.slots")
			if strings.Join(got, "\n") != strings.Join(want, "\n") {
				t.Errorf("tshark shows\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
			}
			const segment = 17 * 80
			own := fmt.Sprintf("tcp.len == %d && tcp.options.timestamp.tsval && eth.src != 00:00:00:00:00:00 && %s && !tcp.analysis.flags && !(frame.comment contains \"reconstructed\")", segment, at.family)
			if got := frames(t, capture, "-Y", own); len(got) != n {
				t.Errorf("%d of %d frames have their own header and are in order", len(got), n)
			}
		})
	}
}

// An expression is matched with the packet's own header; all packets are counted.
func TestExpression(t *testing.T) {
	l := newLab(t)
	sink, other := l.udpSink(farAddress.Addr()), l.udpSink(farAddress6.Addr())
	senders := []*rocket.UDP{l.udp(sink.Local(), rocket.Options{}), l.udp(other.Local(), rocket.Options{})}
	const each = 5
	for expression, want := range map[string]int{
		fmt.Sprintf("udp dst port %d", sink.Local().Port()):                             each,
		fmt.Sprintf("ip6 and udp[2:2] = %d or ip6[42:2] = %[1]d", other.Local().Port()): each,
		"ether[12:2] = 0x0800 and ip[8] = 64 and greater 1000":                          each,
		"not ether src 02:02:02:02:02:02 and net 10.98.0.0/24 or net fd98::/64":         2 * each,
		"tcp":             0,
		"vlan or arp":     0,
		"portrange 1-9":   0,
		"ether multicast": 0,
	} {
		watch := start(t, "watch", "-i", "near", "-o", "json", expression)
		for range each {
			for _, s := range senders {
				_, err := s.Send(t.Context())
				must(t, err)
			}
		}
		l.awaitSilence()
		watch.stop()
		output := watch.stdout.String()
		summary := summaryOf(t, output)
		if got := len(recordsOf(t, output)); got != want || summary.Interfaces[0].OverLimit != uint64(2*each) {
			t.Errorf("%s: %d packets shown, %d counted over the limit; want %d and %d", expression, got, summary.Interfaces[0].OverLimit, want, 2*each)
		}
	}
}
