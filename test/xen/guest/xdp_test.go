//go:build xenlab

package guest

import (
	"errors"
	"net"
	"testing"
	"time"

	"xentrace/test/tool"
	"xentrace/test/xdpframes"
)

// Frames that an XDP program redirects to the interface are counted apart, and with them the
// packets counted are those of the interface's own counter, to the packet.
func TestXDPFrames(t *testing.T) {
	const frames, ordinary, bytes = 100, 50, 300
	device, err := net.InterfaceByName("eth0")
	if err != nil {
		t.Fatal(err)
	}
	for _, backend := range backends(t) {
		t.Run(backend, func(t *testing.T) {
			run := tool.Start(t, program(t), "hist", "-o", "json", "-d", "0", "--backend", backend)
			time.Sleep(settle)
			sent, dropped := counter(t, "tx_packets"), counter(t, "tx_dropped")
			err := xdpframes.Redirect(device.Index, frames, bytes)
			if errors.Is(err, xdpframes.ErrUnsupported) {
				t.Skipf("%v", err)
			}
			if err != nil {
				t.Fatal(err)
			}
			sendOrdinary(t, 7006, ordinary)
			time.Sleep(settle)
			sent, dropped = counter(t, "tx_packets")-sent, counter(t, "tx_dropped")-dropped
			output := run.Stop()
			i := output.Only(t)
			if i.XDPPackets == nil || i.XDPDropped == nil {
				t.Fatalf("frames of XDP are not counted: %v", output.Summary.Missing)
			}
			if *i.XDPPackets != frames || *i.XDPDropped != 0 {
				t.Errorf("%d frames of XDP, %d not accepted, want %d and none", *i.XDPPackets, *i.XDPDropped, frames)
			}
			if i.Packets-i.Dropped+*i.XDPPackets != sent || i.Packets < ordinary {
				t.Errorf("%d packets, %d dropped, %d frames of XDP; the interface counts %d sent and %d dropped", i.Packets, i.Dropped, *i.XDPPackets, sent, dropped)
			}
		})
	}
}
