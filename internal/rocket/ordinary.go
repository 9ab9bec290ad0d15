package rocket

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
)

// Datagrams sends ordinary UDP datagrams, each one packet, whose every byte the
// receiver can check.
type Datagrams struct {
	remote netip.AddrPort
	conn   *net.UDPConn
	number uint64
}

// NewDatagrams makes a sender to remote, with a socket in the network namespace of
// the calling thread. It is not for use by several goroutines at once.
func NewDatagrams(ctx context.Context, remote netip.AddrPort, opts Options) (*Datagrams, error) {
	conn, err := dialer(opts).DialContext(ctx, "udp", remote.String())
	if err != nil {
		return nil, fmt.Errorf("udp: %w", err)
	}
	return &Datagrams{remote: remote, conn: conn.(*net.UDPConn)}, nil
}

// Local returns the address the datagrams come from.
func (d *Datagrams) Local() netip.AddrPort { return addrPort(d.conn.LocalAddr()) }

// Cookie returns the kernel's number of the socket, by which its packets are known.
func (d *Datagrams) Cookie() (uint64, error) {
	raw, err := d.conn.SyscallConn()
	if err != nil {
		return 0, err
	}
	return cookie(raw)
}

// Send sends n datagrams with a payload of length bytes, at least [HeaderLength].
func (d *Datagrams) Send(ctx context.Context, n, length int) error {
	if length < HeaderLength {
		return fmt.Errorf("udp: payload of %d bytes: need %d", length, HeaderLength)
	}
	defer interruptible(ctx, d.conn)()
	data := make([]byte, length)
	for range n {
		fillDatagram(data, d.number)
		if err := d.sendOne(data); err != nil {
			return fmt.Errorf("udp: datagram %d: %w", d.number, ended(ctx, err))
		}
		d.number++
	}
	return nil
}

// sendOne sends one datagram, past the errors that earlier ones brought back.
func (d *Datagrams) sendOne(data []byte) error {
	for attempt := 0; ; attempt++ {
		_, err := d.conn.Write(data)
		if err == nil || attempt == 3 || !returned(err) {
			return err
		}
	}
}

// Close closes the socket.
func (d *Datagrams) Close() error { return d.conn.Close() }

// Held are datagrams that lie unread on loopback. Each keeps its packet's head
// allocated, so that the heads of packets sent next come from other places of
// their slab: some across a page boundary since 6.3, whose small heads have a size
// that is not a power of two.
type Held struct {
	receivers []*net.UDPConn
	count     int
}

// heldPerReceiver fits the default receive buffer of 212992 bytes: a small
// datagram is accounted with its head, up to 1280 bytes.
const heldPerReceiver = 160

// Hold sends n datagrams with a payload of length bytes (at most 512) to itself
// over loopback, in the network namespace of the calling thread, and leaves them
// unread until Close.
func Hold(ctx context.Context, n, length int) (*Held, error) {
	if length < HeaderLength || length > 512 {
		return nil, fmt.Errorf("hold: payload of %d bytes: need %d to 512", length, HeaderLength)
	}
	h := &Held{}
	for h.count < n {
		if err := h.add(ctx, min(heldPerReceiver, n-h.count), length); err != nil {
			return nil, errors.Join(fmt.Errorf("hold: %w", err), h.Close())
		}
	}
	return h, nil
}

// add holds up to n more in a socket of their own.
func (h *Held) add(ctx context.Context, n, length int) error {
	var config net.ListenConfig
	receiver, err := config.ListenPacket(ctx, "udp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	conn := receiver.(*net.UDPConn)
	h.receivers = append(h.receivers, conn)
	sender, err := NewDatagrams(ctx, addrPort(conn.LocalAddr()), Options{})
	if err != nil {
		return err
	}
	defer sender.Close()
	if err := sender.Send(ctx, n, length); err != nil {
		return err
	}
	refused, err := receiveDrops(conn)
	if err != nil {
		return err
	}
	if refused >= n {
		return fmt.Errorf("receive buffer takes no datagram of %d bytes", length)
	}
	h.count += n - refused
	return nil
}

// Close lets them go.
func (h *Held) Close() error {
	var errs []error
	for _, conn := range h.receivers {
		errs = append(errs, conn.Close())
	}
	h.receivers, h.count = nil, 0
	return errors.Join(errs...)
}
