package rocket

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// dialer makes sockets that bring no packets of their own.
func dialer(opts Options) *net.Dialer {
	return &net.Dialer{KeepAlive: -1, Control: func(_, _ string, conn syscall.RawConn) error {
		if opts.Device == "" {
			return nil
		}
		return control(conn, func(fd int) error { return unix.BindToDevice(fd, opts.Device) })
	}}
}

// control runs fn with the descriptor, and returns its error.
func control(conn syscall.RawConn, fn func(fd int) error) error {
	var failure error
	if err := conn.Control(func(fd uintptr) { failure = fn(int(fd)) }); err != nil {
		return err
	}
	return failure
}

// addrPort returns the IP address and port of a socket address.
func addrPort(addr net.Addr) netip.AddrPort {
	ap := addr.(interface{ AddrPort() netip.AddrPort }).AddrPort()
	return netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port())
}

// interruptible makes waiting on conn end when ctx does, until release is called.
func interruptible(ctx context.Context, conn interface{ SetDeadline(time.Time) error }) (release func()) {
	done := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(done)
		conn.SetDeadline(time.Unix(1, 0))
	})
	return func() {
		if !stop() {
			<-done
			conn.SetDeadline(time.Time{})
		}
	}
}

// ended prefers the reason why ctx ended to the time-out that it brought about.
func ended(ctx context.Context, err error) error {
	if err != nil && ctx.Err() != nil {
		return ctx.Err()
	}
	return err
}

// returned reports whether an error of a datagram socket is one that an earlier
// datagram brought back, such as a port that nobody listens on.
func returned(err error) bool {
	return errors.Is(err, unix.ECONNREFUSED) || errors.Is(err, unix.EHOSTUNREACH)
}

// receiveDrops returns how many datagrams a socket's full receive buffer turned
// away: SK_MEMINFO_DROPS of SO_MEMINFO, since 4.12.
func receiveDrops(conn *net.UDPConn) (int, error) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return 0, err
	}
	var values [9]uint32
	length := uint32(unsafe.Sizeof(values))
	err = control(raw, func(fd int) error {
		_, _, errno := unix.Syscall6(unix.SYS_GETSOCKOPT, uintptr(fd), unix.SOL_SOCKET, unix.SO_MEMINFO,
			uintptr(unsafe.Pointer(&values)), uintptr(unsafe.Pointer(&length)), 0)
		if errno != 0 {
			return fmt.Errorf("SO_MEMINFO: %w", errno)
		}
		return nil
	})
	return int(values[8]), err
}
