package rocket

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// filler is a TCP connection to itself over loopback. What is written to it moves
// the writing thread's page fragment on; it stays unread until the packet is on
// its way, since a block whose users have all gone is used again from its start.
type filler struct {
	writer, reader *net.TCPConn
	raw            syscall.RawConn // of writer
	unread         int             // bytes
	data           []byte
}

// fillerBuffer is half of what the connection's buffers hold at each end, if
// net.core.wmem_max and rmem_max allow it: for one packet some 128 KiB are written.
const fillerBuffer = 256 << 10

// loopbackPatience is how long a connection over loopback may take: where a packet filter
// drops it the kernel would try for two minutes.
const loopbackPatience = 5 * time.Second

// newFiller connects over loopback, with IPv4 or, without that, IPv6, in the
// network namespace of the calling thread.
func newFiller(ctx context.Context) (*filler, error) {
	var errs []error
	for _, address := range []string{"127.0.0.1:0", "[::1]:0"} {
		f, err := connectFiller(ctx, address)
		if err == nil {
			return f, nil
		}
		errs = append(errs, err)
	}
	return nil, fmt.Errorf("loopback connection (is lo up in this network namespace?): %w", errors.Join(errs...))
}

// connectFiller makes the connection on one loopback address.
func connectFiller(ctx context.Context, address string) (*filler, error) {
	large := func(_, _ string, conn syscall.RawConn) error {
		return control(conn, func(fd int) error {
			// Before the connection is made, so that the window can be scaled.
			return errors.Join(unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_SNDBUF, fillerBuffer),
				unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, fillerBuffer))
		})
	}
	config := net.ListenConfig{Control: large, KeepAlive: -1}
	config.SetMultipathTCP(false)
	listener, err := config.Listen(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	defer listener.Close()
	d := net.Dialer{Control: large, KeepAlive: -1, Timeout: loopbackPatience}
	conn, err := d.DialContext(ctx, "tcp", listener.Addr().String())
	if err != nil {
		return nil, err
	}
	f := &filler{writer: conn.(*net.TCPConn), data: make([]byte, 16<<10)}
	if f.raw, err = f.writer.SyscallConn(); err != nil {
		return nil, errors.Join(err, f.close())
	}
	// Anyone on the machine could have connected too.
	for f.reader == nil {
		other, err := listener.Accept()
		if err != nil {
			return nil, errors.Join(err, f.close())
		}
		if other.RemoteAddr().String() == f.writer.LocalAddr().String() {
			f.reader = other.(*net.TCPConn)
		} else {
			other.Close()
		}
	}
	return f, nil
}

// write moves the calling thread's page fragment on by n bytes. It waits for
// nothing: what was written is to lie there until the packet is sent.
func (f *filler) write(n int) error {
	for n > 0 {
		taken := 0
		err := control(f.raw, func(fd int) (err error) {
			taken, err = unix.SendmsgN(fd, f.data[:min(n, len(f.data))], nil, nil, unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL)
			return err
		})
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if errors.Is(err, unix.EAGAIN) {
			return fmt.Errorf("loopback connection takes only %d bytes (net.core.wmem_max, rmem_max): %w", f.unread, err)
		}
		if err != nil {
			return fmt.Errorf("loopback connection: %w", err)
		}
		n -= taken
		f.unread += taken
	}
	return nil
}

// drain reads what was written.
func (f *filler) drain(ctx context.Context) error {
	defer interruptible(ctx, f.reader)()
	n, err := io.CopyN(io.Discard, f.reader, int64(f.unread))
	f.unread -= int(n)
	if err != nil {
		return fmt.Errorf("loopback connection: %w", ended(ctx, err))
	}
	return nil
}

// close ends the connection.
func (f *filler) close() error {
	var errs []error
	for _, conn := range []*net.TCPConn{f.writer, f.reader} {
		if conn != nil {
			errs = append(errs, conn.Close())
		}
	}
	return errors.Join(errs...)
}
