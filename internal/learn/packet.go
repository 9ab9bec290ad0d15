package learn

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"

	"golang.org/x/sys/unix"

	"xentrace/internal/rocket"
)

const (
	etherLength = 14
	ipLength    = 20
	udpLength   = 8

	// headBytes is how far the start of a packet's head may be from its first byte.
	headBytes = 4096
	// sharedBytes is more than struct skb_shared_info has up to the last fragment that is looked at.
	sharedBytes = 512
)

// A packet is an sk_buff as a driver got it, with what is known of it. It stays in the kernel's
// memory until its tap is drained.
type packet struct {
	specimen
	device         uint64
	start          []byte // its first bytes on the wire
	length         uint64 // of it all
	paged          uint64 // bytes of it in fragments
	frags          uint64
	piece          uint64 // bytes in each fragment
	boundary       uint64 // how many bytes of a piece lie before a page boundary; 0 for not known
	size, segments uint64 // of a packet that is to be cut
	queue          uint64
	protocol       uint64 // as the network has it
}

// sent notes the packet that was sent last on a tap.
func (l *lab) sent(t *tap, p packet) error {
	s, err := l.hook.sighting()
	if err != nil {
		return err
	}
	if s.Count != l.count+1 {
		return fmt.Errorf("packet on %s: seen %d times", t.name, s.Count-l.count)
	}
	l.count = s.Count
	p.specimen, p.device = specimen{s.Skb, bytes.Clone(s.Image[:])}, s.Device
	if q := t.filled(); q >= 0 {
		p.queue = uint64(q)
	}
	l.packets = append(l.packets, p)
	return nil
}

// learnQueues finds queue_mapping: which queue a packet is in shows while no other lies in any.
func (l *lab) learnQueues(t *tap) error {
	l.packets = nil
	for range 12 {
		if err := l.frames(t, 1); err != nil {
			return err
		}
		t.drain()
	}
	var images []specimen
	var queues []uint64
	for _, p := range l.packets {
		images, queues = append(images, p.specimen), append(queues, p.queue)
	}
	l.packets = nil
	return l.layout.settle("sk_buff.queue_mapping", 2, places(images, 2, equal(queues)))
}

// frames sends frames of one part each, of kinds that no protocol of the kernel has.
func (l *lab) frames(t *tap, n int) error {
	for range n {
		frame := make([]byte, 60+rand.IntN(1000))
		for i := range frame {
			frame[i] = byte(rand.Uint32())
		}
		frame[0] &^= 1
		binary.BigEndian.PutUint16(frame[12:], uint16(0x9000+rand.IntN(0x5000)))
		p := packet{start: frame[:32], length: uint64(len(frame)), protocol: number(frame, 12, 2)}
		if err := l.raw.send(t.index, frame, 0); err != nil {
			return err
		}
		if err := l.sent(t, p); err != nil {
			return err
		}
	}
	return nil
}

// segments sends packets of TCP that are to be cut into segments.
func (l *lab) segments(t *tap, n int) error {
	for range n {
		payload := 1000 + rand.IntN(1500)
		size := 100 + rand.IntN(700)
		frame := make([]byte, 54+payload)
		binary.BigEndian.PutUint16(frame[12:], 0x0800)
		ip := frame[etherLength:]
		ip[0], ip[8], ip[9] = 0x45, 64, 6
		binary.BigEndian.PutUint16(ip[2:], uint16(40+payload))
		copy(ip[12:], t.own().AsSlice())
		copy(ip[16:], t.peer().AsSlice())
		tcp := ip[ipLength:]
		binary.BigEndian.PutUint32(tcp, rand.Uint32())
		tcp[12], tcp[13] = 5<<4, 0x10
		p := packet{
			start: frame[:32], length: uint64(len(frame)), protocol: number(frame, 12, 2),
			size: uint64(size), segments: uint64((payload + size - 1) / size),
		}
		if err := l.raw.send(t.index, frame, gso(size)); err != nil {
			return err
		}
		if err := l.sent(t, p); err != nil {
			return err
		}
	}
	return nil
}

// connects sends first segments of TCP. The kernel leaves more room before them than before other
// packets, which all have the same.
func (l *lab) connects(t *tap, n int) error {
	var frame []byte
	if err := opening(t, func() (err error) { frame, err = t.read(); return err }); err != nil {
		return err
	}
	if err := l.hook.want(t.address); err != nil {
		return err
	}
	l.count = 0
	start := make([]byte, 32)
	copy(start[12:18], frame[12:18]) // the options, and so the length, are the kernel's choice
	p := packet{start: start, length: uint64(len(frame)), protocol: number(start, 12, 2)}
	for range n {
		if err := opening(t, func() error { return l.sent(t, p) }); err != nil {
			return err
		}
	}
	return nil
}

// opening calls seen once the first segment of a connection was sent, and drops the connection.
func opening(t *tap, seen func() error) error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	to := &unix.SockaddrInet4{Port: 1024 + rand.IntN(60000), Addr: t.peer().As4()}
	if err := unix.Connect(fd, to); err != nil && !errors.Is(err, unix.EINPROGRESS) {
		return fmt.Errorf("connection over %s: %w", t.name, err)
	}
	return seen()
}

// fragments sends datagrams of known fragments, each across a page boundary.
func (l *lab) fragments(ctx context.Context, t *tap) error {
	for _, o := range []rocket.Options{
		{Writes: 2, WriteLength: 90}, {Writes: 3, WriteLength: 64}, {Writes: 6, WriteLength: 150}, {Writes: 9, WriteLength: 120},
		{Writes: 12, WriteLength: 700}, {Writes: 14, WriteLength: 80}, {Writes: 16, WriteLength: 222},
	} {
		if err := l.fragmented(ctx, t, o); err != nil {
			return err
		}
	}
	return nil
}

func (l *lab) fragmented(ctx context.Context, t *tap, o rocket.Options) error {
	o.Device = t.name
	sender, err := rocket.NewUDP(ctx, netip.AddrPortFrom(t.peer(), uint16(1024+rand.IntN(60000))), o)
	if err != nil {
		return err
	}
	defer sender.Close()
	sent, err := sender.Send(ctx)
	if err != nil {
		return err
	}
	writes, piece := uint64(o.Writes), uint64(o.WriteLength)
	start := make([]byte, 32)
	binary.BigEndian.PutUint16(start[12:], 0x0800)
	start[14] = 0x45
	binary.BigEndian.PutUint16(start[16:], uint16(sent.Length+ipLength+udpLength))
	p := packet{
		start: start, length: uint64(sent.Length) + etherLength + ipLength + udpLength, protocol: number(start, 12, 2),
		paged: (writes - 1) * piece, frags: writes - 1, piece: piece, boundary: piece / 2,
	}
	return l.sent(t, p)
}

// begins reports whether memory is how the packet begins. Of packets with addresses of the
// kernel's choice, only the kind of frame, the header's first byte and the length are known.
func (p *packet) begins(memory []byte) bool {
	if len(memory) < len(p.start) {
		return false
	}
	if p.start[0]|p.start[6]|p.start[20] != 0 {
		return bytes.Equal(memory[:len(p.start)], p.start)
	}
	return bytes.Equal(memory[12:15], p.start[12:15]) && bytes.Equal(memory[16:18], p.start[16:18])
}

// learnPackets finds the members of sk_buff and skb_shared_info.
func (l *lab) learnPackets() error {
	var images []specimen
	for _, p := range l.packets {
		images = append(images, p.specimen)
	}
	of := func(member func(*packet) uint64) func(int, uint64) bool {
		return func(n int, value uint64) bool { return value == member(&l.packets[n]) }
	}
	settle := func(name string, size int, holds func(int, uint64) bool) error {
		return l.layout.settle("sk_buff."+name, size, places(images, size, holds))
	}
	err := errors.Join(
		settle("dev", 8, of(func(p *packet) uint64 { return p.device })),
		settle("len", 4, of(func(p *packet) uint64 { return p.length })),
		settle("data_len", 4, of(func(p *packet) uint64 { return p.paged })),
		settle("protocol", 2, of(func(p *packet) uint64 { return p.protocol })),
		settle("data", 8, func(n int, value uint64) bool {
			return isPointer(value) && l.packets[n].begins(l.memory.at(value, 32))
		}),
	)
	data, known := l.layout["sk_buff.data"]
	if !known {
		return err
	}
	at := func(n int) uint64 { return number(images[n].image, data.Offset, 8) }
	err = errors.Join(err, settle("head", 8, func(n int, value uint64) bool {
		return isPointer(value) && value < at(n) && at(n)-value <= headBytes
	}))
	head, known := l.layout["sk_buff.head"]
	if !known {
		return err
	}
	room := func(n int) uint64 { return at(n) - number(images[n].image, head.Offset, 8) }
	return errors.Join(err,
		settle("mac_header", 2, func(n int, value uint64) bool { return value == room(n) }),
		settle("network_header", 2, func(n int, value uint64) bool { return value == room(n)+etherLength }),
		l.learnShared(images, head.Offset))
}

// learnShared finds the end of the head, and what lies there.
func (l *lab) learnShared(images []specimen, head int) error {
	info := func(n, end int) specimen {
		at := number(images[n].image, head, 8) + number(images[n].image, end, 4)
		return specimen{at, l.memory.at(at, sharedBytes)}
	}
	var ends []int
	var found Layout
	for end := 0; end+4 <= skbBytes; end += 4 {
		var infos []specimen
		for n := range images {
			if offset := number(images[n].image, end, 4); offset == 0 || offset > headBytes || offset%8 != 0 {
				break
			}
			infos = append(infos, info(n, end))
		}
		if len(infos) < len(images) {
			continue
		}
		if layout, err := l.shared(infos); err == nil {
			ends, found = append(ends, end), layout
		}
	}
	if err := l.layout.settle("sk_buff.end", 4, ends); err != nil {
		return err
	}
	for name, member := range found {
		l.layout[name] = member
	}
	return nil
}

func (l *lab) shared(infos []specimen) (Layout, error) {
	layout := make(Layout)
	settle := func(name string, size int, places []int) error {
		return layout.settle("skb_shared_info."+name, size, places)
	}
	of := func(member func(*packet) uint64) func(int, uint64) bool {
		return func(n int, value uint64) bool { return value == member(&l.packets[n]) }
	}
	err := errors.Join(
		settle("nr_frags", 1, within(places(infos, 1, of(func(p *packet) uint64 { return p.frags })), 0, 64)),
		settle("gso_size", 2, within(places(infos, 2, of(func(p *packet) uint64 { return p.size })), 0, 64)),
		settle("gso_segs", 2, within(places(infos, 2, func(n int, value uint64) bool {
			p := &l.packets[n]
			return value == p.segments || p.segments == 0 && value <= 1
		}), 0, 64)),
	)
	// Each fragment is an address of a page, a length and an offset.
	frags := places(infos, 8, func(n int, value uint64) bool { return l.packets[n].frags == 0 || isPointer(value) })
	var all []int
	for _, at := range frags {
		right := true
		for n := range infos {
			for i := range int(l.packets[n].frags) {
				p, image := &l.packets[n], infos[n].image
				length, offset := number(image, at+16*i+8, 4), number(image, at+16*i+12, 4)
				right = right && length == p.piece && (p.boundary == 0 || offset%pageSize == pageSize-p.boundary)
			}
		}
		if right {
			all = append(all, at)
		}
	}
	return layout, errors.Join(err, settle("frags", 16, all))
}
