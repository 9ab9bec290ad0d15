// Package rocket makes packets that need many ring slots of a Xen network
// frontend, on purpose, and ordinary packets next to them, for probes,
// demonstrations and tests. It needs no privilege.
//
// A slot is one 4 KiB page of a packet's memory. What a program writes to a TCP
// or a corked UDP socket is copied into a page fragment of its thread
// (sk_page_frag: a 32 KiB block, used up front to back and shared by all of the
// thread's sockets). So a thread that corks a socket and writes a few bytes at a time
// to it, and between two writes moves the fragment on by writing to another socket,
// decides where the bytes of each write are: here always across a page boundary, two
// slots for a few bytes. The other socket is a TCP connection to itself over loopback,
// which is read back after.
//
// Each sender has a thread of its own, whose fragment begins empty, and leaves it
// at the start of a block after each packet: so the offsets are known exactly. Two
// things take the effect away: a device without scatter-gather, for which the
// kernel copies everything into one buffer, and net.core.high_order_alloc_disable
// or a shortage of memory, which make the fragment a single page
// ([ErrSinglePages] for UDP).
package rocket

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"syscall"

	"golang.org/x/sys/unix"

	"xentrace/internal/socket"
)

// Options shape the packets. The zero value is the usual packet.
type Options struct {
	// Writes is how many writes make a packet, each a fragment: 14 for UDP, 17 for TCP if
	// 0. A packet has at most 17 fragments on most kernels; UDP's first write goes to the
	// linear part and makes none.
	Writes int
	// WriteLength is how long each is, in bytes: 80 if 0. With an MTU of 9001,
	// 17 writes of 512 bytes are one segment.
	WriteLength int
	// Slots is how many slots a packet of UDP is to need, from [MinSlots] to
	// [MaxSlots]; it sets the number of writes. If 0, Writes does.
	Slots int
	// Device is the interface to send from, whatever the routes
	// (SO_BINDTODEVICE, unprivileged since 5.7); the routes' choice if empty.
	Device string
	// NoWait makes TCP send at once though earlier segments are not acknowledged:
	// for connections that are stuck.
	NoWait bool
}

// Sent is what was handed to the kernel.
type Sent struct {
	Local, Remote netip.AddrPort
	Length        int    // of the payload, in bytes
	Writes        int    // that made it
	Number        uint64 // counts what this sender sent, from 0; UDP payloads carry it
	// Slots is how many slots the packet needs on a device with scatter-gather, if
	// its linear part is in one page and the kernel had blocks to give.
	Slots int
	// Position is the place of a TCP segment's first byte in the stream, from 0.
	Position uint64
	// Split reports that the kernel sent a part of a TCP segment early: writing the
	// data took longer than it keeps the cork in (200 ms or more), as on a machine
	// that is busy elsewhere.
	Split bool
}

// The least and the most slots that Options.Slots can ask for: the head and one
// fragment more, and one fragment less than a packet can have.
const (
	MinSlots = 2
	MaxSlots = 31
)

// ErrClosed is returned by a sender that has been closed.
var ErrClosed = errors.New("sender is closed")

// dialer makes sockets that bring no packets of their own, in the network
// namespace of the calling thread.
func dialer(opts Options) *net.Dialer {
	return &net.Dialer{KeepAlive: -1, Control: func(_, _ string, conn syscall.RawConn) error {
		if opts.Device == "" {
			return nil
		}
		return named(fmt.Sprintf("device %q", opts.Device), socket.Control(conn, func(fd int) error { return unix.BindToDevice(fd, opts.Device) }))
	}}
}

// named puts what failed before an error.
func named(what string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w", what, err)
}

// cookie returns the number by which the kernel knows the socket as long as the
// machine runs: SO_COOKIE, since 4.12.
func cookie(conn syscall.RawConn) (cookie uint64, err error) {
	err = socket.Control(conn, func(fd int) (err error) {
		cookie, err = unix.GetsockoptUint64(fd, unix.SOL_SOCKET, unix.SO_COOKIE)
		return named("SO_COOKIE", err)
	})
	return cookie, err
}

// send hands data to a connected socket in one call, waiting for room if there
// is none. It is an error if the kernel accepted less.
func send(conn syscall.RawConn, data []byte, flags int) error {
	var failure error
	var n int
	err := conn.Write(func(fd uintptr) bool {
		for {
			n, failure = unix.SendmsgN(int(fd), data, nil, nil, flags|unix.MSG_NOSIGNAL)
			if failure != unix.EINTR {
				return failure != unix.EAGAIN
			}
		}
	})
	if err == nil {
		err = failure
	}
	if err == nil && n != len(data) {
		err = fmt.Errorf("%d of %d bytes taken", n, len(data))
	}
	return err
}
