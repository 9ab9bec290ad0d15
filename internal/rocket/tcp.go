package rocket

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"xentrace/internal/socket"
)

// ErrNotAcknowledged reports that what was sent earlier is not acknowledged yet.
var ErrNotAcknowledged = errors.New("earlier segments are not acknowledged")

// TCP sends segments that need many slots over one connection. Its headers are in
// the packet's head, each write across a slot boundary: by default 35 slots for
// 1360 bytes.
type TCP struct {
	opts   Options
	plan   plan
	stream *Stream
	bench  *bench

	mu     sync.Mutex
	closed bool
	number uint64
}

// NewTCP connects to remote, with sockets in the network namespace of the calling
// thread, and checks that one segment holds the packet.
func NewTCP(ctx context.Context, remote netip.AddrPort, opts Options) (*TCP, error) {
	opts.Writes, opts.WriteLength = cmp.Or(opts.Writes, 17), cmp.Or(opts.WriteLength, 80)
	if opts.Writes < 1 || opts.WriteLength < 2 || opts.WriteLength > maxWrite {
		return nil, fmt.Errorf("tcp: %d writes of %d bytes: need at least 1, of 2 to %d bytes",
			opts.Writes, opts.WriteLength, maxWrite)
	}
	t := &TCP{opts: opts, plan: newPlan(opts.Writes, opts.WriteLength, os.Getpagesize())}
	var err error
	if t.bench, err = newBench(ctx); err != nil {
		return nil, fmt.Errorf("tcp: %w", err)
	}
	if t.stream, err = newStream(ctx, remote, opts); err != nil {
		return nil, errors.Join(err, t.bench.close())
	}
	if err := t.stream.fits(opts.Writes * opts.WriteLength); err != nil {
		return nil, errors.Join(err, t.Close())
	}
	return t, nil
}

// Stream is the connection, for ordinary traffic over it between two calls of Send.
func (t *TCP) Stream() *Stream { return t.stream }

// Send hands one segment to the kernel. Calls wait for each other, and for the
// acknowledgement of what was sent earlier, which would share the segment
// otherwise; with Options.NoWait they do not.
func (t *TCP) Send(ctx context.Context) (Sent, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		return Sent{}, fmt.Errorf("tcp: %w", ErrClosed)
	}
	if !t.opts.NoWait {
		if err := t.stream.WaitAcknowledged(ctx); err != nil {
			return Sent{}, err
		}
	}
	s := t.stream
	sent := Sent{
		Local: s.Local(), Remote: s.remote, Length: t.opts.Writes * t.opts.WriteLength, Writes: t.opts.Writes,
		Number: t.number, Slots: 1 + 2*t.opts.Writes,
		Position: s.position,
	}
	err := t.bench.send(ctx, t.plan, s, func() (err error) {
		sent.Split, err = t.writeAll()
		return err
	})
	if err != nil {
		return Sent{}, fmt.Errorf("tcp: %w", socket.Ended(ctx, err))
	}
	t.number++
	return sent, nil
}

// writeAll makes the writes and those between them, on a corked
// connection and takes the cork out. split: the kernel did so before: its
// probe timer sends what is corked after one RTO, at least 200 ms.
func (t *TCP) writeAll() (split bool, err error) {
	if err := t.stream.cork(1); err != nil {
		return false, err
	}
	for i := range t.opts.Writes {
		err := t.bench.write(t.plan.before[i])
		if err == nil {
			err = t.stream.write(t.opts.WriteLength)
		}
		if err != nil {
			return false, errors.Join(fmt.Errorf("write %d: %w", i, err), t.stream.cork(0))
		}
	}
	info, err := t.stream.Info()
	split = err == nil && int(info.Notsent_bytes) < t.opts.Writes*t.opts.WriteLength
	return split, errors.Join(err, t.stream.cork(0))
}

// Close closes the connection: the kernel keeps retransmitting what is not
// acknowledged. Closing twice is harmless.
func (t *TCP) Close() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		return nil
	}
	t.closed = true
	return errors.Join(t.stream.Close(), t.bench.close())
}

// Stream is a TCP connection whose bytes follow a pattern that the receiver can check.
type Stream struct {
	*net.TCPConn
	remote   netip.AddrPort
	raw      syscall.RawConn
	position uint64 // of the next byte
}

// newStream connects to remote, with a socket in the network namespace of the
// calling thread.
func newStream(ctx context.Context, remote netip.AddrPort, opts Options) (*Stream, error) {
	conn, err := dialer(opts).DialContext(ctx, "tcp", remote.String())
	if err != nil {
		return nil, fmt.Errorf("tcp: %w", err)
	}
	s := &Stream{TCPConn: conn.(*net.TCPConn), remote: remote}
	s.raw, err = s.SyscallConn() // fails only without a socket
	return s, err
}

// Local returns the connection's own address.
func (s *Stream) Local() netip.AddrPort { return socket.AddrPort(s.LocalAddr()) }

// fits is an error unless one segment carries that many bytes, options deducted.
func (s *Stream) fits(length int) error {
	info, err := s.Info()
	if err == nil && (length < 1 || length > int(info.Snd_mss)) {
		err = fmt.Errorf("tcp: segment of %d bytes: the connection carries %d", length, info.Snd_mss)
	}
	return err
}

// Info asks for TCP_INFO.
func (s *Stream) Info() (info *unix.TCPInfo, err error) {
	err = socket.Control(s.raw, func(fd int) (err error) {
		info, err = unix.GetsockoptTCPInfo(fd, unix.SOL_TCP, unix.TCP_INFO)
		return err
	})
	return info, named("TCP_INFO", err)
}

func (s *Stream) cork(value int) error {
	return socket.Control(s.raw, func(fd int) error {
		return named("TCP_CORK", unix.SetsockoptInt(fd, unix.SOL_TCP, unix.TCP_CORK, value))
	})
}

// write writes the next n bytes of the pattern with one system call.
func (s *Stream) write(n int) error {
	data := make([]byte, n)
	fillPattern(data, 0, s.position)
	if err := send(s.raw, data, 0); err != nil {
		return err
	}
	s.position += uint64(n)
	return nil
}

// Segments sends n segments of the given length, each acknowledged before the
// next: n packets with data, as long as none is lost.
func (s *Stream) Segments(ctx context.Context, n, length int) error {
	if err := s.fits(length); err != nil {
		return err
	}
	for range n {
		if err := s.write(length); err != nil {
			return fmt.Errorf("tcp: %w", err)
		}
		if err := s.WaitAcknowledged(ctx); err != nil {
			return err
		}
	}
	return nil
}

// Unacknowledged returns how many bytes the far end has not acknowledged (SIOCOUTQ).
func (s *Stream) Unacknowledged() (n int, err error) {
	err = socket.Control(s.raw, func(fd int) error {
		n, err = unix.IoctlGetInt(fd, unix.SIOCOUTQ)
		return err
	})
	return n, named("tcp: SIOCOUTQ", err)
}

// WaitAcknowledged waits until the far end has acknowledged everything sent. When
// ctx ends first the error is ErrNotAcknowledged, with ctx's.
func (s *Stream) WaitAcknowledged(ctx context.Context) error {
	// Nothing reports an acknowledgement when the send queue was not full.
	for pause := 20 * time.Microsecond; ; pause = min(2*pause, 2*time.Millisecond) {
		n, err := s.Unacknowledged()
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
