package main

import (
	"cmp"
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"slices"
	"sync"

	"xentrace/test/xen/peer/counts"
)

// receiveBuffer holds a burst that comes faster than an emulated dom0 reads;
// dom0's net.core.rmem_max allows it.
const receiveBuffer = 16 << 20

type sinkKey struct {
	proto, family string
	port          int
}

// ledger is what all sinks have received since the last reset.
type ledger struct {
	mu    sync.Mutex
	sinks map[sinkKey]counts.Sink
}

// add counts one datagram, one connection, or bytes of a connection.
func (l *ledger) add(key sinkKey, more counts.Sink) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.sinks == nil {
		l.sinks = make(map[sinkKey]counts.Sink)
	}
	s := l.sinks[key]
	s.Datagrams += more.Datagrams
	s.Connections += more.Connections
	s.Bytes += more.Bytes
	l.sinks[key] = s
}

// read returns all sinks in order and, if asked, clears them in the same moment.
func (l *ledger) read(reset bool) []counts.Sink {
	l.mu.Lock()
	defer l.mu.Unlock()
	list := make([]counts.Sink, 0, len(l.sinks))
	for key, s := range l.sinks {
		s.Proto, s.Family, s.Port = key.proto, key.family, key.port
		list = append(list, s)
	}
	if reset {
		clear(l.sinks)
	}
	slices.SortFunc(list, func(a, b counts.Sink) int {
		return cmp.Or(cmp.Compare(a.Proto, b.Proto), cmp.Compare(a.Family, b.Family), cmp.Compare(a.Port, b.Port))
	})
	return list
}

func familyOf(addr netip.Addr) string {
	if addr.Unmap().Is4() {
		return "ipv4"
	}
	return "ipv6"
}

// sink counts one TCP connection and its bytes until the other side closes it.
func (l *ledger) sink(conn *net.TCPConn) {
	local := conn.LocalAddr().(*net.TCPAddr).AddrPort()
	key := sinkKey{"tcp", familyOf(local.Addr()), int(local.Port())}
	l.add(key, counts.Sink{Connections: 1})
	buf := make([]byte, 256<<10)
	for {
		n, err := conn.Read(buf)
		if n > 0 {
			l.add(key, counts.Sink{Bytes: uint64(n)})
		}
		if err != nil {
			return
		}
	}
}

// listenUDP reads datagrams on a port into the ledger, nowhere without one.
func listenUDP(ctx context.Context, port int, l *ledger) error {
	conn, err := net.ListenUDP("udp", &net.UDPAddr{Port: port})
	if err != nil {
		return err
	}
	if err := conn.SetReadBuffer(receiveBuffer); err != nil {
		return errors.Join(err, conn.Close())
	}
	context.AfterFunc(ctx, func() { conn.Close() })
	go func() {
		buf := make([]byte, 64<<10)
		for {
			n, from, err := conn.ReadFromUDPAddrPort(buf)
			if errors.Is(err, net.ErrClosed) {
				return
			}
			if err == nil && l != nil {
				l.add(sinkKey{"udp", familyOf(from.Addr()), port}, counts.Sink{Datagrams: 1, Bytes: uint64(n)})
			}
		}
	}()
	return nil
}

func discard(conn *net.TCPConn) { _, _ = io.Copy(io.Discard, conn) }

func echo(conn *net.TCPConn) { _, _ = io.Copy(conn, conn) }
