package netns

import (
	"fmt"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"xentrace/test/tool"
)

// connection is an ordinary TCP connection from near to far, whose kernel state the
// test can ask for itself.
type connection struct {
	t    *testing.T
	conn *net.TCPConn
}

func (l *lab) connect(to netip.AddrPort) *connection {
	l.t.Helper()
	conn, err := net.DialTCP("tcp", nil, net.TCPAddrFromAddrPort(to))
	must(l.t, err)
	l.t.Cleanup(func() { _ = conn.Close() })
	return &connection{l.t, conn}
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
// driver drops them, each time that they are sent again.
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

func TestProto(t *testing.T) {
	l := newLab(t)
	sink := l.tcpSink(farAddress.Addr())
	bad, good := l.connect(sink.Local()), l.connect(sink.Local())
	watch := watchAll(t)
	before := bad.info().Total_retrans
	l.shrink(1000)
	bad.write(1200)
	good.write(100)
	watch.Tells(`"event":"stalled"`, 1)
	time.Sleep(2*time.Second)
	l.shrink(1500)
	watch.Tells(`"event":"recovered"`, 1)
	fmt.Println(bad.info().Total_retrans-before)
	_ = bad.conn.Close()
	time.Sleep(500*time.Millisecond)
	output := watch.Stop()
	fmt.Println(output.Stdout, output.Stderr)
}

var _ = tool.Start
