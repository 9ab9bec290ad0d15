package demo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"

	"xentrace/internal/rocket"
	"xentrace/internal/slots"
)

// Packets between two rockets.
const (
	ordinaryLength = 200 // bytes
	datagramsEach  = 20
	segmentsEach   = 10
)

// How many writes make each packet: each takes two slots, but for UDP's first, and the
// head one. The first three are over the limit.
var (
	udpWrites = []int{10, 12, 14, 8, 4}
	tcpWrites = []int{9, 12, 17, 7, 2}
)

const overLimitKinds = 3

type sender interface {
	Send(context.Context) (rocket.Sent, error)
	Close() error
}

type sent struct {
	overLimit, udp, tcp uint64
}

type traffic struct {
	rockets   []sender // UDP and TCP in turn
	streams   []*rocket.Stream
	datagrams *rocket.Datagrams
	all       []io.Closer
	next      int
}

func newTraffic(ctx context.Context, n *link) (*traffic, error) {
	t := &traffic{}
	var udp, tcp netip.AddrPort
	err := n.far.Namespace.Do(func() (err error) {
		udp, tcp, err = t.listen(ctx)
		return err
	})
	if err == nil {
		err = n.near.Namespace.Do(func() error { return t.connect(ctx, udp, tcp) })
	}
	if err != nil {
		return nil, errors.Join(err, t.close())
	}
	return t, nil
}

func (t *traffic) listen(ctx context.Context) (udp, tcp netip.AddrPort, err error) {
	at := netip.AddrPortFrom(farPrefix.Addr(), 0).String()
	config := net.ListenConfig{KeepAlive: -1}
	config.SetMultipathTCP(false)
	datagrams, err := config.ListenPacket(ctx, "udp", at)
	if err != nil {
		return udp, tcp, fmt.Errorf("receiver: %w", err)
	}
	t.all = append(t.all, datagrams)
	streams, err := config.Listen(ctx, "tcp", at)
	if err != nil {
		return udp, tcp, fmt.Errorf("receiver: %w", err)
	}
	t.all = append(t.all, streams)
	go discard(datagrams.(*net.UDPConn))
	go discardStreams(streams)
	return datagrams.LocalAddr().(*net.UDPAddr).AddrPort(), streams.Addr().(*net.TCPAddr).AddrPort(), nil
}

// discard reads until conn is closed.
func discard(conn net.Conn) {
	_, _ = io.Copy(io.Discard, conn)
	_ = conn.Close()
}

// discardStreams reads from every connection until its sender closes it.
func discardStreams(listener net.Listener) {
	for {
		conn, err := listener.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err == nil {
			go discard(conn)
		}
	}
}

func (t *traffic) connect(ctx context.Context, udp, tcp netip.AddrPort) (err error) {
	if t.datagrams, err = rocket.NewDatagrams(ctx, udp, rocket.Options{}); err != nil {
		return err
	}
	t.all = append(t.all, t.datagrams)
	for i := range udpWrites {
		u, err := rocket.NewUDP(ctx, udp, rocket.Options{Writes: udpWrites[i]})
		if err != nil {
			return err
		}
		t.rockets, t.all = append(t.rockets, u), append(t.all, u)
		c, err := rocket.NewTCP(ctx, tcp, rocket.Options{Writes: tcpWrites[i]})
		if err != nil {
			return err
		}
		t.rockets, t.all = append(t.rockets, c), append(t.all, c)
		t.streams = append(t.streams, c.Stream())
	}
	return nil
}

func (t *traffic) close() error {
	var err error
	for i := len(t.all) - 1; i >= 0; i-- { // senders before receivers
		err = errors.Join(err, t.all[i].Close())
	}
	return err
}

func (t *traffic) few(ctx context.Context) (s sent, err error) {
	for i := range watched {
		if err := t.ordinary(ctx); err != nil {
			return s, err
		}
		if err := t.rocket(ctx, i%(2*overLimitKinds), &s); err != nil {
			return s, err
		}
		if err := pause(ctx, watchInterval); err != nil {
			return s, err
		}
	}
	return s, t.settle(ctx)
}

func (t *traffic) many(ctx context.Context) (s sent, err error) {
	for i := range counted {
		if err := t.ordinary(ctx); err != nil {
			return s, err
		}
		if err := t.rocket(ctx, i%len(t.rockets), &s); err != nil {
			return s, err
		}
		if err := pause(ctx, countInterval); err != nil {
			return s, err
		}
	}
	return s, t.settle(ctx)
}

func (t *traffic) ordinary(ctx context.Context) error {
	t.next++
	stream := t.streams[t.next%len(t.streams)]
	return errors.Join(t.datagrams.Send(ctx, datagramsEach, ordinaryLength), stream.Segments(ctx, segmentsEach, ordinaryLength))
}

func (t *traffic) rocket(ctx context.Context, i int, s *sent) error {
	packet, err := t.rockets[i].Send(ctx)
	if err != nil || packet.Slots <= slots.Limit {
		return err
	}
	s.overLimit++
	if i%2 == 0 {
		s.udp++
	} else {
		s.tcp++
	}
	return nil
}

// settle waits until nothing is left that TCP could retransmit.
func (t *traffic) settle(ctx context.Context) error {
	for _, s := range t.streams {
		if err := s.WaitAcknowledged(ctx); err != nil {
			return err
		}
	}
	return nil
}
