package rocket

import (
	"errors"
	"net/netip"
	"testing"
)

// ofLength leaves out what is not the test's: neighbour discovery and the like.
func ofLength(packets []packet, lengths ...int) (list []packet) {
	for _, p := range packets {
		for _, length := range lengths {
			if p.length == length {
				list = append(list, p)
			}
		}
	}
	return list
}

// exactly fails the test unless there are n packets, and each has that many
// slots, or one more where the kernel put its head across a page boundary.
func exactly(t *testing.T, packets []packet, n, slots int) {
	t.Helper()
	if len(packets) != n {
		t.Errorf("%d packets, want %d", len(packets), n)
	}
	wrong := 0
	for _, p := range packets {
		want := slots
		if p.headOffset+p.headLen > 4096 {
			want++
		}
		if p.slots != want {
			if wrong++; wrong <= 5 {
				t.Errorf("%s, want %d slots", p, want)
			}
		}
	}
	if wrong > 0 {
		t.Errorf("%d of %d packets: %v", wrong, len(packets), histogram(packets))
	}
}

func TestUDP(t *testing.T) {
	for _, test := range []struct {
		name     string
		at       netip.Addr
		opts     Options
		overhead int // link and network headers
		slots    int
	}{
		{"IPv4", farAddress, Options{}, 42, 27},
		{"IPv6", farAddress6, Options{}, 62, 27},
		{"bound to the device", farAddress, Options{Device: "near"}, 42, 27},
		{"one write", farAddress, Options{Writes: 1}, 42, 1},
		{"ten writes: at the limit of 18 or over", farAddress, Options{Writes: 10}, 42, 19},
		{"seventeen fragments", farAddress, Options{Writes: 18, WriteLength: 64}, 42, 35},
		{"short writes", farAddress, Options{Writes: 14, WriteLength: 16}, 42, 27},
		{"odd writes", farAddress, Options{Writes: 14, WriteLength: 81}, 42, 27},
	} {
		t.Run(test.name, func(t *testing.T) {
			p := newPair(t, 1500)
			sink := p.udpSink(t, test.at)
			sender := p.udp(t, sink.Local(), test.opts)
			o := observe(t, p.ifindex, p.near.inum)
			const n = 200
			length := 0
			for i := range n {
				sent, err := sender.Send(t.Context())
				must(t, err)
				length = sent.Length
				if sent.Number != uint64(i) || sent.Remote != sink.Local() || sent.Slots != test.slots ||
					sent.Local != sender.Local() || sent.Length%sent.Writes != 0 {
					t.Fatalf("sent %+v", sent)
				}
			}
			got := settled(t, sink.Received, func(r UDPReceived) bool { return r.Datagrams == n })
			if got != (UDPReceived{Datagrams: n, Bytes: uint64(n * length)}) {
				t.Errorf("received %+v, want %d datagrams of %d bytes", got, n, length)
			}
			exactly(t, ofLength(o.packets(t), length+test.overhead), n, test.slots)
		})
	}
}

// A datagram has as many slots as asked for.
func TestUDPOfSlots(t *testing.T) {
	p := newPair(t, 1500)
	for slots := MinSlots; slots <= MaxSlots; slots++ {
		sink := p.udpSink(t, farAddress)
		sender := p.udp(t, sink.Local(), Options{Slots: slots})
		o := observe(t, p.ifindex, p.near.inum)
		const n = 20
		length := 0
		for range n {
			sent, err := sender.Send(t.Context())
			must(t, err)
			if length = sent.Length; sent.Slots != slots {
				t.Fatalf("sent %+v, want %d slots", sent, slots)
			}
		}
		settled(t, sink.Received, func(r UDPReceived) bool { return r.Datagrams == n })
		exactly(t, ofLength(o.packets(t), length+42), n, slots)
	}
	for _, slots := range []int{-1, 1, MaxSlots + 1} {
		if _, err := NewUDP(t.Context(), netip.AddrPortFrom(farAddress, 9), Options{Slots: slots}); err == nil {
			t.Errorf("%d slots: want an error", slots)
		}
	}
}

func TestUDPWithMTU9001(t *testing.T) {
	p := newPair(t, 9001)
	sink := p.udpSink(t, farAddress)
	sender := p.udp(t, sink.Local(), Options{Writes: 17, WriteLength: 512})
	o := observe(t, p.ifindex, p.near.inum)
	for range 200 {
		_, err := sender.Send(t.Context())
		must(t, err)
	}
	exactly(t, ofLength(o.packets(t), 17*512+42), 200, 33)
}

func TestTCP(t *testing.T) {
	for _, test := range []struct {
		name     string
		at       netip.Addr
		mtu      int
		opts     Options
		overhead int
		slots    int
	}{
		{"IPv4", farAddress, 1500, Options{}, 66, 35},
		{"IPv6", farAddress6, 1500, Options{}, 86, 35},
		{"MTU 9001", farAddress, 9001, Options{WriteLength: 512}, 66, 35},
		{"nine writes", farAddress, 1500, Options{Writes: 9}, 66, 19},
	} {
		t.Run(test.name, func(t *testing.T) {
			p := newPair(t, test.mtu)
			sink := p.tcpSink(t, test.at)
			sender := p.tcp(t, sink.Local(), test.opts)
			o := observe(t, p.ifindex, p.near.inum)
			const n = 200
			var first, last Sent
			for i := range n {
				sent, err := sender.Send(t.Context())
				must(t, err)
				if i == 0 {
					first = sent
				}
				last = sent
				if sent.Split {
					t.Errorf("segment %d was split", i)
				}
			}
			must(t, sender.WaitAcknowledged(t.Context()))
			if !first.SeqKnown || last.Seq-first.Seq != uint32(last.Position) || last.Position != uint64((n-1)*last.Length) {
				t.Errorf("first %+v, last %+v", first, last)
			}
			if left, err := sender.Unacknowledged(); err != nil || left != 0 {
				t.Errorf("%d bytes not acknowledged, error %v", left, err)
			}
			got := settled(t, sink.Received, func(r TCPReceived) bool { return r.Bytes == uint64(n*last.Length) })
			if got != (TCPReceived{Connections: 1, Bytes: uint64(n * last.Length)}) {
				t.Errorf("received %+v, want %d bytes", got, n*last.Length)
			}
			exactly(t, ofLength(o.packets(t), last.Length+test.overhead), n, test.slots)
		})
	}
}

// Several senders of one process at once do not spoil each other's places.
func TestSendersBesideEachOther(t *testing.T) {
	p := newPair(t, 1500)
	udpSink, tcpSink := p.udpSink(t, farAddress), p.tcpSink(t, farAddress)
	const n = 100
	udp := []*UDP{p.udp(t, udpSink.Local(), Options{}), p.udp(t, udpSink.Local(), Options{})}
	tcp := p.tcp(t, tcpSink.Local(), Options{})
	var plain *Datagrams
	p.near.do(t, func() (err error) {
		plain, err = NewDatagrams(t.Context(), udpSink.Local(), Options{})
		return err
	})
	defer plain.Close()
	o := observe(t, p.ifindex, p.near.inum)
	work := []func() error{
		func() error { return plain.Send(t.Context(), n, 200) },
		func() error { _, err := tcp.Send(t.Context()); return err },
		func() error { _, err := udp[0].Send(t.Context()); return err },
		func() error { _, err := udp[1].Send(t.Context()); return err },
	}
	results := make(chan error)
	for i, send := range work {
		go func() {
			var err error
			for range n {
				if err = errors.Join(err, send()); i == 0 {
					break
				}
			}
			results <- err
		}()
	}
	for range work {
		must(t, <-results)
	}
	must(t, tcp.WaitAcknowledged(t.Context()))
	packets := o.packets(t)
	exactly(t, ofLength(packets, 14*80+42), 2*n, 27)
	exactly(t, ofLength(packets, 17*80+66), n, 35)
	exactly(t, ofLength(packets, 200+42), n, 1)
}
