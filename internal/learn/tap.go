package learn

import (
	"errors"
	"fmt"
	"os"
	"unsafe"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// A tap is a network device of this process, of which nobody reads: what is sent on it stays in
// the kernel's memory until it is closed.
type tap struct {
	name    string
	index   int
	queues  []*os.File
	address uint64 // of its net_device
}

// tapMTU leaves room for the largest packet of the experiments.
const tapMTU = 60000

// newTap makes one in the network namespace of the calling thread; kind is IFF_TAP or IFF_TUN.
func newTap(name string, index, queues int, kind uint16) (*tap, error) {
	t := &tap{name: name, index: index}
	for range queues {
		if err := t.open(kind, queues > 1); err != nil {
			return nil, errors.Join(fmt.Errorf("tap %s: %w", name, err), t.close())
		}
	}
	link, err := netlink.LinkByName(name)
	if err == nil {
		err = errors.Join(netlink.LinkSetMTU(link, tapMTU), netlink.LinkSetARPOff(link), netlink.LinkSetUp(link))
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("tap %s: %w", name, err), t.close())
	}
	return t, nil
}

func (t *tap) open(kind uint16, several bool) error {
	fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	switch {
	case errors.Is(err, unix.ENOENT), errors.Is(err, unix.ENXIO), errors.Is(err, unix.ENODEV):
		return fmt.Errorf("/dev/net/tun: %w; modprobe tun", err)
	case err != nil:
		return fmt.Errorf("/dev/net/tun: %w", err)
	}
	t.queues = append(t.queues, os.NewFile(uintptr(fd), t.name))
	if len(t.queues) == 1 {
		if err := unix.IoctlSetPointerInt(fd, unix.TUNSETIFINDEX, t.index); err != nil {
			return fmt.Errorf("its number: %w", err)
		}
	}
	request, err := unix.NewIfreq(t.name)
	if err != nil {
		return err
	}
	flags := kind | unix.IFF_NO_PI | unix.IFF_VNET_HDR
	if several {
		flags |= unix.IFF_MULTI_QUEUE
	}
	request.SetUint16(flags)
	if err := unix.IoctlIfreq(fd, unix.TUNSETIFF, request); err != nil {
		return err
	}
	return unix.IoctlSetInt(fd, unix.TUNSETOFFLOAD, unix.TUN_F_CSUM|unix.TUN_F_TSO4|unix.TUN_F_TSO6)
}

// carrier takes the device's carrier away or gives it back.
func (t *tap) carrier(on bool) error {
	value := 0
	if on {
		value = 1
	}
	return unix.IoctlSetPointerInt(int(t.queues[0].Fd()), unix.TUNSETCARRIER, value)
}

// filled returns the queue that holds packets, or -1.
func (t *tap) filled() int {
	for n, queue := range t.queues {
		polled := []unix.PollFd{{Fd: int32(queue.Fd()), Events: unix.POLLIN}}
		if ready, err := unix.Poll(polled, 0); err == nil && ready == 1 && polled[0].Revents&unix.POLLIN != 0 {
			return n
		}
	}
	return -1
}

// virtioBytes is the header before each packet of a tap: struct virtio_net_hdr.
const virtioBytes = 10

// read takes the first packet of the only queue.
func (t *tap) read() ([]byte, error) {
	packet := make([]byte, 1<<17)
	n, err := unix.Read(int(t.queues[0].Fd()), packet)
	if err == nil && n < virtioBytes+etherLength+ipLength {
		err = fmt.Errorf("%d bytes", n)
	}
	if err != nil {
		return nil, fmt.Errorf("packet on %s: %w", t.name, err)
	}
	return packet[virtioBytes:n], nil
}

// drain frees the packets.
func (t *tap) drain() {
	packet := make([]byte, 1<<17)
	for _, queue := range t.queues {
		for {
			if n, err := unix.Read(int(queue.Fd()), packet); err != nil || n == 0 {
				break
			}
		}
	}
}

func (t *tap) close() error {
	var err error
	for _, queue := range t.queues {
		err = errors.Join(err, queue.Close())
	}
	t.queues = nil
	return err
}

// A gso is how a packet is to be cut into segments of so many bytes; 0 for not.
type gso uint16

// packetSocket sends frames as they are.
type packetSocket int

func newPacketSocket() (packetSocket, error) {
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, fmt.Errorf("packet socket: %w", err)
	}
	if err := unix.SetsockoptInt(fd, unix.SOL_PACKET, unix.PACKET_VNET_HDR, 1); err != nil {
		return -1, errors.Join(fmt.Errorf("packet socket: %w", err), unix.Close(fd))
	}
	return packetSocket(fd), nil
}

func (s packetSocket) send(index int, frame []byte, size gso) error {
	type virtioHeader struct {
		flags, gsoType                             uint8
		headerLength, gsoSize, sumStart, sumOffset uint16
	}
	var h virtioHeader
	if size != 0 {
		h = virtioHeader{flags: 1, gsoType: 1, headerLength: 54, gsoSize: uint16(size), sumStart: 34, sumOffset: 16}
	}
	head := unsafe.Slice((*byte)(unsafe.Pointer(&h)), unsafe.Sizeof(h))
	protocol := uint16(frame[13])<<8 | uint16(frame[12]) // in the network's order
	to := &unix.SockaddrLinklayer{Protocol: protocol, Ifindex: index, Halen: 6}
	if err := unix.Sendto(int(s), append(append([]byte(nil), head...), frame...), 0, to); err != nil {
		return fmt.Errorf("frame of %d bytes: %w", len(frame), err)
	}
	return nil
}

func (s packetSocket) close() error { return unix.Close(int(s)) }
