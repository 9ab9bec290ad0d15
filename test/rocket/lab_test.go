package rocket

import (
	"context"
	"net/netip"
	"os"
	"runtime"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"xentrace/test/need"
)

// pair is two network namespaces joined by a veth pair. Nothing else is sent on
// it: no neighbour or router discovery.
type pair struct {
	near, far *space
	ifindex   int // of near's end
}

// space is a network namespace, entered by a thread that waits for work.
type space struct {
	work chan func()
	inum uint32
	fd   int
}

// newSpace makes a network namespace that lives until the end of the test.
func newSpace(t *testing.T) *space {
	t.Helper()
	need.Root(t, "to make network namespaces")
	s := &space{work: make(chan func())}
	ready := make(chan error)
	go func() {
		runtime.LockOSThread() // and never back: the thread ends with the namespace
		ready <- s.enter()
		for work := range s.work {
			work()
		}
		unix.Close(s.fd)
	}()
	must(t, <-ready)
	t.Cleanup(func() { close(s.work) })
	return s
}

// enter puts the calling thread into a new namespace.
func (s *space) enter() (err error) {
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		return err
	}
	if s.fd, err = unix.Open("/proc/thread-self/ns/net", unix.O_RDONLY|unix.O_CLOEXEC, 0); err != nil {
		return err
	}
	var stat unix.Stat_t
	err = unix.Fstat(s.fd, &stat)
	s.inum = uint32(stat.Ino)
	return err
}

// do runs fn in the namespace and fails the test if it fails.
func (s *space) do(t *testing.T, fn func() error) {
	t.Helper()
	result := make(chan error)
	s.work <- func() { result <- fn() }
	must(t, <-result)
}

var (
	nearAddress  = netip.MustParseAddr("10.99.0.1")
	farAddress   = netip.MustParseAddr("10.99.0.2")
	nearAddress6 = netip.MustParseAddr("fd99::1")
	farAddress6  = netip.MustParseAddr("fd99::2")
)

// newPair makes two namespaces and joins them.
func newPair(t *testing.T, mtu int) *pair {
	t.Helper()
	p := &pair{near: newSpace(t), far: newSpace(t)}
	p.near.do(t, func() error {
		quiet()
		attrs := netlink.NewLinkAttrs()
		attrs.Name, attrs.MTU = "near", mtu
		return netlink.LinkAdd(&netlink.Veth{
			LinkAttrs: attrs, PeerName: "far", PeerMTU: uint32(mtu), PeerNamespace: netlink.NsFd(p.far.fd),
		})
	})
	var near, far netlink.Link
	p.far.do(t, func() (err error) {
		quiet()
		far, err = raise("far", farAddress, farAddress6)
		return err
	})
	p.near.do(t, func() (err error) {
		near, err = raise("near", nearAddress, nearAddress6)
		p.ifindex = near.Attrs().Index
		return err
	})
	p.near.do(t, func() error { return neighbours(near, far, farAddress, farAddress6) })
	p.far.do(t, func() error { return neighbours(far, near, nearAddress, nearAddress6) })
	return p
}

// quiet keeps IPv6 from sending on its own.
func quiet() {
	for _, name := range []string{"router_solicitations", "mldv2_unsolicited_report_interval", "accept_dad"} {
		os.WriteFile("/proc/sys/net/ipv6/conf/default/"+name, []byte("0"), 0)
	}
}

// raise sets an interface and lo up and gives it addresses.
func raise(name string, addresses ...netip.Addr) (netlink.Link, error) {
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		return nil, err
	}
	link, err := netlink.LinkByName(name)
	if err != nil {
		return nil, err
	}
	for _, address := range addresses {
		bits := 24
		if address.Is6() {
			bits = 64
		}
		addr := &netlink.Addr{IPNet: netlink.NewIPNet(address.AsSlice()), Flags: unix.IFA_F_NODAD}
		addr.Mask = maskOf(bits, address.BitLen())
		if err := netlink.AddrAdd(link, addr); err != nil {
			return nil, err
		}
	}
	if err := netlink.LinkSetUp(lo); err != nil {
		return nil, err
	}
	return link, netlink.LinkSetUp(link)
}

// lower sets an interface down.
func lower(name string) error {
	link, err := netlink.LinkByName(name)
	if err != nil {
		return err
	}
	return netlink.LinkSetDown(link)
}

// maskOf returns a network mask.
func maskOf(ones, bits int) []byte {
	mask := make([]byte, bits/8)
	for i := range ones {
		mask[i/8] |= 1 << (7 - i%8)
	}
	return mask
}

// neighbours makes the far end known, so that nobody asks for it.
func neighbours(link, peer netlink.Link, addresses ...netip.Addr) error {
	for _, address := range addresses {
		family := netlink.FAMILY_V4
		if address.Is6() {
			family = netlink.FAMILY_V6
		}
		err := netlink.NeighSet(&netlink.Neigh{
			LinkIndex: link.Attrs().Index, Family: family, State: netlink.NUD_PERMANENT,
			IP: address.AsSlice(), HardwareAddr: peer.Attrs().HardwareAddr,
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// udpSink receives at the far end.
func (p *pair) udpSink(t *testing.T, at netip.Addr) *UDPSink {
	t.Helper()
	var sink *UDPSink
	p.far.do(t, func() (err error) {
		sink, err = NewUDPSink(t.Context(), netip.AddrPortFrom(at, 0))
		return err
	})
	t.Cleanup(func() { sink.Close() })
	return sink
}

// tcpSink accepts connections at the far end.
func (p *pair) tcpSink(t *testing.T, at netip.Addr) *TCPSink {
	t.Helper()
	var sink *TCPSink
	p.far.do(t, func() (err error) {
		sink, err = NewTCPSink(t.Context(), netip.AddrPortFrom(at, 0))
		return err
	})
	t.Cleanup(func() { sink.Close() })
	return sink
}

// udp makes a sender at the near end.
func (p *pair) udp(t *testing.T, remote netip.AddrPort, opts Options) *UDP {
	t.Helper()
	var sender *UDP
	p.near.do(t, func() (err error) {
		sender, err = NewUDP(t.Context(), remote, opts)
		return err
	})
	t.Cleanup(func() { sender.Close() })
	return sender
}

// tcp makes a sender at the near end.
func (p *pair) tcp(t *testing.T, remote netip.AddrPort, opts Options) *TCP {
	t.Helper()
	var sender *TCP
	p.near.do(t, func() (err error) {
		sender, err = NewTCP(t.Context(), remote, opts)
		return err
	})
	t.Cleanup(func() { sender.Close() })
	return sender
}

// settled waits until what a sink received is what it should be.
func settled[T any](t *testing.T, received func() T, right func(T) bool) T {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for {
		got := received()
		if right(got) || ctx.Err() != nil {
			return got
		}
		time.Sleep(time.Millisecond)
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
