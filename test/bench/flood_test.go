package bench

import (
	"fmt"
	"net/netip"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

// traffic sends packets of one kind as fast as it can. send is called on one
// thread only, allocates nothing and makes no other calls than it must.
type traffic struct {
	name  string
	slots int // of each packet
	frags int
	send  func(n int) error
	// multiple is what n is a multiple of; 0 is 1.
	multiple int
	// settle is called after what was measured; may be nil. With errUnsent it is as
	// if that had not been measured.
	settle func() error
}

// floodPayload is what the small datagrams carry, in bytes.
const floodPayload = 64

// message is struct mmsghdr.
type message struct {
	unix.Msghdr
	sent uint32
	_    uint32
}

// newFlood sends small datagrams, many with one call, to a machine that is not
// there: the receiver is to cost next to nothing.
func newFlood(l *lab) traffic {
	l.tb.Helper()
	socket := connect(l.tb, unix.SOCK_DGRAM, netip.AddrPortFrom(l.nobody(), 9))
	payload := make([]byte, floodPayload)
	part := unix.Iovec{Base: &payload[0]}
	part.SetLen(len(payload))
	messages := make([]message, 64)
	for i := range messages {
		messages[i].Iov = &part
		messages[i].SetIovlen(1)
	}
	return traffic{name: "udp, 64 bytes", slots: 1, send: func(n int) error {
		for n > 0 {
			sent, _, errno := unix.RawSyscall6(unix.SYS_SENDMMSG, uintptr(socket), uintptr(unsafe.Pointer(&messages[0])),
				uintptr(min(n, len(messages))), 0, 0, 0)
			if errno != 0 {
				return fmt.Errorf("sendmmsg: %w", errno)
			}
			n -= int(sent)
		}
		return nil
	}}
}

// bound makes a socket of the calling thread's namespace at some port of the address.
func bound(kind int, address netip.Addr) (int, error) {
	socket, err := unix.Socket(unix.AF_INET, kind|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return 0, fmt.Errorf("socket: %w", err)
	}
	if err := unix.Bind(socket, &unix.SockaddrInet4{Addr: address.As4()}); err != nil {
		return 0, fmt.Errorf("bind: %w", err)
	}
	return socket, nil
}

func localAddress(tb testing.TB, socket int) netip.AddrPort {
	tb.Helper()
	name, err := unix.Getsockname(socket)
	must(tb, err)
	inet := name.(*unix.SockaddrInet4)
	return netip.AddrPortFrom(netip.AddrFrom4(inet.Addr), uint16(inet.Port))
}

// connect makes a blocking socket of the calling thread's namespace.
func connect(tb testing.TB, kind int, remote netip.AddrPort) int {
	tb.Helper()
	socket, err := unix.Socket(unix.AF_INET, kind|unix.SOCK_CLOEXEC, 0)
	must(tb, err)
	tb.Cleanup(func() { must(tb, unix.Close(socket)) })
	must(tb, unix.Connect(socket, &unix.SockaddrInet4{Addr: remote.Addr().As4(), Port: int(remote.Port())}))
	return socket
}
