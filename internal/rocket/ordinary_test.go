package rocket

import (
	"errors"
	"testing"
	"time"
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

func TestHold(t *testing.T) {
	s := newSpace(t)
	s.do(t, func() error {
		_, err := raise("lo")
		return err
	})
	var held *Held
	s.do(t, func() (err error) {
		held, err = Hold(t.Context(), 1000, 300)
		return err
	})
	if held.Count() != 1000 {
		t.Errorf("%d held, want 1000", held.Count())
	}
	unread := 0
	data := make([]byte, 512)
	for _, conn := range held.receivers {
		for {
			conn.SetReadDeadline(time.Now().Add(20 * time.Millisecond))
			n, err := conn.Read(data)
			if err != nil {
				break
			}
			if _, err := CheckDatagram(data[:n]); err != nil || n != 300 {
				t.Errorf("%d bytes: %v", n, err)
			}
			unread++
		}
	}
	if unread != 1000 {
		t.Errorf("%d lay unread, want 1000", unread)
	}
	must(t, held.Close())
	for _, length := range []int{HeaderLength - 1, 513} {
		if _, err := Hold(t.Context(), 1, length); err == nil {
			t.Errorf("payload of %d bytes was taken", length)
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
