package rocket

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"xentrace/internal/rocket"
	"xentrace/internal/socket"
)

// slotSize is what one slot of a Xen ring holds.
const slotSize = 4096

// The least and the most slots of a packet that [Exact] sends.
const (
	MinExactSlots = 2
	MaxExactSlots = 34
)

// exactLength is how long each part is; the first holds the datagram's header.
const exactLength = HeaderLength

// A huge page has room for the parts of this many datagrams, at every second
// page boundary of an area each, so that no two parts can be merged.
const (
	exactAreas    = 8
	exactAreaSize = 64 * slotSize
)

// Exact sends datagrams of a chosen number of slots. It gives the kernel the
// parts of a transparent huge page itself instead of a copy (MSG_ZEROCOPY, UDP
// since 5.0): a part across a page boundary is one fragment of two slots, since a
// huge page is one compound page. There are no huge pages in a Xen PV guest.
type Exact struct {
	remote netip.AddrPort
	page   *hugePage

	mu      sync.Mutex
	closed  bool
	conn    *net.UDPConn
	raw     syscall.RawConn
	number  uint64
	waiting int // datagrams whose memory the kernel still uses
}

// NewExact makes a sender to remote, with a socket in the network namespace of the
// calling thread. It fails with [ErrNoHugePage] where the kernel gives none.
func NewExact(ctx context.Context, remote netip.AddrPort, opts Options) (*Exact, error) {
	page, err := newHugePage()
	if err != nil {
		return nil, fmt.Errorf("exact: %w", err)
	}
	conn, err := dialer(opts).DialContext(ctx, "udp", remote.String())
	if err != nil {
		return nil, errors.Join(fmt.Errorf("exact: %w", err), page.close())
	}
	e := &Exact{remote: remote, page: page, conn: conn.(*net.UDPConn)}
	if e.raw, err = e.conn.SyscallConn(); err == nil {
		err = socket.Control(e.raw, func(fd int) error { return unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ZEROCOPY, 1) })
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("exact: SO_ZEROCOPY: %w", err), e.Close())
	}
	return e, nil
}

// Local returns the address the datagrams come from.
func (e *Exact) Local() netip.AddrPort { return socket.AddrPort(e.conn.LocalAddr()) }

// Send hands over one datagram of that many slots, counting one for its head, and
// waits until the kernel has released its memory. The payload is 16 bytes for
// each part: one of two slots for each pair, one of one slot for an odd rest.
func (e *Exact) Send(ctx context.Context, slots int) (Sent, error) {
	return e.SendMany(ctx, slots, 1)
}

// SendMany hands over n such datagrams, several at a time, and describes the last.
func (e *Exact) SendMany(ctx context.Context, slots, n int) (Sent, error) {
	if slots < MinExactSlots || slots > MaxExactSlots {
		return Sent{}, fmt.Errorf("exact: %d slots: can be %d to %d", slots, MinExactSlots, MaxExactSlots)
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closed {
		return Sent{}, fmt.Errorf("exact: %w", ErrClosed)
	}
	defer socket.Interruptible(ctx, e.conn)()
	sent := Sent{Sent: rocket.Sent{Local: e.Local(), Remote: e.remote, Writes: slots / 2, Length: slots / 2 * exactLength, Slots: slots}}
	for range n {
		// Areas are free again only when all are: the kernel may released them in any order.
		if e.waiting == exactAreas {
			if err := e.waitReleased(ctx); err != nil {
				return sent, fmt.Errorf("exact: %w", err)
			}
		}
		if err := e.send(e.parts(slots - 1)); err != nil {
			return sent, fmt.Errorf("exact: datagram %d: %w", e.number, socket.Ended(ctx, err))
		}
		sent.Number = e.number
		e.number++
		e.waiting++
	}
	if err := e.waitReleased(ctx); err != nil {
		return sent, fmt.Errorf("exact: %w", err)
	}
	return sent, nil
}

// parts lays the next payload into a free area so that it needs that many slots.
func (e *Exact) parts(slots int) []unix.Iovec {
	payload := make([]byte, (slots+1)/2*exactLength)
	fillDatagram(payload, e.number)
	area := e.page.data[e.waiting*exactAreaSize : (e.waiting+1)*exactAreaSize]
	parts := make([]unix.Iovec, len(payload)/exactLength)
	for i := range parts {
		at := 2*slotSize*(i+1) - exactLength/2
		if slots == 1 {
			at += exactLength // the odd rest lies within a page
		}
		slots -= 2
		place := area[at : at+exactLength]
		copy(place, payload[i*exactLength:])
		parts[i].Base = unsafe.SliceData(place)
		parts[i].SetLen(exactLength)
	}
	return parts
}

// send hands the parts over with one sendmsg. The huge page is no memory of Go's,
// so its addresses are good for the kernel to keep.
func (e *Exact) send(parts []unix.Iovec) error {
	length := len(parts) * exactLength
	message := unix.Msghdr{Iov: &parts[0]}
	message.SetIovlen(len(parts))
	for attempt := 0; ; attempt++ {
		var n uintptr
		var errno unix.Errno
		err := e.raw.Write(func(fd uintptr) bool {
			n, _, errno = unix.Syscall(unix.SYS_SENDMSG, fd, uintptr(unsafe.Pointer(&message)), unix.MSG_ZEROCOPY)
			return errno != unix.EAGAIN
		})
		switch {
		case err != nil:
			return err
		case errno == 0 && int(n) == length:
			return nil
		case errno == 0:
			return fmt.Errorf("%d of %d bytes taken", n, length)
		case attempt == 3 || errno != unix.EINTR && !returned(errno):
			return errno
		}
	}
}

// waitReleased waits until the kernel has released all datagrams' memory.
func (e *Exact) waitReleased(ctx context.Context) error {
	for pause := 20 * time.Microsecond; e.waiting > 0; {
		n, err := e.released()
		if err != nil {
			return err
		}
		if e.waiting -= n; n > 0 {
			continue
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(pause):
		}
		pause = min(2*pause, 2*time.Millisecond)
	}
	return nil
}

// released reads one notice from the socket's error queue, and returns how many
// datagrams it is for: 0 if there is none.
func (e *Exact) released() (n int, err error) {
	ancillary := make([]byte, 256)
	var length int
	var failure error
	err = e.raw.Control(func(fd uintptr) {
		_, length, _, _, failure = unix.Recvmsg(int(fd), nil, ancillary, unix.MSG_ERRQUEUE|unix.MSG_DONTWAIT)
	})
	if err != nil || failure == unix.EAGAIN || failure == unix.EINTR || returned(failure) {
		return 0, err
	}
	if failure != nil {
		return 0, fmt.Errorf("notice of release: %w", failure)
	}
	messages, err := unix.ParseSocketControlMessage(ancillary[:length])
	if err != nil {
		return 0, fmt.Errorf("notice of release: %w", err)
	}
	for _, message := range messages {
		if len(message.Data) < int(unsafe.Sizeof(unix.SockExtendedErr{})) {
			continue
		}
		// Info and Data are the first and the last datagram, counted from 0.
		notice := (*unix.SockExtendedErr)(unsafe.Pointer(&message.Data[0]))
		if notice.Origin == unix.SO_EE_ORIGIN_ZEROCOPY {
			n += int(notice.Data-notice.Info) + 1
		}
	}
	return n, nil
}

// Close closes the socket. A packet that still waits somewhere keeps its memory.
func (e *Exact) Close() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closed {
		return nil
	}
	e.closed = true
	return errors.Join(e.conn.Close(), e.page.close())
}
