package learn

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"

	"golang.org/x/sys/unix"
)

const (
	sockBytes   = 4096 // more than a tcp_sock has
	commonBytes = 160  // more than a sock_common has
	socketBytes = 192  // more than a struct socket has
)

// An endpoint is a socket of this process, with what is known of it.
type endpoint struct {
	fd                                          int
	file, sock                                  uint64 // addresses
	family, state, kind, protocol, user, cookie uint64
	local, remote                               uint64 // IPv4 addresses, as the network has them
	localPort, remotePort                       uint64 // the latter as the network has it
	local6, remote6                             []byte
}

func (l *lab) sockets(ctx context.Context) error {
	all, err := l.endpoints()
	defer func() {
		for _, e := range all {
			_ = unix.Close(e.fd)
		}
	}()
	if err != nil {
		return err
	}
	if err := l.learnSocket(all); err != nil {
		return err
	}
	return errors.Join(l.learnSock(all), l.learnOwner(all), l.connections(ctx))
}

func (l *lab) endpoints() (all []endpoint, err error) {
	make4 := func(kind, protocol int) (endpoint, error) {
		fd, err := unix.Socket(unix.AF_INET, kind|unix.SOCK_CLOEXEC, protocol)
		return endpoint{fd: fd, family: unix.AF_INET, kind: uint64(kind), protocol: uint64(protocol), state: 7}, err
	}
	for n := range 6 {
		e, err := make4(unix.SOCK_DGRAM, unix.IPPROTO_UDP)
		if err != nil {
			return all, err
		}
		all = append(all, e)
		if n == 5 {
			break // as it was made
		}
		to := &unix.SockaddrInet4{Port: 1024 + rand.IntN(60000), Addr: l.taps[n%3].peer().As4()}
		if err := unix.Connect(e.fd, to); err != nil {
			return all, err
		}
	}
	for n := range 3 {
		e, err := make4(unix.SOCK_RAW, 190+rand.IntN(60))
		if err == nil && n > 0 {
			err = unix.Bind(e.fd, &unix.SockaddrInet4{Addr: l.taps[n].own().As4()})
		}
		if err != nil {
			return all, err
		}
		e.localPort = e.protocol // as raw_sock keeps it
		all = append(all, e)
	}
	for range 2 {
		e, err := make4(unix.SOCK_STREAM, unix.IPPROTO_TCP)
		if err == nil {
			err = errors.Join(unix.Bind(e.fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, byte(2 + rand.IntN(200))}}), unix.Listen(e.fd, 5))
		}
		if err != nil {
			return all, err
		}
		e.state = 10
		all = append(all, e)
	}
	for n := range 3 {
		fd, err := unix.Socket(unix.AF_INET6, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			break // a kernel without IPv6, see learnSock
		}
		e := endpoint{fd: fd, family: unix.AF_INET6, kind: unix.SOCK_DGRAM, protocol: unix.IPPROTO_UDP, state: 7}
		// A mapped address does without an interface that has one of IPv6, and both ends differ.
		to := &unix.SockaddrInet6{Port: 1024 + rand.IntN(60000), Addr: l.taps[n].peer().As16()}
		if err := errors.Join(unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, 0), unix.Connect(fd, to)); err != nil {
			return append(all, e), fmt.Errorf("IPv6: %w", err)
		}
		all = append(all, e)
	}
	for i := range all {
		if err := all[i].ask(); err != nil {
			return all, err
		}
	}
	return all, nil
}

// ask has the kernel say what can be asked for.
func (e *endpoint) ask() error {
	e.user = uint64(100000 + rand.IntN(1<<30))
	if err := unix.Fchown(e.fd, int(e.user), -1); err != nil {
		return fmt.Errorf("owner of a socket: %w", err)
	}
	cookie, err := unix.GetsockoptUint64(e.fd, unix.SOL_SOCKET, unix.SO_COOKIE)
	if err != nil {
		return fmt.Errorf("SO_COOKIE: %w", err)
	}
	e.cookie = cookie
	address := func(a unix.Sockaddr) (v4 uint64, v6 []byte, port int) {
		switch a := a.(type) {
		case *unix.SockaddrInet4:
			return uint64(binary.NativeEndian.Uint32(a.Addr[:])), nil, a.Port
		case *unix.SockaddrInet6:
			return uint64(binary.NativeEndian.Uint32(a.Addr[12:])), slices.Clone(a.Addr[:]), a.Port
		}
		return 0, nil, 0
	}
	swap := func(port int) uint64 { return uint64(port>>8 | port&0xff<<8) }
	if a, err := unix.Getsockname(e.fd); err == nil {
		var port int
		e.local, e.local6, port = address(a)
		if e.kind != unix.SOCK_RAW {
			e.localPort = uint64(port)
		}
	}
	if a, err := unix.Getpeername(e.fd); err == nil {
		var port int
		e.remote, e.remote6, port = address(a)
		e.remotePort = swap(port)
		e.state = 1
	}
	return nil
}

// locate finds a socket's file, by the array of descriptors.
func (l *lab) locate(e *endpoint) {
	e.file = l.memory.word(l.descriptors + 8*uint64(e.fd))
}

// learnSocket finds how a file leads to a sock.
func (l *lab) learnSocket(all []endpoint) error {
	l.memory.fresh()
	var files []specimen
	for i := range all {
		l.locate(&all[i])
		files = append(files, specimen{all[i].file, l.memory.at(all[i].file, 256)})
	}
	var private, back, socks, sockets []int
	for _, at := range places(files, 8, func(_ int, value uint64) bool { return isPointer(value) }) {
		var images []specimen
		for n := range files {
			socket := number(files[n].image, at, 8)
			images = append(images, specimen{socket, l.memory.at(socket, socketBytes)})
		}
		found := places(images, 8, func(n int, value uint64) bool { return value == all[n].file })
		if len(found) == 0 {
			continue
		}
		private, back = append(private, at), append(back, found...)
		for _, in := range places(images, 8, func(n int, value uint64) bool { return isPointer(value) && value != all[n].file }) {
			var candidates []specimen
			for n := range images {
				sock := number(images[n].image, in, 8)
				candidates = append(candidates, specimen{sock, l.memory.at(sock, 1024)})
			}
			if found := places(candidates, 8, func(n int, value uint64) bool { return value == images[n].at }); len(found) > 0 {
				socks, sockets = append(socks, in), append(sockets, found...)
			}
		}
	}
	return errors.Join(
		l.layout.settle("file.private_data", 8, private), l.layout.settle("socket.file", 8, back),
		l.layout.settle("socket.sk", 8, socks), l.layout.settle("sock.sk_socket", 8, sockets),
	)
}

// sockOf returns the address of a descriptor's sock.
func (l *lab) sockOf(fd int) uint64 {
	file := l.memory.word(l.descriptors + 8*uint64(fd))
	socket := l.memory.word(file + uint64(l.layout["file.private_data"].Offset))
	return l.memory.word(socket + uint64(l.layout["socket.sk"].Offset))
}

func (l *lab) learnSock(all []endpoint) error {
	if _, known := l.layout["socket.sk"]; !known {
		return nil
	}
	l.memory.fresh()
	var images []specimen
	for i := range all {
		all[i].sock = l.sockOf(all[i].fd)
		images = append(images, specimen{all[i].sock, l.memory.at(all[i].sock, sockBytes)})
	}
	common := func(name string, size int, member func(*endpoint) uint64) error {
		found := places(images, size, func(n int, value uint64) bool { return value == member(&all[n]) })
		return l.layout.settle("sock_common."+name, size, within(found, 0, commonBytes))
	}
	own := func(name string, size int, member func(*endpoint) uint64) error {
		found := places(images, size, func(n int, value uint64) bool { return value == member(&all[n]) })
		return l.layout.settle("sock."+name, size, found)
	}
	number4 := func(name string, member func(*endpoint) uint64) error {
		found := places(images, 4, func(n int, value uint64) bool { return all[n].family != unix.AF_INET || value == member(&all[n]) })
		return l.layout.settle("sock_common."+name, 4, within(found, 0, commonBytes))
	}
	inum, err := namespace()
	if err != nil {
		return err
	}
	number6 := func(name string, member func(*endpoint) []byte) error {
		var found []int
		for at := 0; at+16 <= commonBytes; at += 4 {
			right, seen := true, false
			for n := range all {
				if all[n].family == unix.AF_INET6 {
					seen, right = true, right && bytes.Equal(part(images[n].image, at, 16), member(&all[n]))
				}
			}
			if right && seen {
				found = append(found, at)
			}
		}
		if !slices.ContainsFunc(all, func(e endpoint) bool { return e.family == unix.AF_INET6 }) {
			return nil // a kernel without IPv6: programs do without
		}
		return l.layout.settle("sock_common."+name, 16, found)
	}
	return errors.Join(
		number4("skc_daddr", func(e *endpoint) uint64 { return e.remote }),
		number4("skc_rcv_saddr", func(e *endpoint) uint64 { return e.local }),
		common("skc_dport", 2, func(e *endpoint) uint64 { return e.remotePort }),
		common("skc_num", 2, func(e *endpoint) uint64 { return e.localPort }),
		common("skc_family", 2, func(e *endpoint) uint64 { return e.family }),
		common("skc_state", 1, func(e *endpoint) uint64 { return e.state }),
		common("skc_cookie", 8, func(e *endpoint) uint64 { return e.cookie }),
		number6("skc_v6_daddr", func(e *endpoint) []byte { return e.remote6 }),
		number6("skc_v6_rcv_saddr", func(e *endpoint) []byte { return e.local6 }),
		l.layout.settle("sock_common.skc_net", 8, within(places(images, 8, func(_ int, value uint64) bool {
			at, known := l.layout["net.ns.inum"]
			return known && isPointer(value) && number(l.memory.at(value+uint64(at.Offset), 4), 0, 4) == inum
		}), 0, commonBytes)),
		own("sk_uid", 4, func(e *endpoint) uint64 { return e.user }),
		own("sk_type", 2, func(e *endpoint) uint64 { return e.kind }),
		own("sk_protocol", 2, func(e *endpoint) uint64 { return e.protocol }),
		l.learnHash(all, images),
	)
}

// learnHash finds skc_hash, which the kernel makes with a secret: the only number between the
// addresses and the ports that differs between connections. It serves to tell them apart only.
func (l *lab) learnHash(all []endpoint, images []specimen) error {
	local, known := l.layout["sock_common.skc_rcv_saddr"]
	port, too := l.layout["sock_common.skc_dport"]
	if !known || !too || port.Offset-local.Offset != 8 {
		return fmt.Errorf("sock_common.skc_hash: %w", ErrUnsure)
	}
	seen := make(map[uint64]bool)
	for n := range all {
		if hash := number(images[n].image, local.Offset+4, 4); all[n].state == 1 && hash != 0 {
			seen[hash] = true
		}
	}
	if len(seen) < 4 {
		return fmt.Errorf("sock_common.skc_hash: %w: %d of them differ", ErrUnsure, len(seen))
	}
	l.layout["sock_common.skc_hash"] = Member{local.Offset + 4, 4}
	return nil
}

// learnOwner finds sk_buff.sk, by datagrams of sockets whose addresses are known.
func (l *lab) learnOwner(all []endpoint) error {
	var images []specimen
	var owners []uint64
	for i := range all {
		e := &all[i]
		if e.sock == 0 || e.family != unix.AF_INET || e.kind != unix.SOCK_DGRAM || e.state != 1 {
			continue
		}
		if err := l.hook.want(0); err != nil {
			return err
		}
		if _, err := unix.Write(e.fd, make([]byte, 100)); err != nil {
			return err
		}
		s, err := l.hook.sighting()
		if err != nil {
			return err
		}
		images, owners = append(images, specimen{s.Skb, bytes.Clone(s.Image[:])}), append(owners, e.sock)
	}
	return l.layout.settle("sk_buff.sk", 8, places(images, 8, equal(owners)))
}
