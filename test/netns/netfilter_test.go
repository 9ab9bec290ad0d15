package netns

import (
	"encoding/binary"
	"net"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
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

// Frames that are not IP have the name of their EtherType, or its number.
func TestFramesThatAreNotIP(t *testing.T) {
	newLab(t)
	must(t, netlink.QdiscReplace(&netlink.Tbf{
		QdiscAttrs: netlink.QdiscAttrs{LinkIndex: linkIndex(t, "near"), Handle: netlink.MakeHandle(1, 0), Parent: netlink.HANDLE_ROOT},
		Rate:       100_000, Buffer: 2000, Limit: 1, // of bytes: each frame is dropped
	}))
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW, 0)
	must(t, err)
	defer unix.Close(fd)
	names := map[uint16]string{
		0x0806: "ARP", 0x88cc: "LLDP", 0x8809: "LACP", 0x8847: "MPLS", 0x8864: "PPPoE", 0x88e5: "MACsec", 0x1234: "EtherType 0x1234",
	}
	records, _ := watchText(t, "QDISC_DROP", func() {
		for etherType := range names {
			frame := append(make([]byte, 12), binary.BigEndian.AppendUint16(nil, etherType)...)
			_ = unix.Sendto(fd, append(frame, make([]byte, 50)...), 0, &unix.SockaddrLinklayer{Ifindex: linkIndex(t, "near"), Halen: 6}) // ENOBUFS
		}
	})
	all := strings.Join(records, "")
	for etherType, name := range names {
		if !strings.Contains(all, " "+name+"  ") && !strings.Contains(all, " "+name+" ") {
			t.Errorf("no %s (0x%04x) in\n%s", name, etherType, all)
		}
	}
	if strings.Contains(all, "not IP") {
		t.Errorf("a frame has no name:\n%s", all)
	}
}
