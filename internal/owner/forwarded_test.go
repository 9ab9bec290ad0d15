package owner

import (
	"net/netip"
	"testing"
	"time"

	"xentrace/internal/event"
)

// through is a forwarded packet, as it leaves this machine and as it came.
func through(change ...func(*event.Packet)) *event.Packet {
	p := &event.Packet{
		Flow:      &event.Flow{Proto: 6, Source: netip.MustParseAddrPort("192.0.2.1:61000"), Destination: netip.MustParseAddrPort("192.0.2.9:443")},
		BeforeNAT: &event.Flow{Proto: 6, Source: netip.MustParseAddrPort("172.17.0.2:40000"), Destination: netip.MustParseAddrPort("192.0.2.9:443")},
	}
	for _, c := range change {
		c(p)
	}
	return p
}

func routed(p *event.Packet) { p.BeforeNAT = nil }

func carried(p *event.Packet) {
	p.Inner, p.BeforeNAT = p.BeforeNAT, nil
	p.Flow.Proto = 17
}

func keyOfFlow(f *event.Flow) event.FlowKey {
	return event.FlowKey{Proto: f.Proto, Source: f.Source, Destination: f.Destination}
}

// The owner of a forwarded packet is found by the addresses that its sender's socket has.
func TestOwnerOfForwardedPackets(t *testing.T) {
	for _, test := range []struct {
		name   string
		packet *event.Packet
		sender *event.Flow // as the socket has it
	}{
		{"behind masquerade", through(), through().BeforeNAT},
		{"routed", through(routed), through().Flow},
		{"carried by a tunnel", through(carried), through().BeforeNAT},
	} {
		t.Run(test.name, func(t *testing.T) {
			k := &kernel{senders: map[event.FlowKey][]event.Task{keyOfFlow(test.sender): {child, parent}}}
			o := newTestOwners(t, k)
			p := settled(t, o, test.packet, began)
			wantProcess(t, p, &parent)
			if again := *test.packet; !o.complete(&again, began.Add(time.Second)) || again.Process != p {
				t.Errorf("process %+v of the next packet, want the same without a lookup", again.Process)
			}
		})
	}
}

// What comes from another machine waits for one lookup only; a socket that is gone leaves
// its owner behind.
func TestSendersThatAreNotThere(t *testing.T) {
	k := &kernel{senders: map[event.FlowKey][]event.Task{}}
	o := newTestOwners(t, k)
	if p := settled(t, o, through(), began); p != nil {
		t.Errorf("process %+v, want none", p)
	}
	late := through()
	if !o.complete(late, began.Add(refreshAfter)) || late.Process != nil || len(o.pending.flows) != 1 {
		t.Errorf("process %+v, %d flows pending: want no waiting, and a lookup", late.Process, len(o.pending.flows))
	}
	k.senders[keyOfFlow(through().BeforeNAT)] = []event.Task{child}
	ask(t, o, began.Add(refreshAfter))
	wantProcess(t, settled(t, o, through(), began.Add(refreshAfter)), &child)
	clear(k.senders)
	settled(t, o, through(), began.Add(2*refreshAfter))
	ask(t, o, began.Add(2*refreshAfter))
	wantProcess(t, settled(t, o, through(), began.Add(2*refreshAfter)), &child)
}

// What has no ports is not looked up, nor what no socket sends.
func TestWhatHasNoSender(t *testing.T) {
	o := newTestOwners(t, &kernel{})
	for name, p := range map[string]*event.Packet{
		"not IP":         {},
		"ICMP":           through(routed, func(p *event.Packet) { p.Flow.Proto = 1 }),
		"later fragment": through(routed, func(p *event.Packet) { p.Flow.Source = netip.AddrPortFrom(p.Flow.Source.Addr(), 0) }),
	} {
		if !o.complete(p, began) || p.Process != nil || o.pending.walks() {
			t.Errorf("%s: process %+v, or it waits", name, p.Process)
		}
	}
}

// A router with ever more flows keeps a bounded number, and asks about a bounded number.
func TestForwardedFlowsAreBounded(t *testing.T) {
	o := newTestOwners(t, &kernel{})
	for n := range 3 * maxSockets {
		p := through(routed, func(p *event.Packet) {
			p.Flow.Source = netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, byte(n >> 16), byte(n >> 8), byte(n)}), 1)
		})
		now := began.Add(time.Duration(n) * time.Millisecond)
		waits := !o.complete(p, now)
		if full := n >= event.MaxWanted; waits == full && n < 2*event.MaxWanted {
			t.Fatalf("packet %d waits: %t", n, waits)
		}
		if n == 2*event.MaxWanted || n > 2*event.MaxWanted && len(o.pending.flows) == event.MaxWanted {
			ask(t, o, now)
		}
		if len(o.forwarded) > maxSockets || len(o.pending.flows) > event.MaxWanted {
			t.Fatalf("%d flows kept, %d pending", len(o.forwarded), len(o.pending.flows))
		}
	}
}
