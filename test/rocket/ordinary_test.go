package rocket

import (
	"errors"
	"testing"
)

func TestDatagrams(t *testing.T) {
	p := newPair(t, 1500)
	sink := p.udpSink(t, farAddress)
	var sender *Datagrams
	p.near.do(t, func() (err error) {
		sender, err = NewDatagrams(t.Context(), sink.Local(), Options{})
		return err
	})
	defer sender.Close()
	o := observe(t, p.ifindex, p.near.inum)
	const n = 500
	must(t, sender.Send(t.Context(), n, 64))
	got := settled(t, sink.Received, func(r UDPReceived) bool { return r.Datagrams == n })
	if got != (UDPReceived{Datagrams: n, Bytes: n * 64}) || sender.Number() != n {
		t.Errorf("received %+v, want %d datagrams", got, n)
	}
	exactly(t, ofLength(o.packets(t), 64+42), n, 1)
	if err := sender.Send(t.Context(), 1, HeaderLength-1); err == nil {
		t.Error("a payload without room for the header was sent")
	}
}

func TestStream(t *testing.T) {
	p := newPair(t, 1500)
	sink := p.tcpSink(t, farAddress)
	var stream *Stream
	p.near.do(t, func() (err error) {
		stream, err = NewStream(t.Context(), sink.Local(), Options{})
		return err
	})
	defer stream.Close()
	o := observe(t, p.ifindex, p.near.inum)
	must(t, stream.Segments(t.Context(), 100, 300))
	segments := 0
	for _, packet := range o.packets(t) {
		if packet.length == 300+66 {
			segments++
		}
	}
	if segments != 100 {
		t.Errorf("%d segments, want 100", segments)
	}
	const bulk = 20<<20 + 7
	must(t, stream.Bulk(t.Context(), bulk))
	must(t, stream.WaitAcknowledged(t.Context()))
	want := uint64(100*300 + bulk)
	got := settled(t, sink.Received, func(r TCPReceived) bool { return r.Bytes == want })
	if got != (TCPReceived{Connections: 1, Bytes: want}) || stream.Position() != want {
		t.Errorf("received %+v, want %d bytes", got, want)
	}
	largest := 0
	for _, packet := range o.packets(t) {
		largest = max(largest, packet.slots)
	}
	if largest < 10 {
		t.Errorf("the largest packet of a bulk transfer has %d slots", largest)
	}
	if err := stream.Segments(t.Context(), 1, 1449); err == nil {
		t.Error("a segment longer than the connection carries was sent")
	}
}

// Segments over the connection of a sender of many-slot ones, between two of these.
func TestSegments(t *testing.T) {
	p := newPair(t, 1500)
	sink := p.tcpSink(t, farAddress)
	sender := p.tcp(t, sink.Local(), Options{})
	o := observe(t, p.ifindex, p.near.inum)
	for range 2 {
		_, err := sender.Send(t.Context())
		must(t, err)
		must(t, sender.WaitAcknowledged(t.Context()))
		must(t, sender.Stream().Segments(t.Context(), 100, 300))
	}
	want := uint64(2 * (17*80 + 100*300))
	got := settled(t, sink.Received, func(r TCPReceived) bool { return r.Bytes == want })
	if got != (TCPReceived{Connections: 1, Bytes: want}) {
		t.Errorf("received %+v, want %d bytes", got, want)
	}
	packets := o.packets(t)
	exactly(t, ofLength(packets, 17*80+66), 2, 35)
	if n := len(ofLength(packets, 300+66)); n != 200 {
		t.Errorf("%d segments, want 200", n)
	}
	for _, length := range []int{0, 1449} {
		if err := sender.Stream().Segments(t.Context(), 1, length); err == nil {
			t.Errorf("a segment of %d bytes was sent", length)
		}
	}
}

func TestPatternIsChecked(t *testing.T) {
	data := make([]byte, 1000)
	fillDatagram(data, 7)
	if number, err := CheckDatagram(data); err != nil || number != 7 {
		t.Errorf("number %d, error %v", number, err)
	}
	for _, at := range []int{HeaderLength, 500, 999} {
		data[at] ^= 1
		var corrupt *CorruptError
		if _, err := CheckDatagram(data); !errors.As(err, &corrupt) || corrupt.Position != uint64(at) || corrupt.Number != 7 {
			t.Errorf("byte %d: error %v", at, err)
		}
		data[at] ^= 1
	}
	if _, err := CheckDatagram(data[:999]); err == nil {
		t.Error("a payload that was cut passed")
	}
	for _, foreign := range [][]byte{nil, data[:15], make([]byte, 1000)} {
		if _, err := CheckDatagram(foreign); !errors.Is(err, ErrForeign) {
			t.Errorf("error is %v, want %v", err, ErrForeign)
		}
	}
	other := make([]byte, 1000)
	fillDatagram(other, 8)
	same := 0
	for i := HeaderLength; i < 1000; i++ {
		if other[i] == data[i] {
			same++
		}
	}
	if same > 30 {
		t.Errorf("%d bytes of 984 are the same in the next datagram", same)
	}

	stream := make([]byte, 4000)
	fillPattern(stream, 0, 0)
	var checker StreamChecker
	for _, part := range [][2]int{{0, 1}, {1, 1500}, {1500, 4000}} {
		if n, err := checker.Write(stream[part[0]:part[1]]); err != nil || n != part[1]-part[0] {
			t.Errorf("%d bytes right, error %v", n, err)
		}
	}
	var corrupt *CorruptError
	if n, err := checker.Write(stream[:10]); n != 0 || !errors.As(err, &corrupt) || corrupt.Position != 4000 {
		t.Errorf("%d bytes right, error %v, want a corrupt byte 4000", n, err)
	}
	if checker.Checked() != 4000 {
		t.Errorf("%d bytes checked, want 4000", checker.Checked())
	}
}
