package main

import (
	"errors"
	"fmt"
	"net/netip"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"xentrace/test/xen/cost"
)

const (
	burst   = 10                   // datagrams: the TX ring never fills
	pause   = 3 * time.Millisecond // between bursts: the backend has sent every TX response
	perTurn = 12                   // bursts per round
	payload = 64

	discardPort = 9
)

// sending is one kind of packet to send.
type sending interface {
	kind() cost.Traffic
	// burst is how many packets leave at once.
	burst() int
	// ready waits until a burst can be sent at once.
	ready() error
	// send sends one packet.
	send() error
	// settled reports whether every packet of the last burst has left.
	settled() (bool, error)
}

// urgent makes the calling thread run before every ordinary one, but not its children.
func urgent() error {
	const resetOnFork = 1
	attr := &unix.SchedAttr{Size: unix.SizeofSchedAttr, Policy: unix.SCHED_FIFO, Priority: 1, Flags: resetOnFork}
	if err := unix.SchedSetAttr(0, attr, 0); err != nil {
		return fmt.Errorf("sched_setattr: %w", err)
	}
	return nil
}

// measureSending returns the instructions per packet of one round: the median of its bursts.
func measureSending(s sending) (float64, error) {
	values := make([]float64, 0, perTurn)
	for attempt := 0; len(values) < perTurn; attempt++ {
		if attempt > 2*perTurn {
			return 0, errors.New("packets are left unsent after most bursts")
		}
		rest(pause)
		if err := s.ready(); err != nil {
			return 0, err
		}
		before, err := threadTime()
		if err != nil {
			return 0, err
		}
		for range s.burst() {
			if err := s.send(); err != nil {
				return 0, err
			}
		}
		after, err := threadTime()
		if err != nil {
			return 0, err
		}
		ok, err := s.settled()
		if err != nil {
			return 0, err
		}
		if ok {
			values = append(values, float64(after-before)/float64(s.burst()))
		}
	}
	return median(values), nil
}

// rest sleeps without giving up the Go scheduler's P: no other goroutine runs.
func rest(d time.Duration) {
	left := unix.NsecToTimespec(d.Nanoseconds())
	for {
		// The Go scheduler interrupts a thread that it takes to run for more than 10 ms.
		_, _, err := unix.RawSyscall(unix.SYS_NANOSLEEP, uintptr(unsafe.Pointer(&left)), uintptr(unsafe.Pointer(&left)), 0)
		if err != unix.EINTR {
			return
		}
	}
}

func threadTime() (int64, error) { return clock(unix.CLOCK_THREAD_CPUTIME_ID) }

func clock(id int32) (int64, error) {
	var now unix.Timespec
	if err := unix.ClockGettime(id, &now); err != nil {
		return 0, fmt.Errorf("clock_gettime: %w", err)
	}
	return now.Nano(), nil
}

// udp sends datagrams.
type udp struct {
	socket int
	data   [payload]byte
}

func newUDP(peer string) (*udp, error) {
	socket, err := connect(unix.SOCK_DGRAM, peer)
	return &udp{socket: socket}, err
}

func (*udp) kind() cost.Traffic { return cost.UDP }

func (u *udp) send() error {
	_, _, errno := unix.RawSyscall6(unix.SYS_SENDTO, uintptr(u.socket), uintptr(unsafe.Pointer(&u.data)), payload, 0, 0, 0)
	if errno != 0 {
		return fmt.Errorf("send: %w", errno)
	}
	return nil
}

func (*udp) burst() int { return burst }

func (*udp) ready() error { return nil }

func (*udp) settled() (bool, error) { return true, nil }

func connect(kind int, peer string) (int, error) {
	address, err := netip.ParseAddr(peer)
	if err != nil {
		return 0, err
	}
	socket, err := unix.Socket(unix.AF_INET, kind|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return 0, fmt.Errorf("socket: %w", err)
	}
	if err := unix.Connect(socket, &unix.SockaddrInet4{Addr: address.As4(), Port: discardPort}); err != nil {
		return 0, fmt.Errorf("connect to %s: %w", peer, err)
	}
	return socket, nil
}
