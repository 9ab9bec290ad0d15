package bench

import (
	"errors"
	"fmt"
	"net/netip"
	"testing"

	"golang.org/x/sys/unix"
)

// Packets of as many fragments as most kernels allow, each in a page of its own
// and within it: with the head 18 slots, the most that a Xen frontend takes.
const (
	manyFrags    = 17
	pieceLength  = 80
	packetLength = manyFrags * pieceLength // payload
	pageSize     = 4096
)

// fragments hands packets to a socket whose fragments are pages of this process:
// what sendfile does with the pages of a file. The pages are in one pipe for good;
// for each packet tee puts them into another, and splice into the socket.
type fragments struct {
	socket     int
	kept, next [2]int
}

func newFragments(tb testing.TB, socket int) *fragments {
	tb.Helper()
	// Every second page, so that no two pieces can be merged.
	memory, err := unix.Mmap(-1, 0, 2*manyFrags*pageSize, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE|unix.MAP_POPULATE)
	must(tb, err)
	f := &fragments{socket: socket, kept: newPipe(tb), next: newPipe(tb)}
	tb.Cleanup(func() { must(tb, unix.Munmap(memory)) })
	pieces := make([]unix.Iovec, manyFrags)
	for i := range pieces {
		pieces[i].Base = &memory[2*i*pageSize]
		pieces[i].SetLen(pieceLength)
	}
	n, err := unix.Vmsplice(f.kept[1], pieces, 0)
	must(tb, err)
	if n != packetLength {
		tb.Fatalf("vmsplice: %d of %d bytes taken", n, packetLength)
	}
	return f
}

// newPipe makes a pipe with room for the pieces, each of which takes a page of it.
func newPipe(tb testing.TB) (ends [2]int) {
	tb.Helper()
	must(tb, unix.Pipe2(ends[:], unix.O_CLOEXEC))
	_, err := unix.FcntlInt(uintptr(ends[1]), unix.F_SETPIPE_SZ, 2*manyFrags*pageSize)
	must(tb, err)
	tb.Cleanup(func() {
		must(tb, unix.Close(ends[0]))
		must(tb, unix.Close(ends[1]))
	})
	return ends
}

func (f *fragments) send(n int) error {
	for range n {
		copied, _, errno := unix.RawSyscall6(unix.SYS_TEE, uintptr(f.kept[0]), uintptr(f.next[1]), packetLength, 0, 0, 0)
		if errno != 0 || copied != packetLength {
			return fmt.Errorf("tee: %d of %d bytes taken: %w", copied, packetLength, errno)
		}
		if err := f.splice(packetLength); err != nil {
			return err
		}
	}
	return nil
}

// splice moves the pieces from the pipe to the socket. One call may take only
// some of them: the kernel hands over 16 at a time.
func (f *fragments) splice(length int) error {
	for length > 0 {
		moved, _, errno := unix.RawSyscall6(unix.SYS_SPLICE, uintptr(f.next[0]), 0, uintptr(f.socket), 0, uintptr(length), 0)
		if errno != 0 {
			return fmt.Errorf("splice: %w", errno)
		}
		length -= int(moved)
	}
	return nil
}

// newMirrored sends packets of many fragments out of the near interface as a port
// mirror does: a classifier clones each packet that is sent to another interface.
// Making such a packet costs more than sending it; a clone costs next to nothing.
func newMirrored(l *lab) traffic {
	l.tb.Helper()
	feed := l.feed(mirror(l.ifindex, clones, actShot))
	f := newFragments(l.tb, connect(l.tb, unix.SOCK_DGRAM, netip.AddrPortFrom(feed, 9)))
	return traffic{name: "mirrored udp, 17 fragments", slots: manyFrags + 1, frags: manyFrags, send: func(n int) error {
		return f.send((n + clones - 1) / clones)
	}, multiple: clones}
}

// newTCPFragments sends segments of many fragments over one connection. Nobody
// reads meanwhile, so that all of it, up to the acknowledgements, is the sending
// thread's work; what has arrived is taken away between two readings.
func newTCPFragments(l *lab) traffic {
	l.tb.Helper()
	near, far := l.stream()
	f := newFragments(l.tb, near)
	buffer := make([]byte, streamBuffer)
	return traffic{name: "tcp, 17 fragments", slots: manyFrags + 1, frags: manyFrags, send: f.send, settle: func() error {
		waiting, err := unix.IoctlGetInt(near, unix.SIOCOUTQNSD)
		if err != nil {
			return fmt.Errorf("SIOCOUTQNSD: %w", err)
		}
		if err := discard(far, buffer); err != nil {
			return err
		}
		if waiting > 0 {
			return errUnsent
		}
		return nil
	}}
}

// errUnsent says that a connection could not send all that it was given at once.
var errUnsent = errors.New("packets are left unsent")

// streamBuffer is how many bytes a connection may hold unread.
const streamBuffer = 16 << 20

// stream connects to the far end.
func (l *lab) stream() (near, far int) {
	l.tb.Helper()
	var listening int
	must(l.tb, l.far.Namespace.Do(func() (err error) {
		if listening, err = bound(unix.SOCK_STREAM, farAddress.Addr()); err != nil {
			return err
		}
		return unix.Listen(listening, 1)
	}))
	defer func() { must(l.tb, unix.Close(listening)) }()
	must(l.tb, unix.SetsockoptInt(listening, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, streamBuffer))
	near = connect(l.tb, unix.SOCK_STREAM, localAddress(l.tb, listening))
	far, _, err := unix.Accept4(listening, unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK)
	must(l.tb, err)
	l.tb.Cleanup(func() { must(l.tb, unix.Close(far)) })
	// Acknowledge at once though nobody reads.
	must(l.tb, unix.SetsockoptInt(far, unix.SOL_SOCKET, unix.SO_RCVLOWAT, streamBuffer/2))
	must(l.tb, unix.SetsockoptInt(near, unix.SOL_SOCKET, unix.SO_SNDBUFFORCE, streamBuffer))
	// Each packet at once, and no pacing by a timer.
	must(l.tb, unix.SetsockoptInt(near, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1))
	must(l.tb, unix.SetsockoptString(near, unix.IPPROTO_TCP, unix.TCP_CONGESTION, "cubic"))
	return near, far
}

// discard reads what is there without copying it.
func discard(socket int, buffer []byte) error {
	for {
		_, _, err := unix.Recvfrom(socket, buffer, unix.MSG_TRUNC)
		if err == unix.EAGAIN {
			return nil
		}
		if err != nil && err != unix.EINTR {
			return fmt.Errorf("recv: %w", err)
		}
	}
}
