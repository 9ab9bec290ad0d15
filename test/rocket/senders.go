package rocket

import (
	"context"
	"errors"
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"

	"xentrace/internal/rocket"
	"xentrace/internal/socket"
)

// Options shape the packets.
type Options = rocket.Options

// The program's own names.
const (
	HeaderLength = rocket.HeaderLength
	MinSlots     = rocket.MinSlots
	MaxSlots     = rocket.MaxSlots
)

// The program's own errors.
var (
	ErrClosed          = rocket.ErrClosed
	ErrSinglePages     = rocket.ErrSinglePages
	ErrNotAcknowledged = rocket.ErrNotAcknowledged
)

// Sent is what was handed to the kernel.
type Sent struct {
	rocket.Sent
	// Seq is the TCP sequence number of the first byte, valid if SeqKnown: reading
	// it needs CAP_NET_ADMIN.
	Seq      uint32
	SeqKnown bool
}

// UDP sends datagrams that need many slots.
type UDP struct{ *rocket.UDP }

// NewUDP makes a sender to remote.
func NewUDP(ctx context.Context, remote netip.AddrPort, opts Options) (*UDP, error) {
	u, err := rocket.NewUDP(ctx, remote, opts)
	return &UDP{u}, err
}

// Send hands one datagram to the kernel.
func (u *UDP) Send(ctx context.Context) (Sent, error) {
	sent, err := u.UDP.Send(ctx)
	return Sent{Sent: sent}, err
}

// Datagrams sends ordinary UDP datagrams.
type Datagrams struct {
	*rocket.Datagrams
	number uint64
}

// NewDatagrams makes a sender to remote.
func NewDatagrams(ctx context.Context, remote netip.AddrPort, opts Options) (*Datagrams, error) {
	d, err := rocket.NewDatagrams(ctx, remote, opts)
	return &Datagrams{Datagrams: d}, err
}

// Send sends n datagrams with a payload of length bytes.
func (d *Datagrams) Send(ctx context.Context, n, length int) error {
	err := d.Datagrams.Send(ctx, n, length)
	if err == nil {
		d.number += uint64(n)
	}
	return err
}

// Number returns how many datagrams have been sent, by calls without an error.
func (d *Datagrams) Number() uint64 { return d.number }

// Hold leaves n datagrams unread on loopback until they are closed.
func Hold(ctx context.Context, n, length int) (*rocket.Held, error) {
	return rocket.Hold(ctx, n, length)
}

// TCP sends segments that need many slots over one connection.
type TCP struct {
	*rocket.TCP
	first      uint32 // sequence number of position 0
	firstKnown bool
}

// NewTCP connects to remote.
func NewTCP(ctx context.Context, remote netip.AddrPort, opts Options) (*TCP, error) {
	sender, err := rocket.NewTCP(ctx, remote, opts)
	if err != nil {
		return nil, err
	}
	t := &TCP{TCP: sender}
	raw, err := t.Stream().SyscallConn()
	if err != nil {
		return nil, errors.Join(err, t.Close())
	}
	t.firstKnown = socket.Control(raw, func(fd int) (err error) {
		t.first, err = nextSeq(fd)
		return err
	}) == nil
	return t, nil
}

// Local returns the connection's own address.
func (t *TCP) Local() netip.AddrPort { return t.Stream().Local() }

// Send hands one segment to the kernel.
func (t *TCP) Send(ctx context.Context) (Sent, error) {
	sent, err := t.TCP.Send(ctx)
	return Sent{Sent: sent, Seq: t.first + uint32(sent.Position), SeqKnown: t.firstKnown}, err
}

// WaitAcknowledged waits until the far end has acknowledged everything sent.
func (t *TCP) WaitAcknowledged(ctx context.Context) error { return t.Stream().WaitAcknowledged(ctx) }

// Unacknowledged returns how many bytes the far end has not acknowledged.
func (t *TCP) Unacknowledged() (int, error) { return t.Stream().Unacknowledged() }

// Abort closes the connection with a reset and forgets what was not acknowledged.
func (t *TCP) Abort() error {
	// Closed before if it fails.
	_ = t.Stream().SetLinger(0)
	return t.Close()
}

// tcpRepairOffNoProbe is TCP_REPAIR_OFF_NO_WP, since 4.19: leave the repair mode
// without sending a window probe.
const tcpRepairOffNoProbe = -1

// nextSeq asks for write_seq, which only the repair mode shows, to CAP_NET_ADMIN.
func nextSeq(fd int) (uint32, error) {
	if err := unix.SetsockoptInt(fd, unix.SOL_TCP, unix.TCP_REPAIR, 1); err != nil {
		return 0, fmt.Errorf("TCP_REPAIR: %w", err)
	}
	const sendQueue = 2 // TCP_SEND_QUEUE
	seq := 0
	err := unix.SetsockoptInt(fd, unix.SOL_TCP, unix.TCP_REPAIR_QUEUE, sendQueue)
	if err == nil {
		seq, err = unix.GetsockoptInt(fd, unix.SOL_TCP, unix.TCP_QUEUE_SEQ)
	}
	return uint32(seq), errors.Join(err, unix.SetsockoptInt(fd, unix.SOL_TCP, unix.TCP_REPAIR, tcpRepairOffNoProbe))
}
