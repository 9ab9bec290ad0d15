package learn

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// A moment is a connection's tcp_sock, with what the kernel said of it just then.
type moment struct {
	specimen
	write, unsent, unacknowledged uint64
	info                          unix.TCPInfo
	acknowledged                  uint64 // bytes
}

// connections finds the members of tcp_sock, on a connection over loopback whose receiver stops
// answering: a filter on its socket throws everything away.
func (l *lab) connections(ctx context.Context) error {
	moments, err := l.troubled(ctx)
	if err != nil {
		return fmt.Errorf("connection: %w", err)
	}
	var images []specimen
	for _, m := range moments {
		images = append(images, m.specimen)
	}
	settle := func(structure, name string, size int, holds func(m *moment, value uint64) bool) error {
		return l.layout.settle(structure+"."+name, size, places(images, size, func(n int, value uint64) bool { return holds(&moments[n], value) }))
	}
	low := func(n uint64) uint64 { return n & (1<<32 - 1) }
	var timeouts []int
	for _, hz := range []uint64{100, 250, 300, 1000} {
		timeouts = append(timeouts, places(images, 4, func(n int, value uint64) bool {
			return value != 0 && value < 1<<31 && value*1e6/hz == uint64(moments[n].info.Rto)
		})...)
	}
	// Both are bytes of one word.
	byteOf := func(member func(*moment) uint8) []int {
		return places(images, 1, func(n int, value uint64) bool { return value == uint64(member(&moments[n])) })
	}
	backoffs := byteOf(func(m *moment) uint8 { return m.info.Backoff })
	retransmits := byteOf(func(m *moment) uint8 { return m.info.Retransmits })
	if len(backoffs) == 1 {
		retransmits = within(retransmits, backoffs[0]-4, backoffs[0]+4)
	}
	return errors.Join(
		l.layout.settle("inet_connection_sock.icsk_backoff", 1, backoffs),
		l.layout.settle("inet_connection_sock.icsk_retransmits", 1, retransmits),
		settle("tcp_sock", "write_seq", 4, func(m *moment, v uint64) bool { return v == m.write }),
		settle("tcp_sock", "snd_nxt", 4, func(m *moment, v uint64) bool { return v == low(m.write-m.unsent) }),
		settle("tcp_sock", "snd_una", 4, func(m *moment, v uint64) bool { return v == low(m.write-m.unacknowledged) }),
		settle("tcp_sock", "srtt_us", 4, func(m *moment, v uint64) bool { return v>>3 == uint64(m.info.Rtt) }),
		settle("tcp_sock", "total_retrans", 4, func(m *moment, v uint64) bool { return v == uint64(m.info.Total_retrans) }),
		settle("tcp_sock", "bytes_acked", 8, func(m *moment, v uint64) bool { return v == m.acknowledged }),
		l.layout.settle("inet_connection_sock.icsk_rto", 4, timeouts),
	)
}

// A pair is a connection over loopback, with segments of 1,000 bytes or a little less.
type pair struct{ sender, receiver int }

const segment = 1000

// lose has the receiver take no notice of what begins at a sequence number or after it.
func (p pair) lose(from uint32) error {
	filter := []unix.SockFilter{
		{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: 4}, // the sequence number
		{Code: unix.BPF_ALU | unix.BPF_SUB | unix.BPF_K, K: from},
		{Code: unix.BPF_JMP | unix.BPF_JGE | unix.BPF_K, Jf: 1, K: 1 << 31},
		{Code: unix.BPF_RET | unix.BPF_K, K: 1<<32 - 1},
		{Code: unix.BPF_RET | unix.BPF_K, K: 0},
	}
	program := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	return unix.SetsockoptSockFprog(p.receiver, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &program)
}

func (p pair) loseNothing() error {
	return unix.SetsockoptInt(p.receiver, unix.SOL_SOCKET, unix.SO_DETACH_FILTER, 0)
}

func newPair() (p pair, err error) {
	listener, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return p, err
	}
	defer unix.Close(listener)
	if err := errors.Join(unix.Bind(listener, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}), unix.Listen(listener, 1)); err != nil {
		return p, err
	}
	address, err := unix.Getsockname(listener)
	if err != nil {
		return p, err
	}
	if p.sender, err = unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0); err != nil {
		return p, err
	}
	// A filter of this process's cgroup may drop what is sent: connect would wait 2 minutes.
	limit := unix.Timeval{Sec: 2}
	err = errors.Join(unix.SetsockoptTimeval(p.sender, unix.SOL_SOCKET, unix.SO_SNDTIMEO, &limit),
		unix.SetsockoptTimeval(listener, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &limit),
		unix.SetsockoptInt(p.sender, unix.IPPROTO_TCP, unix.TCP_MAXSEG, segment),
		unix.SetsockoptInt(p.sender, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1))
	if err == nil {
		err = unix.Connect(p.sender, address)
	}
	if err == nil {
		p.receiver, _, err = unix.Accept4(listener, unix.SOCK_CLOEXEC)
	}
	if err != nil {
		return p, errors.Join(err, unix.Close(p.sender))
	}
	return p, nil
}

func (p pair) close() error { return errors.Join(unix.Close(p.sender), unix.Close(p.receiver)) }

// write hands n bytes over, or as many as there is room for.
func (p pair) write(n, flags int) error {
	_, err := unix.SendmsgN(p.sender, make([]byte, n), nil, nil, flags|unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL)
	if errors.Is(err, unix.EAGAIN) {
		return nil
	}
	return err
}

// read takes what has come.
func (p pair) read() {
	buffer := make([]byte, 1<<20)
	for {
		if n, _, err := unix.Recvfrom(p.receiver, buffer, unix.MSG_DONTWAIT); err != nil || n == 0 {
			return
		}
	}
}

func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// troubled follows a connection whose data is acknowledged, one that gets no answers and
// recovers, and one whose receiver does not read.
func (l *lab) troubled(ctx context.Context) (moments []moment, err error) {
	p, err := newPair()
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, p.close()) }()
	note := func(of pair, after time.Duration) error {
		if err := pause(ctx, after); err != nil {
			return err
		}
		m, err := l.moment(of.sender)
		moments = append(moments, m)
		return err
	}
	for range 3 {
		if err := errors.Join(p.write(300+rand.IntN(5000), 0), note(p, 60*time.Millisecond)); err != nil {
			return nil, err
		}
	}
	for range 2 {
		// The first two segments arrive.
		now, err := ask(p.sender)
		if err != nil {
			return nil, err
		}
		whole := now.info.Snd_mss
		if err := errors.Join(p.lose(uint32(now.write)+2*whole), p.write(int(7*whole), 0), note(p, 10*time.Millisecond)); err != nil {
			return nil, err
		}
		for n := range 4 {
			flags := []int{0, unix.MSG_MORE, unix.MSG_OOB, 0}[n]
			if err := errors.Join(p.write(100+rand.IntN(700), flags), note(p, 100*time.Millisecond<<n)); err != nil {
				return nil, err
			}
		}
		if err := p.loseNothing(); err != nil {
			return nil, err
		}
		for range 2 {
			p.read()
			if err := errors.Join(note(p, 2*time.Second), p.write(100+rand.IntN(900), 0)); err != nil {
				return nil, err
			}
		}
	}
	full, err := newPair()
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, full.close()) }()
	for range 3 {
		if err := errors.Join(full.write(1<<20, 0), full.write(1<<20, 0), note(full, 500*time.Millisecond)); err != nil {
			return nil, err
		}
	}
	return moments, nil
}

// moment reads a connection, again if it changed meanwhile.
func (l *lab) moment(fd int) (m moment, err error) {
	for range 20 {
		first, err := ask(fd)
		if err != nil {
			return m, err
		}
		l.memory.fresh()
		at := l.sockOf(fd)
		first.specimen = specimen{at, bytes.Clone(l.memory.at(at, sockBytes))}
		second, err := ask(fd)
		if err != nil {
			return m, err
		}
		if first.same(&second) {
			return first, nil
		}
	}
	return m, errors.New("it changed each time that it was read; run xentrace learn again")
}

// same reports whether no member that is looked for has changed.
func (m *moment) same(as *moment) bool {
	a, b := &m.info, &as.info
	return m.write == as.write && m.unsent == as.unsent && m.unacknowledged == as.unacknowledged && m.acknowledged == as.acknowledged &&
		a.Retransmits == b.Retransmits && a.Backoff == b.Backoff && a.Rto == b.Rto && a.Rtt == b.Rtt && a.Total_retrans == b.Total_retrans
}

func ask(fd int) (m moment, err error) {
	const sendQueue = 2 // TCP_SEND_QUEUE
	if err = unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_REPAIR, 1); err == nil {
		if err = unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_REPAIR_QUEUE, sendQueue); err == nil {
			var sequence int
			sequence, err = unix.GetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_QUEUE_SEQ)
			m.write = uint64(uint32(sequence))
		}
		err = errors.Join(err, unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_REPAIR, -1)) // without a probe of the window
	}
	if err != nil {
		return m, fmt.Errorf("TCP_REPAIR: %w", err)
	}
	unsent, err := unix.IoctlGetInt(fd, 0x894b) // SIOCOUTQNSD
	if err != nil {
		return m, err
	}
	queued, err := unix.IoctlGetInt(fd, unix.TIOCOUTQ)
	if err != nil {
		return m, err
	}
	m.unsent, m.unacknowledged = uint64(unsent), uint64(queued)
	info := make([]byte, 256)
	length := uint32(len(info))
	if _, _, errno := unix.Syscall6(unix.SYS_GETSOCKOPT, uintptr(fd), unix.IPPROTO_TCP, unix.TCP_INFO, uintptr(unsafe.Pointer(&info[0])), uintptr(unsafe.Pointer(&length)), 0); errno != 0 {
		return m, errno
	}
	m.info = *(*unix.TCPInfo)(unsafe.Pointer(&info[0]))
	m.acknowledged = m.info.Bytes_acked
	return m, nil
}
