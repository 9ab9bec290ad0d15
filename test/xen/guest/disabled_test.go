//go:build xenlab

package guest

import (
	"errors"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"xentrace/test/rocket"
	"xentrace/test/tool"
)

// stuckFor is what a run needs to see that a queue is stuck, and to spare.
const stuckFor = 7 * time.Second

const stuckNotice = ": transmit queue 0 has been full for "

// At the first packet of too many slots netback, with its own parameters, disables
// the interface: it takes nothing any more, and the guest hears nothing of that.
// Every backend says so within seconds, and one that is started later as well.
func TestDisabledByBackend(t *testing.T) {
	needNoCheck(t, true)
	runs := make(map[string]*tool.Run)
	for _, backend := range backends(t) {
		runs[backend] = tool.Start(t, program(t), "watch", "-o", "json", "--rejected", "--backend", backend)
	}
	time.Sleep(settle)
	disable(t)
	dropped := counter(t, "tx_dropped")
	fill(t)
	time.Sleep(stuckFor)
	runs["started later"] = tool.Start(t, program(t), "watch", "-o", "json")
	time.Sleep(stuckFor)
	for name, run := range runs {
		output := run.Stop()
		i := output.Only(t)
		if n := strings.Count(output.Stderr, "eth0"+stuckNotice); n != 1 {
			t.Errorf("%s: said %d times that the queue is full, want once: %q", name, n, output.Stderr)
		}
		if i.StuckMs == nil || *i.StuckMs < 3000 {
			t.Errorf("%s: stuck for %v ms, want at least 3000", name, i.StuckMs)
		}
		t.Logf("%s: stuck for %d ms; %s", name, *i.StuckMs, output.Stderr)
	}
	if moved := counter(t, "tx_dropped") - dropped; moved != 0 {
		t.Logf("tx_dropped moved by %d meanwhile", moved)
	}
}

// disable sends what the backend takes for malice.
func disable(t *testing.T) {
	t.Helper()
	sender, err := rocket.NewUDP(t.Context(), netip.AddrPortFrom(peerAddr(t, "ipv4"), udpRocketPort), rocket.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = sender.Close() }()
	for range 3 {
		if _, err := sender.Send(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
}

// fill sends more than the ring holds, and leaves what does not leave.
func fill(t *testing.T) {
	t.Helper()
	for range 3 {
		conn, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(netip.AddrPortFrom(peerAddr(t, "ipv4"), udpOrdinaryPort)))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = conn.Close() })
		if err := conn.SetWriteDeadline(time.Now().Add(2 * time.Second)); err != nil {
			t.Fatal(err)
		}
		for range 150 {
			if _, err := conn.Write(make([]byte, ordinaryLength)); err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
				t.Fatal(err)
			}
		}
	}
}

// An interface that is set down has stopped queues, too; nothing is wrong with it.
func TestSetDownIsNotStuck(t *testing.T) {
	const n, port = 100, 7012
	run := tool.Start(t, program(t), "watch", "-o", "json")
	time.Sleep(settle)
	link(t, "down")
	time.Sleep(stuckFor)
	netfrontAddresses(t)
	sendOrdinary(t, port, n)
	time.Sleep(2 * time.Second)
	output := run.Stop()
	if strings.Contains(output.Stderr, "transmit queue") {
		t.Errorf("said %q of an interface that was set down", output.Stderr)
	}
	if i := output.Only(t); i.StuckMs == nil || *i.StuckMs != 0 {
		t.Errorf("stuck for %v ms, want 0", i.StuckMs)
	}
}

func link(t *testing.T, to string) {
	t.Helper()
	if out, err := exec.Command("ip", "link", "set", ifname, to).CombinedOutput(); err != nil {
		t.Fatalf("ip link set %s %s: %v\n%s", ifname, to, err, out)
	}
}

// netfrontAddresses sets the interface up again, as the lab sets it up.
func netfrontAddresses(t *testing.T) {
	t.Helper()
	link(t, "up")
	for _, command := range []string{
		"ip address replace fd44::2/64 dev eth0 nodad",
		"ip neighbour replace 10.44.0.1 lladdr fe:ff:ff:ff:ff:ff dev eth0 nud permanent",
		"ip neighbour replace fd44::1 lladdr fe:ff:ff:ff:ff:ff dev eth0 nud permanent",
	} {
		words := strings.Fields(command)
		if out, err := exec.Command(words[0], words[1:]...).CombinedOutput(); err != nil {
			t.Fatalf("%s: %v\n%s", command, err, out)
		}
	}
}
