// Package socket has what package net lacks of a socket.
package socket

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Control runs fn with the descriptor, and returns its error.
func Control(conn syscall.RawConn, fn func(fd int) error) error {
	var failure error
	if err := conn.Control(func(fd uintptr) { failure = fn(int(fd)) }); err != nil {
		return err
	}
	return failure
}

// AddrPort returns the IP address and port of a socket address, without IPv4 in IPv6.
func AddrPort(addr net.Addr) netip.AddrPort {
	ap := addr.(interface{ AddrPort() netip.AddrPort }).AddrPort()
	return netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port())
}

// Interruptible makes waiting on conn end when ctx does, until release is called.
func Interruptible(ctx context.Context, conn interface{ SetDeadline(time.Time) error }) (release func()) {
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

// Ended prefers the reason why ctx ended to the time-out that it brought about.
func Ended(ctx context.Context, err error) error {
	if err != nil && ctx.Err() != nil {
		return ctx.Err()
	}
	return err
}

// ReceiveDrops returns how many datagrams a socket's full receive buffer turned
// away: SK_MEMINFO_DROPS of SO_MEMINFO, since 4.12.
func ReceiveDrops(conn *net.UDPConn) (int, error) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return 0, err
	}
	var values [9]uint32
	length := uint32(unsafe.Sizeof(values))
	err = Control(raw, func(fd int) error {
		_, _, errno := unix.Syscall6(unix.SYS_GETSOCKOPT, uintptr(fd), unix.SOL_SOCKET, unix.SO_MEMINFO,
			uintptr(unsafe.Pointer(&values)), uintptr(unsafe.Pointer(&length)), 0)
		if errno != 0 {
			return fmt.Errorf("SO_MEMINFO: %w", errno)
		}
		return nil
	})
	return int(values[8]), err
}
