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

	"golang.org/x/sys/unix"

	"xentrace/internal/socket"
)

// ErrSinglePages reports that the kernel gave page fragments of a single page, in
// which nothing can straddle a boundary: a write becomes two fragments, and the
// datagram more than a packet has. If memory was short for a moment only, the next
// Send succeeds. Not every shortage shows: a packet may get fewer slots than meant.
var ErrSinglePages = errors.New("page fragments are single pages (net.core.high_order_alloc_disable, or memory is short)")

// UDP sends datagrams that need many slots. Its first write is in the packet's
// head, each other across a slot boundary: by default 27 slots for 1120 bytes.
type UDP struct {
	remote netip.AddrPort
	opts   Options
	plan   plan // of the writes but the first

	mu     sync.Mutex
	closed bool
	conn   *net.UDPConn
	raw    syscall.RawConn
	bench  *bench
	number uint64
}

// NewUDP makes a sender to remote, with sockets in the network namespace of the
// calling thread. It sends nothing yet.
func NewUDP(ctx context.Context, remote netip.AddrPort, opts Options) (*UDP, error) {
	if opts.Slots != 0 {
		if opts.Slots < MinSlots || opts.Slots > MaxSlots {
			return nil, fmt.Errorf("udp: %d slots: can be %d to %d", opts.Slots, MinSlots, MaxSlots)
		}
		opts.Writes = opts.Slots/2 + 1
	}
	opts.Writes, opts.WriteLength = cmp.Or(opts.Writes, 14), cmp.Or(opts.WriteLength, 80)
	if opts.Writes < 1 || opts.WriteLength < HeaderLength || opts.WriteLength > maxWrite {
		return nil, fmt.Errorf("udp: %d writes of %d bytes: need at least 1, of %d to %d bytes",
			opts.Writes, opts.WriteLength, HeaderLength, maxWrite)
	}
	opts.Slots = cmp.Or(opts.Slots, 1+2*(opts.Writes-1))
	u := &UDP{remote: remote, opts: opts, plan: newSlotPlan(opts.Slots-1, opts.WriteLength, os.Getpagesize())}
	var err error
	if u.bench, err = newBench(ctx); err != nil {
		return nil, fmt.Errorf("udp: %w", err)
	}
	if err := u.dial(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("udp: %w", err), u.bench.close())
	}
	return u, nil
}

// dial makes the socket and checks that one packet holds the datagram: parts of
// it, in packets of their own, would each need few slots.
func (u *UDP) dial(ctx context.Context) error {
	conn, err := dialer(u.opts).DialContext(ctx, "udp", u.remote.String())
	if err != nil {
		return err
	}
	u.conn = conn.(*net.UDPConn)
	if u.raw, err = u.conn.SyscallConn(); err == nil {
		err = socket.Control(u.raw, u.checkMTU)
	}
	if err != nil {
		return errors.Join(err, u.conn.Close())
	}
	return nil
}

func (u *UDP) checkMTU(fd int) error {
	level, discover, mtu, headers := unix.SOL_IP, unix.IP_MTU_DISCOVER, unix.IP_MTU, 20+8
	if !u.Local().Addr().Is4() {
		level, discover, mtu, headers = unix.SOL_IPV6, unix.IPV6_MTU_DISCOVER, unix.IPV6_MTU, 40+8
	}
	// IP_PMTUDISC_DO and IPV6_PMTUDISC_DO have the same value.
	if err := unix.SetsockoptInt(fd, level, discover, unix.IP_PMTUDISC_DO); err != nil {
		return fmt.Errorf("path MTU discovery: %w", err)
	}
	carries, err := unix.GetsockoptInt(fd, level, mtu)
	if length := u.opts.Writes*u.opts.WriteLength + headers; err == nil && length > carries {
		return fmt.Errorf("packet of %d bytes: the route carries %d", length, carries)
	}
	return named("path MTU", err)
}

// Local returns the address the datagrams come from.
func (u *UDP) Local() netip.AddrPort { return socket.AddrPort(u.conn.LocalAddr()) }

// Cookie returns the kernel's number of the socket, by which its packets are known.
func (u *UDP) Cookie() (uint64, error) { return cookie(u.raw) }

// Send hands one datagram to the kernel. Calls wait for each other. It fails with
// [ErrSinglePages], and sends nothing, if the kernel has no blocks to make it from.
func (u *UDP) Send(ctx context.Context) (Sent, error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.closed {
		return Sent{}, fmt.Errorf("udp: %w", ErrClosed)
	}
	data := make([]byte, u.opts.Writes*u.opts.WriteLength)
	fillDatagram(data, u.number)
	err := u.bench.send(ctx, u.plan, u.conn, func() error { return u.write(data) })
	if err != nil {
		return Sent{}, fmt.Errorf("udp: %w", socket.Ended(ctx, err))
	}
	sent := Sent{
		Local: u.Local(), Remote: u.remote, Length: len(data), Writes: u.opts.Writes,
		Number: u.number, Slots: u.opts.Slots,
	}
	u.number++
	return sent, nil
}

func (u *UDP) write(data []byte) error {
	err := u.writeAll(data)
	if err == nil {
		return nil
	}
	// What is left in the socket would begin the next datagram. The kernel throws
	// it away when a write cannot be added: none fits a datagram of 65535 bytes.
	// Past a deadline nothing may wait, but control does not.
	_ = socket.Control(u.raw, func(fd int) error {
		_, err := unix.SendmsgN(fd, make([]byte, 65500), nil, nil, unix.MSG_MORE|unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL)
		return err
	})
	if errors.Is(err, unix.EMSGSIZE) {
		if mtu := socket.Control(u.raw, u.checkMTU); mtu != nil {
			return mtu
		}
		return ErrSinglePages
	}
	return err
}

func (u *UDP) writeAll(data []byte) error {
	for i := range u.opts.Writes {
		if i > 0 {
			if err := u.bench.write(u.plan.before[i-1]); err != nil {
				return err
			}
		}
		flags := unix.MSG_MORE
		if i == u.opts.Writes-1 {
			flags = 0
		}
		part := data[i*u.opts.WriteLength : (i+1)*u.opts.WriteLength]
		write := func() error { return send(u.raw, part, flags) }
		if i == 0 {
			first := write
			write = func() error { return pastReturned(first) }
		}
		if err := write(); err != nil {
			return fmt.Errorf("write %d: %w", i, err)
		}
	}
	return nil
}

// pastReturned sends a datagram, past the errors that earlier ones brought back, such as a
// port that nobody listens on.
func pastReturned(send func() error) error {
	for attempt := 0; ; attempt++ {
		err := send()
		if attempt == 3 || !errors.Is(err, unix.ECONNREFUSED) && !errors.Is(err, unix.EHOSTUNREACH) {
			return err
		}
	}
}

// Close closes the sockets. Closing twice is harmless.
func (u *UDP) Close() error {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.closed {
		return nil
	}
	u.closed = true
	return errors.Join(u.conn.Close(), u.bench.close())
}

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
func (d *Datagrams) Local() netip.AddrPort { return socket.AddrPort(d.conn.LocalAddr()) }

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
	defer socket.Interruptible(ctx, d.conn)()
	data := make([]byte, length)
	for range n {
		fillDatagram(data, d.number)
		err := pastReturned(func() error { _, err := d.conn.Write(data); return err })
		if err != nil {
			return fmt.Errorf("udp: datagram %d: %w", d.number, socket.Ended(ctx, err))
		}
		d.number++
	}
	return nil
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

func (h *Held) add(ctx context.Context, n, length int) error {
	var config net.ListenConfig
	receiver, err := config.ListenPacket(ctx, "udp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	conn := receiver.(*net.UDPConn)
	h.receivers = append(h.receivers, conn)
	sender, err := NewDatagrams(ctx, socket.AddrPort(conn.LocalAddr()), Options{})
	if err != nil {
		return err
	}
	defer sender.Close()
	if err := sender.Send(ctx, n, length); err != nil {
		return err
	}
	refused, err := socket.ReceiveDrops(conn)
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
