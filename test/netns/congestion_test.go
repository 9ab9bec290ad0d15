package netns

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"xentrace/test/rocket"
	"xentrace/test/schema"
	"xentrace/test/tool"
)

// sentBytes is the interface's own counter.
func sentBytes(t *testing.T, name string) uint64 {
	t.Helper()
	var n uint64
	text, err := os.ReadFile("/proc/thread-self/net/dev")
	must(t, err)
	for line := range strings.Lines(string(text)) {
		if rest, is := strings.CutPrefix(strings.TrimSpace(line), name+":"); is {
			_, err := fmt.Sscan(strings.Fields(rest)[8], &n)
			must(t, err)
			return n
		}
	}
	t.Fatalf("%s is not in /proc/net/dev", name)
	return 0
}

// Datagrams of known sizes: packets and bytes as the interface counted them, every
// histogram adds up, and the shares are what was sent.
func TestCongestionCountsToThePacket(t *testing.T) {
	for _, test := range []struct {
		name     string
		at, from netip.Addr
		headers  int
	}{{"IPv4", farAddress.Addr(), nearAddress.Addr(), 42}, {"IPv6", farAddress6.Addr(), nearAddress6.Addr(), 62}} {
		t.Run(test.name, func(t *testing.T) {
			l := newLab(t)
			sender, err := rocket.NewDatagrams(t.Context(), l.udpSink(test.at).Local(), rocket.Options{})
			must(t, err)
			run := tool.Start(t, xentrace, "congestion", "-i", "near", "-o", "json", "-d", "0")
			packets, bytes := transmitted(t, l.near), sentBytes(t, "near")
			lengths := map[int]int{16: 300, 255: 200, 256: 100, 1000: 400}
			var payload uint64
			for length, n := range lengths {
				must(t, sender.Send(t.Context(), n, length))
				payload += uint64(length * n)
			}
			packets, bytes = transmitted(t, l.near)-packets, sentBytes(t, "near")-bytes
			c := run.StopMeasuring()[0]
			if c.Packets != 1000 || c.Packets != packets || c.Bytes != bytes || c.Bytes != payload+uint64(1000*test.headers) {
				t.Errorf("%d packets, %d bytes; the interface counted %d and %d", c.Packets, c.Bytes, packets, bytes)
			}
			if c.SizeBytes.Count() != c.Packets || c.Slots.Count() != c.Packets || c.PayloadBytes != payload || c.SmallPacketShare != 0.5 {
				t.Errorf("sizes %v, slots %v, %d bytes of payload, %v small: want %d and half", c.SizeBytes, c.Slots, c.PayloadBytes, c.SmallPacketShare, payload)
			}
			if c.SizeBytes[64] != 300*uint64(boolean(test.headers+16 <= 64)) || c.SizeBytes[2048]+c.SizeBytes[1024] < 400 {
				t.Errorf("sizes %v", c.SizeBytes)
			}
			q := c.Queues[0]
			if len(c.Queues) != 1 || q.Packets != c.Packets || q.Bytes != c.Bytes || q.Busy != 0 || q.Stops != 0 || q.Occupancy != nil || c.PpsBound != nil {
				t.Errorf("queues %+v", c.Queues)
			}
			// A head may straddle a page boundary: one slot more.
			if q.Slots != c.Slots[1]+2*c.Slots[2] || c.Slots[1]+c.Slots[2] != c.Packets {
				t.Errorf("%d slots, %v", q.Slots, c.Slots)
			}
			for _, key := range []string{"occupancy", "completion_us", "pps_bound", "notifications", "copied"} {
				if c.Missing[key] == "" {
					t.Errorf("%s is null without a reason: %v", key, c.Missing)
				}
			}
		})
	}
}

func boolean(b bool) int {
	if b {
		return 1
	}
	return 0
}

// Connections that come in: each is counted once, opened and closed.
func TestCongestionCountsConnections(t *testing.T) {
	const connections = 200
	l := newLab(t)
	var listener net.Listener
	must(t, l.far.Namespace.Do(func() (err error) {
		listener, err = net.Listen("tcp", netip.AddrPortFrom(farAddress.Addr(), 0).String())
		return err
	}))
	defer listener.Close()
	go func() {
		for {
			c, err := listener.Accept()
			if err != nil {
				return
			}
			c.Close()
		}
	}()
	near := tool.Start(t, xentrace, "congestion", "-i", "near", "-o", "json", "-d", "0")
	must(t, l.far.Namespace.Do(func() error { return nil }))
	for range connections {
		c, err := net.Dial("tcp", listener.Addr().String())
		must(t, err)
		_, _ = c.Read(make([]byte, 1)) // until the other end closes
		must(t, c.Close())
	}
	awaitClosed(t, listener.Addr().(*net.TCPAddr).Port)
	c := near.StopMeasuring()[0]
	if c.TCP == nil || c.TCP.Opened != connections || c.TCP.Established != 0 || c.TCP.Closed != connections {
		t.Errorf("opened %+v, want %d opened and closed from here", c.TCP, connections)
	}
	if *c.TCP.ListenOverflows != 0 || *c.TCP.ListenDrops != 0 {
		t.Errorf("thrown away: %d, %d", *c.TCP.ListenOverflows, *c.TCP.ListenDrops)
	}
}

// awaitClosed waits until each connection from here to a port is closed, or in TIME_WAIT.
func awaitClosed(t *testing.T, port int) {
	t.Helper()
	for open := true; open; time.Sleep(10 * time.Millisecond) {
		must(t, t.Context().Err())
		text, err := os.ReadFile("/proc/thread-self/net/tcp")
		must(t, err)
		open = false
		for line := range strings.Lines(string(text)) {
			fields := strings.Fields(line) // sl, local, remote, state
			open = open || strings.HasSuffix(fields[2], fmt.Sprintf(":%04X", port)) && fields[3] != "06"
		}
	}
}

// A listener that never accepts: what does not fit its queue is counted as the kernel
// counts it, and named.
func TestCongestionNamesTheAcceptQueue(t *testing.T) {
	l := newLab(t)
	listening, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	must(t, err)
	defer unix.Close(listening)
	must(t, unix.Bind(listening, &unix.SockaddrInet4{Addr: nearAddress.Addr().As4(), Port: 7777}))
	must(t, unix.Listen(listening, 3))
	run := tool.Start(t, xentrace, "congestion", "-i", "near", "-o", "json", "-d", "0")
	before := overflows(t)
	must(t, l.far.Namespace.Do(func() error {
		for range 20 {
			fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
			if err != nil {
				return err
			}
			t.Cleanup(func() { unix.Close(fd) })
			err = unix.Connect(fd, &unix.SockaddrInet4{Addr: nearAddress.Addr().As4(), Port: 7777})
			if err != nil && !errors.Is(err, unix.EINPROGRESS) {
				return err
			}
		}
		return nil
	}))
	eventually(t, "overflows", func() bool { return overflows(t) >= before+10 })
	c := run.StopMeasuring()[0]
	if got, most := *c.TCP.ListenOverflows, overflows(t)-before; got < 10 || got > most || c.TCP.Established != 4 {
		t.Errorf("%d overflows of %d, %d established, want at least 10 and 4", got, most, c.TCP.Established)
	}
	// What else runs on this machine may make one of its CPUs a limit, too.
	if !slices.Contains(c.Limits(), "accept_queue") {
		t.Errorf("verdict %v", c.Limits())
	}
	if c.SmallPacketCongestion {
		t.Error("an accept queue is no congestion of the interface")
	}
}

// overflows is ListenOverflows of the namespace that the test is in.
func overflows(t *testing.T) uint64 {
	t.Helper()
	text, err := os.ReadFile("/proc/thread-self/net/netstat")
	must(t, err)
	lines := strings.Split(string(text), "\n")
	names, values := strings.Fields(lines[0]), strings.Fields(lines[1])
	for i, name := range names {
		if name == "ListenOverflows" {
			var n uint64
			_, err := fmt.Sscan(values[i], &n)
			must(t, err)
			return n
		}
	}
	t.Fatal("no ListenOverflows")
	return 0
}

// Every key is there, in text there is no line too long for 80 columns, and an
// earlier run can be compared with.
func TestCongestionOutputs(t *testing.T) {
	l := newLab(t)
	sender, err := rocket.NewDatagrams(t.Context(), l.udpSink(farAddress.Addr()).Local(), rocket.Options{})
	must(t, err)
	run := tool.Start(t, xentrace, "congestion", "-i", "near", "-o", "json", "--watch")
	must(t, sender.Send(t.Context(), 500, 100))
	run.Tells(`"type":"congestion"`, 2)
	reports := run.StopMeasuring()
	var packets uint64
	for i := range reports {
		packets += reports[i].Packets
	}
	if len(reports) < 3 || packets != 500 {
		t.Errorf("%d reports of %d packets, want one a second, of 500 in all", len(reports), packets)
	}
	earlier := filepath.Join(t.TempDir(), "earlier.json")
	out, err := exec.Command(xentrace, "congestion", "-i", "near", "-o", "json", "-d", "100ms").Output()
	must(t, err)
	schema.Check(t, out)
	must(t, os.WriteFile(earlier, out, 0o644))
	var keys map[string]json.RawMessage
	must(t, json.Unmarshal(out, &keys))
	for _, key := range strings.Fields("type time ifname ifindex netns driver duration_ms packets bytes packets_per_second queues size_bytes slots small_packet_share bytes_per_slot payload_bytes full_share completion_mean_us completion_sample copied notifications_per_packet responses_per_run pps_bound pps_bound_share receive cpu tcp small_packet_congestion verdict baseline lost missing") {
		value, there := keys[key]
		if !there {
			t.Errorf("no key %s", key)
		}
		delete(keys, key)
		if string(value) == "null" && key != "baseline" && tool.ParseCongestion(t, out)[0].Missing[key] == "" {
			t.Errorf("%s is null without a reason", key)
		}
	}
	if len(keys) != 0 {
		t.Errorf("keys that nobody knows: %v", keys)
	}
	t.Setenv("COLUMNS", "80")
	t.Setenv("LC_ALL", "C.UTF-8")
	run = tool.Start(t, xentrace, "congestion", "-i", "near", "-d", "0", "--baseline", earlier)
	must(t, sender.Send(t.Context(), 500, 100))
	text := run.StopText()
	for line := range strings.Lines(text) {
		if n := len([]rune(strings.TrimRight(line, "\n"))); n > 80 && !strings.HasPrefix(line, "  # ") {
			t.Errorf("%d columns: %s", n, line)
		}
	}
	for _, part := range []string{"near: veth, 1 queue", "packet size", "slots per packet", "changed", "not measured: "} {
		if !strings.Contains(text, part) {
			t.Errorf("no %q in\n%s", part, text)
		}
	}
}
