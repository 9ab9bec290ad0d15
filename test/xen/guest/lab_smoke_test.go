//go:build xenlab

package guest

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"xentrace/test/rocket"
)

func TestLabIsAXenGuest(t *testing.T) {
	if got := readFile(t, "/sys/hypervisor/type"); got != "xen" {
		t.Errorf("/sys/hypervisor/type is %q, want xen", got)
	}
	if got, want := readFile(t, "/sys/hypervisor/guest_type"), guestType(t); got != want {
		t.Errorf("/sys/hypervisor/guest_type is %q, want %s", got, want)
	}
	// A driver that is built in has no link to a module.
	driver, err := os.Readlink(filepath.Join("/sys/class/net", ifname, "device/driver"))
	if err != nil {
		t.Fatal(err)
	}
	if got := filepath.Base(driver); got != "vif" || !driverLoaded() {
		t.Errorf("%s is driven by %s, want xen_netfront, whose name on Xen's bus is vif", ifname, got)
	}
}

func TestLabHasAQueueForEachCPU(t *testing.T) {
	want, err := strconv.Atoi(env(t, "XENTRACE_LAB_VCPUS"))
	if err != nil {
		t.Fatal(err)
	}
	queues, err := filepath.Glob(filepath.Join("/sys/class/net", ifname, "queues/tx-*"))
	if err != nil {
		t.Fatal(err)
	}
	// Dom0 has two CPUs, and so offers two queues at most.
	if want = min(want, 2); len(queues) != want {
		t.Errorf("%d transmit queues, want %d", len(queues), want)
	}
}

func TestLabDriverHasBTF(t *testing.T) {
	var major, minor int
	if _, err := fmt.Sscanf(env(t, "XENTRACE_LAB_KERNEL"), "%d.%d", &major, &minor); err != nil {
		t.Fatal(err)
	}
	// BTF for modules began with 5.11.
	if got, want := driverTypes(), major > 5 || minor > 10; got != want {
		t.Errorf("BTF of xen_netfront is there: %v, want %v", got, want)
	}
}

func TestLabPeerCounts(t *testing.T) {
	const writes, size, port = 50, 1000, 7001
	for _, proto := range []string{"udp", "tcp"} {
		for _, family := range []string{"ipv4", "ipv6"} {
			t.Run(proto+" over "+family, func(t *testing.T) {
				ask(t, "reset")
				before := counter(t, "tx_bytes")
				conn, err := net.Dial(proto, netip.AddrPortFrom(peerAddr(t, family), port).String())
				if err != nil {
					t.Fatal(err)
				}
				for range writes {
					if _, err := conn.Write(make([]byte, size)); err != nil {
						t.Fatal(err)
					}
				}
				if err := conn.Close(); err != nil {
					t.Fatal(err)
				}
				got := received(t, proto, family, port, writes*size)
				if got.Bytes != writes*size {
					t.Errorf("the peer received %d bytes, want %d", got.Bytes, writes*size)
				}
				if proto == "udp" && got.Datagrams != writes {
					t.Errorf("the peer received %d datagrams, want %d", got.Datagrams, writes)
				}
				if proto == "tcp" && got.Connections != 1 {
					t.Errorf("the peer accepted %d connections, want 1", got.Connections)
				}
				if moved := counter(t, "tx_bytes") - before; moved < writes*size {
					t.Errorf("%s counted %d bytes sent, want at least %d", ifname, moved, writes*size)
				}
			})
		}
	}
}

// The driver without the linearize fix drops every packet over the limit; Debian's
// sends it.
func TestLabDriverTreatsRockets(t *testing.T) {
	const rockets, port = 20, 7002
	ask(t, "reset")
	sender, err := rocket.NewUDP(t.Context(), netip.AddrPortFrom(peerAddr(t, "ipv4"), port), rocket.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer sender.Close()

	before := counter(t, "tx_dropped")
	var bytes uint64
	for range rockets {
		sent, err := sender.Send(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if sent.Slots <= limit {
			t.Fatalf("a rocket of %d slots, want more than %d", sent.Slots, limit)
		}
		bytes += uint64(sent.Length)
	}
	var wantDropped, wantDatagrams uint64 = 0, rockets
	if env(t, "XENTRACE_LAB_DRIVER") == "prefix" {
		wantDropped, wantDatagrams, bytes = rockets, 0, 0
	}
	if got := received(t, "udp", "ipv4", port, bytes); got.Datagrams != wantDatagrams || got.Bytes != bytes {
		t.Errorf("the peer received %d datagrams, %d bytes; want %d, %d", got.Datagrams, got.Bytes, wantDatagrams, bytes)
	}
	if dropped := counter(t, "tx_dropped") - before; dropped != wantDropped {
		t.Errorf("tx_dropped moved by %d, want %d", dropped, wantDropped)
	}
}
