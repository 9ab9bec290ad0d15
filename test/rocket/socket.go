package rocket

import (
	"errors"
	"net"
	"syscall"

	"golang.org/x/sys/unix"

	"xentrace/internal/socket"
)

// dialer makes sockets that bring no packets of their own.
func dialer(opts Options) *net.Dialer {
	return &net.Dialer{KeepAlive: -1, Control: func(_, _ string, conn syscall.RawConn) error {
		if opts.Device == "" {
			return nil
		}
		return socket.Control(conn, func(fd int) error { return unix.BindToDevice(fd, opts.Device) })
	}}
}

// returned reports whether an error of a datagram socket is one that an earlier
// datagram brought back, such as a port that nobody listens on.
func returned(err error) bool {
	return errors.Is(err, unix.ECONNREFUSED) || errors.Is(err, unix.EHOSTUNREACH)
}
