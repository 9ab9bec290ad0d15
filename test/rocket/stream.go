package rocket

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"

	"xentrace/internal/socket"
)

// Stream sends ordinary TCP traffic whose every byte the receiver can check. It is not
// for use by several goroutines at once.
type Stream struct {
	*net.TCPConn
	position uint64 // of the next byte
}

// NewStream connects to remote, with a socket in the network namespace of the
// calling thread.
func NewStream(ctx context.Context, remote netip.AddrPort, opts Options) (*Stream, error) {
	conn, err := dialer(opts).DialContext(ctx, "tcp", remote.String())
	if err != nil {
		return nil, fmt.Errorf("tcp: %w", err)
	}
	return &Stream{TCPConn: conn.(*net.TCPConn)}, nil
}

// Position returns how many bytes have been handed to the kernel.
func (s *Stream) Position() uint64 { return s.position }

// Bulk sends n bytes as fast as the connection takes them.
func (s *Stream) Bulk(ctx context.Context, n int64) error {
	defer socket.Interruptible(ctx, s)()
	data := make([]byte, 256<<10)
	for n > 0 {
		written, err := s.write(data[:min(n, int64(len(data)))])
		n -= int64(written)
		if err != nil {
			return fmt.Errorf("tcp: %w", socket.Ended(ctx, err))
		}
	}
	return nil
}

// write writes the next bytes of the pattern.
func (s *Stream) write(data []byte) (int, error) {
	fillPattern(data, 0, s.position)
	n, err := s.Write(data)
	s.position += uint64(n)
	return n, err
}

// Segments sends n segments of the given length, each acknowledged before the
// next: n packets with data, as long as none is lost.
func (s *Stream) Segments(ctx context.Context, n, length int) error {
	raw, err := s.SyscallConn()
	if err != nil {
		return err
	}
	var info *unix.TCPInfo
	err = socket.Control(raw, func(fd int) (err error) {
		info, err = unix.GetsockoptTCPInfo(fd, unix.SOL_TCP, unix.TCP_INFO)
		return err
	})
	if err != nil || length < 1 || length > int(info.Snd_mss) {
		return errors.Join(fmt.Errorf("tcp: segment of %d bytes is longer than the connection carries, or empty", length), err)
	}
	data := make([]byte, length)
	for range n {
		if _, err := s.write(data); err != nil {
			return fmt.Errorf("tcp: %w", err)
		}
		if err := s.WaitAcknowledged(ctx); err != nil {
			return err
		}
	}
	return nil
}

// WaitAcknowledged waits until the far end has acknowledged everything sent.
func (s *Stream) WaitAcknowledged(ctx context.Context) error {
	raw, err := s.SyscallConn()
	if err != nil {
		return err
	}
	for pause := 20 * time.Microsecond; ; pause = min(2*pause, 2*time.Millisecond) {
		var n int
		err := socket.Control(raw, func(fd int) (err error) {
			n, err = unix.IoctlGetInt(fd, unix.SIOCOUTQ)
			return err
		})
		if err != nil || n == 0 {
			return err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("tcp: %d bytes: %w: %w", n, ErrNotAcknowledged, ctx.Err())
		case <-time.After(pause):
		}
	}
}
