package flow

import (
	"testing"
	"time"

	"xentrace/internal/event"
)

// The whole life of a connection that hangs, with sequence numbers of every kind.
func TestStalledRecoveredClosed(t *testing.T) {
	for _, test := range []struct {
		name string
		una  uint32
		ipv6 bool
	}{
		{"IPv4", 1000, false},
		{"IPv6", 1000, true},
		{"wraps behind the dropped segment", 0xfffffff0, false},
		{"wraps at the dropped segment", 0xffffffff, true},
		{"above half", 0x80000000, false},
		{"zero", 0, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			k := newFakeKernel()
			table := NewTable(0, k)
			s := &sender{port: 40000, address: 0xffff888000000001, una: test.una, total: 3, ipv6: test.ipv6}
			none(t, table.Add(s.drop(0, s.una)))
			k.stands(s.address, 0.1, s.una, 3)
			none(t, table.Poll(at(0.1)))
			s.total++
			f := only(t, table.Add(s.drop(0.2, s.una)), event.Stalled)
			if f.Drops != 2 || f.TCP.SameSeq != 2 || f.TCP.Retransmits != 1 || f.StalledFor != 200*time.Millisecond || !f.StalledSince.Equal(at(0)) {
				t.Errorf("stalled: %+v %+v", f, *f.TCP)
			}
			s.total++
			none(t, table.Add(s.drop(0.6, s.una)))
			if c := table.Counts(); c.Stalled != 1 || c.EverStalled != 1 || c.Flows != 1 {
				t.Errorf("counts %+v", c)
			}
			k.stands(s.address, 1, s.una+1448, 6)
			f = only(t, table.Poll(at(1)), event.Recovered)
			if f.StalledFor != time.Second || f.Drops != 3 || f.TCP.Retransmits != 3 || f.Causes[event.TooManySlots] != 3 {
				t.Errorf("recovered: %+v %+v", f, *f.TCP)
			}
			none(t, table.Poll(at(1.2)))
			k.ends(s.address, 2, s.una+8705, 11)
			f = only(t, table.Poll(at(2.2)), event.Closed)
			if f.StalledFor != time.Second || f.StalledAtEnd || f.TCP.Retransmits != 8 || f.TCP.SndQBytes != 0 || !f.TCP.Asked.Equal(at(2)) {
				t.Errorf("closed: %+v %+v", f, *f.TCP)
			}
			none(t, table.Poll(at(3)))
			if c := table.Counts(); c.Stalled != 0 || c.EverStalled != 1 || len(k.followed) != 0 {
				t.Errorf("counts %+v, %d followed", c, len(k.followed))
			}
		})
	}
}

// What is not a stall: the same sequence number twice with progress in between,
// different ones, packets that take none, and packets of no connection.
func TestWhatIsNoStall(t *testing.T) {
	s := &sender{port: 1, address: 1, una: 1000}
	progress := func(una uint32) *event.Packet {
		moved := *s
		moved.una = una
		return moved.drop(0.2, 3000)
	}
	with := func(p *event.Packet, change func(*event.Packet)) *event.Packet {
		change(p)
		return p
	}
	bare := func(p *event.Packet) { p.Flow.SeqLength = 0 }
	forwarded := func(p *event.Packet) { p.TCP, p.Socket = nil, nil }
	listening := func(p *event.Packet) { p.TCP.State = tcpListen }
	for _, test := range []struct {
		name    string
		packets []*event.Packet
	}{
		{"another sequence number", []*event.Packet{s.drop(0, 1000), s.drop(0.2, 2448)}},
		{"something was acknowledged", []*event.Packet{s.drop(0, 3000), progress(2000)}},
		{"it was acknowledged itself", []*event.Packet{s.drop(0, 3000), progress(3001)}},
		{"bare acknowledgements", []*event.Packet{with(s.drop(0, 1000), bare), with(s.drop(0.2, 1000), bare)}},
		{"forwarded", []*event.Packet{with(s.drop(0, 1000), forwarded), with(s.drop(0.2, 1000), forwarded)}},
		{"of a listening socket", []*event.Packet{with(s.drop(0, 1000), listening), with(s.drop(0.2, 1000), listening)}},
		{"linearized", []*event.Packet{s.packet(0, event.Linearized), s.packet(0.2, event.Linearized)}},
		{"UDP", []*event.Packet{datagram(0, 1, event.Dropped), datagram(0.2, 1, event.Dropped)}},
	} {
		t.Run(test.name, func(t *testing.T) {
			table := NewTable(0, newFakeKernel())
			for _, p := range test.packets {
				none(t, table.Add(p))
			}
			if f := table.Snapshot(at(1))[0]; f.State != event.Troubled || f.StalledFor != 0 {
				t.Errorf("%+v", f)
			}
		})
	}
}

// Progress begins the counting anew: two drops since then, from the first of them on.
func TestStallAfterProgress(t *testing.T) {
	table := NewTable(0, nil)
	s := &sender{port: 1, address: 1, una: 1000}
	none(t, table.Add(s.drop(0, 2448)))
	s.una = 2448
	none(t, table.Add(s.drop(1, 2448)))
	f := only(t, table.Add(s.drop(3, 2448)), event.Stalled)
	if f.TCP.SameSeq != 3 || f.StalledFor != 2*time.Second {
		t.Errorf("%+v %+v", f, *f.TCP)
	}
}

// It stalls, recovers as its own next record shows, and stalls again at another place.
func TestSecondStall(t *testing.T) {
	table := NewTable(0, nil)
	s := &sender{port: 1, address: 1, una: 1000}
	table.Add(s.drop(0, 1000))
	only(t, table.Add(s.drop(1, 1000)), event.Stalled)
	s.una = 9704
	f := only(t, table.Add(s.drop(5, 9704)), event.Recovered)
	if f.StalledFor != 5*time.Second || f.TCP.SndUna != 9704 {
		t.Errorf("%+v", f)
	}
	f = only(t, table.Add(s.drop(6, 9704)), event.Stalled)
	if f.Stalls != 2 || f.StalledFor != time.Second || f.Drops != 4 || table.Counts().EverStalled != 1 {
		t.Errorf("%+v", f)
	}
}

// What the kernel reported later is believed over a record that comes late.
func TestLateRecord(t *testing.T) {
	k := newFakeKernel()
	table := NewTable(0, k)
	s := &sender{port: 1, address: 1, una: 1000}
	table.Add(s.drop(0, 1000))
	k.stands(1, 2, 9704, 0)
	none(t, table.Poll(at(2)))
	none(t, table.Add(s.drop(1, 1000)))
	if f := table.Snapshot(at(3))[0]; f.TCP.SndUna != 9704 || f.Drops != 2 {
		t.Errorf("%+v %+v", f, *f.TCP)
	}
}

// More sequence numbers are dropped than are remembered; the lowest, which is sent
// again, is among those that are.
func TestManySequenceNumbers(t *testing.T) {
	table := NewTable(0, nil)
	s := &sender{port: 1, address: 1, una: 0xffffff00}
	for i := range uint32(100) {
		none(t, table.Add(s.drop(float64(i)/1000, s.una+(99-i)*1448)))
	}
	f := only(t, table.Add(s.drop(1, s.una)), event.Stalled)
	if f.Drops != 101 || f.TCP.SameSeq != 2 {
		t.Errorf("%+v %+v", f, *f.TCP)
	}
}

// A connection ends while it is stalled; one that ended before it could be followed;
// one that recovers with its last acknowledgement.
func TestEnds(t *testing.T) {
	stall := func(k *fakeKernel) (*Table, *sender) {
		table := NewTable(0, k)
		s := &sender{port: 1, address: 1, una: 1000}
		table.Add(s.drop(0, 1000))
		only(t, table.Add(s.drop(1, 1000)), event.Stalled)
		return table, s
	}
	t.Run("stalled", func(t *testing.T) {
		k := newFakeKernel()
		table, _ := stall(k)
		k.stands(1, 4, 1000, 5)
		k.sockets[1].Ended = true
		k.endings++
		f := only(t, table.Poll(at(4.1)), event.Closed)
		if !f.StalledAtEnd || f.StalledFor != 4*time.Second || f.TCP.SndQBytes != 8704 || f.TCP.Retransmits != 5 {
			t.Errorf("%+v %+v", f, *f.TCP)
		}
	})
	t.Run("not known how", func(t *testing.T) {
		table, _ := stall(newFakeKernel())
		f := only(t, table.Poll(at(2)), event.Closed)
		if f.TCP.SndQBytes != 8704 || f.TCP.SndUna != 1000 {
			t.Errorf("%+v %+v", f, *f.TCP)
		}
	})
	t.Run("all acknowledged at last", func(t *testing.T) {
		k := newFakeKernel()
		table, _ := stall(k)
		k.ends(1, 3, 9704, 2)
		events := table.Poll(at(3))
		if len(events) != 2 || events[0].Flow.State != event.Recovered || events[1].Flow.State != event.Closed || events[1].Flow.StalledAtEnd {
			t.Errorf("%+v", events)
		}
	})
	t.Run("nothing was dropped", func(t *testing.T) {
		k := newFakeKernel()
		table := NewTable(0, k)
		s := &sender{port: 1, address: 1, una: 1000}
		none(t, table.Add(s.packet(0, event.Linearized)))
		none(t, table.Poll(at(1)))
		if k.asked != 0 || len(k.followed) != 0 {
			t.Errorf("asked %d times, %d followed: want none", k.asked, len(k.followed))
		}
	})
}

// A new connection between the same two ports is another flow, and one whose socket
// lies where another's lay ends that one.
func TestNewConnections(t *testing.T) {
	t.Run("same ports", func(t *testing.T) {
		k := newFakeKernel()
		table := NewTable(0, k)
		s := &sender{port: 1, address: 1, una: 1000}
		k.ends(1, 0.5, 1000, 0)
		none(t, table.Add(s.drop(0, 1000)))
		s = &sender{port: 1, address: 2, una: 77}
		f := only(t, table.Add(s.drop(1, 77)), event.Closed)
		if f.Drops != 1 || !f.TCP.Asked.Equal(at(0.5)) {
			t.Errorf("%+v", f)
		}
		if f := table.Snapshot(at(2)); len(f) != 1 || f[0].Drops != 1 || f[0].TCP.Seq != 77 || !k.followed[2] || k.followed[1] {
			t.Errorf("%+v, followed %v", f, k.followed)
		}
	})
	t.Run("same place", func(t *testing.T) {
		k := newFakeKernel()
		table := NewTable(0, k)
		none(t, table.Add((&sender{port: 1, address: 1, una: 1000}).drop(0, 1000)))
		f := only(t, table.Add((&sender{port: 2, address: 1, una: 77}).drop(1, 77)), event.Closed)
		if f.Source.Port() != 1 || !k.followed[1] || len(table.Snapshot(at(2))) != 2 {
			t.Errorf("%+v, followed %v", f, k.followed)
		}
		k.stands(1, 2, 77, 0)
		none(t, table.Poll(at(2)))
	})
	t.Run("after the end", func(t *testing.T) {
		k := newFakeKernel()
		table := NewTable(0, k)
		s := &sender{port: 1, address: 1, una: 1000}
		table.Add(s.drop(0, 1000))
		k.ends(1, 1, 1001, 0)
		only(t, table.Poll(at(1)), event.Closed)
		none(t, table.Add(s.drop(2, 5000)))
		if f := table.Snapshot(at(3)); len(f) != 1 || f[0].State != event.Troubled || f[0].Drops != 1 {
			t.Errorf("%+v", f)
		}
	})
}

// A server's SYN-ACK of a listening socket, then the connection's own packets.
func TestSocketIsLearnt(t *testing.T) {
	k := newFakeKernel()
	table := NewTable(0, k)
	s := &sender{port: 1, address: 9, una: 1000}
	p := s.drop(0, 999)
	p.TCP, p.Socket = nil, nil
	none(t, table.Add(p))
	none(t, table.Add(s.drop(1, 1000)))
	f := only(t, table.Add(s.drop(2, 1000)), event.Stalled)
	if f.Drops != 3 || f.TCP.SameSeq != 2 || !k.followed[9] {
		t.Errorf("%+v %+v", f, *f.TCP)
	}
}

// The kernel does not answer: records alone tell, and nothing is made up.
func TestKernelDoesNotAnswer(t *testing.T) {
	k := newFakeKernel()
	k.err = event.ErrNotLoaded
	table := NewTable(0, k)
	table.Add((&sender{port: 2, address: 2, una: 1000}).drop(0, 1000))
	none(t, table.Poll(at(0)))
	if table.Err() != nil {
		t.Errorf("error %v while it is not ready", table.Err())
	}
	k.err = errKernel
	s := &sender{port: 1, address: 1, una: 1000}
	table.Add(s.drop(0, 1000))
	only(t, table.Add(s.drop(1, 1000)), event.Stalled)
	none(t, table.Poll(at(2)))
	if table.Err() != errKernel {
		t.Errorf("error %v", table.Err())
	}
	k.err = nil
	k.stands(1, 3, 2000, 1)
	k.stands(2, 3, 1000, 0)
	only(t, table.Poll(at(3)), event.Recovered)
}

// What a flow's history holds of packets that were not TCP, or not lost.
func TestHistory(t *testing.T) {
	table := NewTable(0, nil)
	table.Add(datagram(0, 53, event.Dropped))
	elsewhere := datagram(1, 53, event.Dropped)
	elsewhere.Layer, elsewhere.Cause, elsewhere.Reason, elsewhere.Slots = event.LayerElsewhere, event.CauseNone, "QDISC_DROP", 1
	elsewhere.Process = &event.Process{PID: 7, Comm: "dns"}
	table.Add(elsewhere)
	for _, v := range []event.Verdict{event.Linearized, event.Bounced, event.Rejected, event.OverLimit} {
		table.Add(datagram(2, 53, v))
	}
	table.Add(&event.Packet{Verdict: event.Dropped}) // not IP: of no flow
	f := table.Snapshot(at(3))[0]
	if f.Drops != 2 || f.Elsewhere != 1 || f.Causes[event.SGOff] != 1 || f.Causes[event.CauseNone] != 0 || f.Reasons["QDISC_DROP"] != 1 {
		t.Errorf("drops: %+v", f)
	}
	if f.Linearized != 1 || f.Bounced != 1 || f.Rejected != 1 || f.OverLimit != 1 || f.MinSlots != 1 || f.MaxSlots != 35 {
		t.Errorf("others: %+v", f)
	}
	if !f.First.Equal(at(0)) || !f.Last.Equal(at(2)) || !f.FirstDrop.Equal(at(0)) || !f.LastDrop.Equal(at(1)) || f.TCP != nil {
		t.Errorf("times: %+v", f)
	}
	if f.Process == nil || f.Process.Comm != "dns" || len(f.Advice) == 0 {
		t.Errorf("process %v, advice %v", f.Process, f.Advice)
	}
	f.Reasons["QDISC_DROP"] = 99
	if again := table.Snapshot(at(3))[0]; again.Reasons["QDISC_DROP"] != 1 {
		t.Error("a snapshot shares its reasons with the table")
	}
}
