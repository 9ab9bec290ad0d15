package main

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"xentrace/test/xen/cost"
)

// A segment of as many fragments as most kernels allow, each within a page of its own:
// 18 slots with the linear part, the limit of xen-netfront.
const (
	fragments     = 17
	fragment      = 80
	segment       = fragments * fragment
	pageSize      = 4096
	sendBuffer    = 4 << 20
	pipeCapacity  = 2 * fragments * pageSize
	mappedPages   = 2 * fragments
	mappedLength  = mappedPages * pageSize
	fragmentPitch = 2 * pageSize // every second page: no two fragments can be merged
)

// segments sends TCP segments whose fragments are pages of this process, as sendfile
// does with the pages of a file: tee copies them from one pipe to another, splice moves
// them to the socket.
type segments struct {
	socket     int
	kept, next [2]int
}

func newTCP(peer string) (*segments, error) {
	socket, err := connect(unix.SOCK_STREAM, peer)
	if err != nil {
		return nil, err
	}
	s := &segments{socket: socket}
	// A short segment would otherwise wait for the TX response of the last one.
	if err := os.WriteFile("/proc/sys/net/ipv4/tcp_autocorking", []byte("0"), 0); err != nil {
		return nil, err
	}
	if err := unix.SetsockoptInt(socket, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1); err != nil {
		return nil, fmt.Errorf("TCP_NODELAY: %w", err)
	}
	if err := unix.SetsockoptInt(socket, unix.SOL_SOCKET, unix.SO_SNDBUFFORCE, sendBuffer); err != nil {
		return nil, fmt.Errorf("SO_SNDBUFFORCE: %w", err)
	}
	for _, ends := range []*[2]int{&s.kept, &s.next} {
		if err := unix.Pipe2(ends[:], unix.O_CLOEXEC); err != nil {
			return nil, fmt.Errorf("pipe: %w", err)
		}
		if _, err := unix.FcntlInt(uintptr(ends[1]), unix.F_SETPIPE_SZ, pipeCapacity); err != nil {
			return nil, fmt.Errorf("F_SETPIPE_SZ: %w", err)
		}
	}
	if err := s.fill(); err != nil {
		return nil, err
	}
	return s, s.open()
}

// open sends until the congestion window holds several bursts.
func (s *segments) open() error {
	data := make([]byte, 64<<10)
	for range 64 {
		if _, err := unix.Write(s.socket, data); err != nil {
			return fmt.Errorf("write: %w", err)
		}
	}
	return s.quiet()
}

// quiet waits until every segment is acknowledged.
func (s *segments) quiet() error {
	for range 1000 {
		unacknowledged, err := unix.IoctlGetInt(s.socket, unix.SIOCOUTQ)
		if err != nil {
			return fmt.Errorf("SIOCOUTQ: %w", err)
		}
		if unacknowledged == 0 {
			return nil
		}
		rest(pause)
	}
	return errors.New("segments are not acknowledged")
}

// fill puts the fragments into the pipe that keeps them.
func (s *segments) fill() error {
	memory, err := unix.Mmap(-1, 0, mappedLength, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE|unix.MAP_POPULATE)
	if err != nil {
		return fmt.Errorf("mmap: %w", err)
	}
	parts := make([]unix.Iovec, fragments)
	for i := range parts {
		parts[i].Base = &memory[i*fragmentPitch]
		parts[i].SetLen(fragment)
	}
	if n, err := unix.Vmsplice(s.kept[1], parts, 0); err != nil || n != segment {
		return fmt.Errorf("vmsplice: %d of %d bytes: %w", n, segment, err)
	}
	return nil
}

func (*segments) kind() cost.Traffic { return cost.TCP }

func (s *segments) send() error {
	n, _, errno := unix.RawSyscall6(unix.SYS_TEE, uintptr(s.kept[0]), uintptr(s.next[1]), segment, 0, 0, 0)
	if errno != 0 || n != segment {
		return fmt.Errorf("tee: %d of %d bytes: %w", n, segment, errno)
	}
	// One call may move only some fragments: the kernel moves 16 at a time.
	for left := uintptr(segment); left > 0; left -= n {
		n, _, errno = unix.RawSyscall6(unix.SYS_SPLICE, uintptr(s.next[0]), 0, uintptr(s.socket), 0, left, 0)
		if errno != 0 {
			return fmt.Errorf("splice: %w", errno)
		}
	}
	return nil
}

// burst is what TCP small queues let a connection of any pace hand to the driver before
// TX responses arrive.
func (*segments) burst() int { return 2 }

func (s *segments) ready() error { return s.quiet() }

func (s *segments) settled() (bool, error) {
	unsent, err := unix.IoctlGetInt(s.socket, unix.SIOCOUTQNSD)
	if err != nil {
		return false, fmt.Errorf("SIOCOUTQNSD: %w", err)
	}
	return unsent == 0, nil
}
