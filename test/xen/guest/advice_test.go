//go:build xenlab

package guest

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"xentrace/test/rocket"
)

const advicePort = 7020

// remedy is what is done about a connection whose segment the driver drops at every
// retransmission, and what was found to come of it.
type remedy struct {
	name   string
	do     []string // shell commands
	frees  bool     // the connection that hangs goes on
	guards bool     // what the same program writes next is sent too
}

// hangingShape is a segment of more slots than the limit, under an MTU.
type hangingShape struct {
	name     string
	mtu      string
	options  rocket.Options
	remedies []remedy
}

func hangingShapes() []hangingShape {
	const (
		singlePages = "sysctl -qw net.core.high_order_alloc_disable=1"
		noOffloads  = "ethtool -K eth0 tso off gso off"
		noGather    = "ethtool -K eth0 sg off"
		smallRoute  = "ip route replace 10.44.0.1/32 dev eth0 mtu 1500"
	)
	return []hangingShape{
		{"jumbo", "9001", rocket.Options{Pieces: 17, PieceLength: 512, NoWait: true}, []remedy{
			{"nothing", nil, false, false},
			{"single pages", []string{singlePages}, false, true},
			{"MTU 1500", []string{"ip link set dev eth0 mtu 1500"}, true, true},
			{"MTU 1500 of the route", []string{smallRoute}, true, true},
			{"single pages, then MTU 1500", []string{singlePages, "ip link set dev eth0 mtu 1500"}, true, true},
			{"no TSO and GSO", []string{noOffloads}, false, false},
			{"no scatter-gather", []string{noGather}, true, true},
		}},
		{"jumbo, small pieces", "9001", rocket.Options{Pieces: 17, PieceLength: 80, NoWait: true}, []remedy{
			{"single pages", []string{singlePages}, false, true},
			{"MTU 1500", []string{"ip link set dev eth0 mtu 1500"}, false, false},
			{"no scatter-gather", []string{noGather}, true, true},
		}},
		{"1500", "1500", rocket.Options{Pieces: 17, PieceLength: 80, NoWait: true}, []remedy{
			{"nothing", nil, false, false},
			{"single pages", []string{singlePages}, false, true},
			{"MTU 700", []string{"ip link set dev eth0 mtu 700"}, true, true},
			{"no TSO and GSO", []string{noOffloads}, false, false},
			{"no scatter-gather", []string{noGather}, true, true},
		}},
	}
}

// Which command frees a connection that hangs, and which keeps the next one from
// hanging: the order of the advice stands on this. With a driver that linearizes nothing
// hangs.
func TestAdviceFreesConnection(t *testing.T) {
	drops := env(t, "XENTRACE_LAB_DRIVER") == "prefix"
	defer func() {
		ask(t, "mtu 1500")
		// An MTU below 1280 has taken the interface's IPv6 addresses away.
		command(t, "netfront", "unbind")
		command(t, "netfront", "bind")
	}()
	for _, shape := range hangingShapes() {
		for _, r := range shape.remedies {
			t.Run(shape.name+"/"+r.name, func(t *testing.T) {
				shape.prepare(t)
				hanging := shape.send(t, true)
				defer func() { _ = hanging.Abort() }()
				if goesOn(t, hanging) == drops {
					t.Fatalf("the connection hangs: %t, want %t", !drops, drops)
				}
				if !drops {
					return
				}
				for _, command := range r.do {
					shell(t, command)
				}
				frees := goesOn(t, hanging)
				_ = hanging.Abort()
				next := shape.send(t, false)
				defer func() { _ = next.Abort() }()
				guards := goesOn(t, next)
				t.Logf("frees: %t, guards: %t", frees, guards)
				if frees != r.frees || guards != r.guards {
					t.Errorf("frees %t, guards %t: want %t, %t", frees, guards, r.frees, r.guards)
				}
			})
		}
	}
}

// prepare sets the MTU of both ends, and puts everything back after the test.
func (s *hangingShape) prepare(t *testing.T) {
	t.Helper()
	ask(t, "mtu "+s.mtu)
	shell(t, "ip link set dev eth0 mtu "+s.mtu)
	t.Cleanup(func() {
		shell(t, "sysctl -qw net.core.high_order_alloc_disable=0")
		shell(t, "ip route del 10.44.0.1/32 2>/dev/null || :")
		shell(t, "ethtool -K eth0 sg on tso on gso on")
		shell(t, "ip link set dev eth0 mtu 1500")
	})
}

// send opens a connection and sends the segment over it. With whole it takes another
// connection where a part went out before the rest was written, as it also does where
// single pages need more fragments than a packet has.
func (s *hangingShape) send(t *testing.T, whole bool) *rocket.TCP {
	t.Helper()
	for {
		options := s.options
		sender, err := rocket.NewTCP(t.Context(), netip.AddrPortFrom(peerAddr(t, "ipv4"), advicePort), options)
		for err != nil && options.Pieces > 1 && strings.Contains(err.Error(), "the connection carries") {
			options.Pieces-- // a smaller MTU has smaller segments
			sender, err = rocket.NewTCP(t.Context(), netip.AddrPortFrom(peerAddr(t, "ipv4"), advicePort), options)
		}
		if err != nil {
			t.Fatal(err)
		}
		sent, err := sender.Send(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if !whole || !sent.Split {
			return sender
		}
		_ = sender.Abort()
	}
}

// goesOn tells whether the connection's data is acknowledged, or its segment is
// dropped at two more transmissions.
func goesOn(t *testing.T, sender *rocket.TCP) bool {
	t.Helper()
	dropped := counter(t, "tx_dropped")
	deadline := time.Now().Add(time.Minute)
	for time.Now().Before(deadline) {
		left, err := sender.Unacknowledged()
		if err != nil {
			t.Fatal(err)
		}
		if left == 0 {
			return true
		}
		if counter(t, "tx_dropped") >= dropped+2 {
			return false
		}
		time.Sleep(20 * time.Millisecond)
	}
	t.Fatal("neither acknowledged nor dropped again within a minute")
	return false
}
