package flow

import (
	"net/netip"
	"testing"

	"xentrace/internal/event"
)

// tunnelled makes a packet the carried one of an outer packet.
func tunnelled(p *event.Packet) *event.Packet {
	p.Inner = p.Flow
	p.Flow = &event.Flow{Proto: 17, Source: netip.MustParseAddrPort("192.0.2.1:51820"), Destination: netip.MustParseAddrPort("192.0.2.2:51820")}
	return p
}

// encrypted hides its segment: what is known of it its socket tells.
func encrypted(p *event.Packet, retransmits int) *event.Packet {
	p = tunnelled(p)
	p.Inner.SeqKnown, p.Inner.Seq, p.Inner.SeqLength = false, 0, 0
	p.TCP.Seq, p.TCP.Retransmits = p.TCP.SndUna, retransmits
	return p
}

// Two connections in one tunnel are two flows, and only the one that stalls is reported.
func TestConnectionsInATunnel(t *testing.T) {
	table := NewTable(0, newFakeKernel())
	bad, good := &sender{port: 40000, address: 1, una: 1000}, &sender{port: 40001, address: 2, una: 1000}
	none(t, table.Add(tunnelled(bad.drop(0, 1000))))
	none(t, table.Add(tunnelled(good.drop(0.1, 1000))))
	good.una = 9704
	none(t, table.Add(tunnelled(good.drop(0.2, 9704))))
	f := only(t, table.Add(tunnelled(bad.drop(0.3, 1000))), event.Stalled)
	want := event.FlowKey{NetNS: device.NetNS, Proto: 6, Source: netip.MustParseAddrPort("10.0.0.5:40000"), Destination: netip.MustParseAddrPort("10.0.0.9:5001")}
	if f.FlowKey != want || f.Packet.Flow.Proto != 17 {
		t.Errorf("flow %+v, want %+v", f.FlowKey, want)
	}
	if c := table.Counts(); c.Flows != 2 || c.Stalled != 1 {
		t.Errorf("counts %+v", c)
	}
}

// Without its bytes a segment is known to be retransmitted when the timer has expired.
func TestEncryptedConnection(t *testing.T) {
	table := NewTable(0, newFakeKernel())
	s := &sender{port: 40000, address: 1, una: 1000}
	none(t, table.Add(encrypted(s.packet(0, event.Dropped), 0)))
	none(t, table.Add(encrypted(s.packet(0.1, event.Dropped), 0))) // it may be an acknowledgement
	none(t, table.Add(encrypted(s.packet(0.2, event.Dropped), 1)))
	f := only(t, table.Add(encrypted(s.packet(0.6, event.Dropped), 2)), event.Stalled)
	if f.Proto != 6 || f.Drops != 4 || f.TCP.SameSeq != 2 || !f.StalledSince.Equal(at(0.2)) {
		t.Errorf("stalled: %+v %+v", f, *f.TCP)
	}
	moved := &sender{port: 40000, address: 1, una: 2448}
	only(t, table.Add(encrypted(moved.packet(0.7, event.Dropped), 0)), event.Recovered)
}

// A segment that is forwarded in a tunnel belongs to the connection in it; what shows no segment
// belongs to the tunnel.
func TestForwardedTunnel(t *testing.T) {
	p := tunnelled((&sender{port: 40000}).drop(0, 1000))
	p.TCP, p.Socket = nil, nil
	if key, ok := KeyOf(p); !ok || key.Proto != 6 || key.Source.Port() != 40000 {
		t.Errorf("flow %+v, want the inner one", key)
	}
	p.Inner.SeqKnown = false
	if key, ok := KeyOf(p); !ok || key.Proto != 17 {
		t.Errorf("flow %+v, want the outer one", key)
	}
}
