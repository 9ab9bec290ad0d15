package flow

import (
	"net/netip"
	"testing"
	"time"

	"xentrace/internal/event"
)

// forwarded is the record of a dropped segment that no local socket sent.
func forwarded(seconds float64, seq uint32) *event.Packet {
	p := (&sender{port: 40000}).drop(seconds, seq)
	p.TCP, p.Socket = nil, nil
	return p
}

// A forwarded connection is stalled while the same segment is dropped, and recovers when it
// no longer is.
func TestForwardedConnectionStalls(t *testing.T) {
	for _, test := range []struct {
		name    string
		packets []*event.Packet // the last one stalls it
		since   float64
		times   int
	}{
		{"twice in a row", []*event.Packet{forwarded(0, 1000), forwarded(0.2, 1000)}, 0, 2},
		{"behind its flight", []*event.Packet{forwarded(0, 1000), forwarded(0.001, 2448), forwarded(0.002, 3896), forwarded(0.2, 1000), forwarded(0.6, 1000)}, 0.2, 3},
		{"across the wrap", []*event.Packet{forwarded(0, 0xffffff00), forwarded(0.001, 0x100), forwarded(0.2, 0xffffff00), forwarded(0.6, 0xffffff00)}, 0.2, 3},
		{"a higher one before", []*event.Packet{forwarded(0, 2448), forwarded(0.1, 1000), forwarded(0.3, 1000)}, 0.1, 2},
		{"in a tunnel", []*event.Packet{tunnelled(forwarded(0, 1000)), tunnelled(forwarded(0.2, 1000))}, 0, 2},
	} {
		t.Run(test.name, func(t *testing.T) {
			table := NewTable(0, newFakeKernel())
			last := test.packets[len(test.packets)-1]
			for _, p := range test.packets[:len(test.packets)-1] {
				none(t, table.Add(p))
			}
			f := only(t, table.Add(last), event.Stalled)
			if !f.Inferred || !f.StalledSince.Equal(at(test.since)) || f.TCP.SameSeq != test.times || f.TCP.Seq != flowOf(last).Seq || f.Stalls != 1 {
				t.Errorf("stalled: %+v %+v", f, *f.TCP)
			}
			if c := table.Counts(); c.Stalled != 1 || c.EverStalled != 1 {
				t.Errorf("counts %+v", c)
			}
		})
	}
}

// What is no stall of a forwarded connection: other packets, copies, and what takes no sequence numbers.
func TestForwardedConnectionDoesNotStall(t *testing.T) {
	bare := func(p *event.Packet) *event.Packet { p.Flow.SeqLength = 0; return p }
	for name, packets := range map[string][]*event.Packet{
		"another sequence number": {forwarded(0, 1000), forwarded(0.2, 2448), forwarded(0.4, 3896)},
		"a higher one in between": {forwarded(0, 1000), forwarded(0.1, 2448), forwarded(0.2, 1000), forwarded(0.3, 3896), forwarded(0.4, 1000)},
		"copies of one packet":    {forwarded(0, 1000), forwarded(0.0001, 1000), forwarded(0.0002, 1000)},
		"bare acknowledgements":   {bare(forwarded(0, 1000)), bare(forwarded(0.2, 1000)), bare(forwarded(0.4, 1000))},
	} {
		t.Run(name, func(t *testing.T) {
			table := NewTable(0, nil)
			for _, p := range packets {
				none(t, table.Add(p))
			}
			if f := table.Snapshot(at(1))[0]; f.State != event.Troubled || f.Drops != uint64(len(packets)) {
				t.Errorf("%+v", f)
			}
		})
	}
}

// The timer of the sender doubles: as long as the next retransmission may be due, it is stalled.
func TestForwardedConnectionRecovers(t *testing.T) {
	table := NewTable(0, nil)
	none(t, table.Add(forwarded(0, 1000)))
	only(t, table.Add(forwarded(2, 1000)), event.Stalled)
	none(t, table.Poll(at(9.9)))
	none(t, table.Add(forwarded(6, 1000)))
	none(t, table.Poll(at(21.9)))
	f := only(t, table.Poll(at(22)), event.Recovered)
	if !f.Inferred || f.StalledFor != 6*time.Second || f.Drops != 3 {
		t.Errorf("recovered: %+v", f)
	}
	none(t, table.Poll(at(30)))
	if c := table.Counts(); c.Stalled != 0 || c.EverStalled != 1 {
		t.Errorf("counts %+v", c)
	}
	none(t, table.Add(forwarded(40, 9000)))
	if f := only(t, table.Add(forwarded(40.3, 9000)), event.Stalled); f.Stalls != 2 || !f.StalledSince.Equal(at(40)) {
		t.Errorf("stalled again: %+v", f)
	}
	none(t, table.Poll(at(43.2)))
	only(t, table.Poll(at(43.3)), event.Recovered)
}

// When a packet of it has a socket here after all, the socket decides.
func TestSocketBeatsInference(t *testing.T) {
	table := NewTable(0, nil)
	none(t, table.Add(forwarded(0, 1000)))
	only(t, table.Add(forwarded(0.2, 1000)), event.Stalled)
	s := &sender{port: 40000, address: 1, una: 5000}
	none(t, table.Add(s.drop(0.4, 5000)))
	if f := table.Snapshot(at(1))[0]; f.Inferred || f.State != event.Troubled || f.TCP.SndUna != 5000 {
		t.Errorf("%+v %+v", f, *f.TCP)
	}
	none(t, table.Add(forwarded(0.6, 5000)))
	if f := table.Snapshot(at(1))[0]; f.Inferred || f.State != event.Troubled || f.Drops != 4 {
		t.Errorf("%+v %+v", f, *f.TCP)
	}
	none(t, table.Poll(at(60)))
}

// A stalled connection is kept where those that are not make room.
func TestForwardedStallsAreKept(t *testing.T) {
	table := NewTable(3, nil)
	from := func(port uint16, p *event.Packet) *event.Packet {
		p.Flow.Source = netip.AddrPortFrom(p.Flow.Source.Addr(), port)
		return p
	}
	none(t, table.Add(from(1, forwarded(0, 1000))))
	only(t, table.Add(from(1, forwarded(0.2, 1000))), event.Stalled)
	for port := uint16(2); port < 10; port++ {
		none(t, table.Add(from(port, forwarded(float64(port), 1000))))
	}
	if got := ports(table.Snapshot(at(20))); got[0] != 1 || len(got) != 3 {
		t.Errorf("flows from ports %v, want the stalled one from port 1 among them", got)
	}
	only(t, table.Poll(at(30)), event.Recovered)
}
