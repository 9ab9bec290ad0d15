package netns

import (
	"errors"
	"net"
	"net/netip"
	"os"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// connection is an ordinary TCP connection from near to far, whose kernel state the
// test can ask for itself.
type connection struct {
	t    *testing.T
	conn *net.TCPConn
	far  *listener
}

// connect makes one; without a network, "tcp4" or "tcp6", an IPv6 socket reaches an
// IPv4 address.
func (l *lab) connect(network string, to netip.AddrPort) *connection {
	l.t.Helper()
	c := &connection{t: l.t}
	var err error
	if network == "" {
		c.conn, err = connectMapped(to)
	} else {
		c.conn, err = net.DialTCP(network, nil, net.TCPAddrFromAddrPort(to))
	}
	must(l.t, err)
	l.t.Cleanup(func() { _ = c.conn.Close() })
	return c
}

// connectMapped connects an IPv6 socket to an IPv4 address mapped into IPv6.
func connectMapped(to netip.AddrPort) (*net.TCPConn, error) {
	fd, err := unix.Socket(unix.AF_INET6, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	file := os.NewFile(uintptr(fd), "connection")
	defer func() { _ = file.Close() }()
	if err := unix.Connect(fd, &unix.SockaddrInet6{Addr: to.Addr().As16(), Port: int(to.Port())}); err != nil {
		return nil, err
	}
	conn, err := net.FileConn(file)
	if err != nil {
		return nil, err
	}
	return conn.(*net.TCPConn), nil
}

// A listener at the far end, and the connection that it accepted.
type listener struct {
	t       *testing.T
	inner   *net.TCPListener
	address netip.AddrPort
	conn    *net.TCPConn
}

func (l *lab) listen() *listener {
	l.t.Helper()
	far := &listener{t: l.t}
	must(l.t, l.far.Namespace.Do(func() (err error) {
		far.inner, err = net.ListenTCP("tcp4", &net.TCPAddr{IP: net.IP(farAddress.Addr().AsSlice())})
		return err
	}))
	l.t.Cleanup(func() { _ = far.inner.Close() })
	far.address = far.inner.Addr().(*net.TCPAddr).AddrPort()
	return far
}

func (f *listener) accept() {
	f.t.Helper()
	conn, err := f.inner.AcceptTCP()
	must(f.t, err)
	f.conn = conn
	f.t.Cleanup(func() { _ = conn.Close() })
}

// reset ends the connection at the far end.
func (f *listener) reset() error { return errors.Join(f.conn.SetLinger(0), f.conn.Close()) }

// option sets an option of TCP.
func (c *connection) option(name, value int) {
	c.t.Helper()
	raw, err := c.conn.SyscallConn()
	must(c.t, err)
	var failed error
	must(c.t, raw.Control(func(fd uintptr) { failed = unix.SetsockoptInt(int(fd), unix.SOL_TCP, name, value) }))
	must(c.t, failed)
}

// write sends n bytes.
func (c *connection) write(n int) {
	c.t.Helper()
	_, err := c.conn.Write(make([]byte, n))
	must(c.t, err)
}

// info asks for TCP_INFO.
func (c *connection) info() *unix.TCPInfo {
	c.t.Helper()
	raw, err := c.conn.SyscallConn()
	must(c.t, err)
	var info *unix.TCPInfo
	var failed error
	must(c.t, raw.Control(func(fd uintptr) {
		info, failed = unix.GetsockoptTCPInfo(int(fd), unix.SOL_TCP, unix.TCP_INFO)
	}))
	must(c.t, failed)
	return info
}

func (c *connection) port() int { return c.conn.LocalAddr().(*net.TCPAddr).Port }

// shrink makes the far interface take no packets above that MTU: the near one's
// driver drops them, each time that they are retransmitted.
func (l *lab) shrink(mtu int) {
	l.t.Helper()
	must(l.t, l.far.Namespace.Do(func() error {
		link, err := netlink.LinkByName("far")
		if err != nil {
			return err
		}
		return netlink.LinkSetMTU(link, mtu)
	}))
}

// queueOf puts a queue before the near interface, so that TCP does not learn at once what
// the driver dropped; it waits for its timer then, as it does with xen-netfront.
func queueOf(t *testing.T) {
	t.Helper()
	must(t, netlink.QdiscReplace(&netlink.Tbf{
		QdiscAttrs: netlink.QdiscAttrs{LinkIndex: linkIndex(t, "near"), Handle: netlink.MakeHandle(1, 0), Parent: netlink.HANDLE_ROOT},
		Rate:       1 << 30, Buffer: 1 << 20, Limit: 1 << 20,
	}))
}

// Far MTUs: one that all packets of these tests fit into, and one that 1200 bytes
// of data do not.
const (
	wide, narrow = 1500, 1280
	much, little = 1240, 100
)
