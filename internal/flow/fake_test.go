package flow

import (
	"errors"
	"net/netip"
	"testing"
	"time"

	"xentrace/internal/event"
)

var (
	start  = time.Date(2026, 11, 22, 10, 0, 0, 0, time.UTC)
	device = event.Device{Name: "eth0", Index: 2, NetNS: 4026531840}
)

func at(seconds float64) time.Time {
	return start.Add(time.Duration(seconds * float64(time.Second)))
}

// fakeKernel answers for sockets by their address.
type fakeKernel struct {
	sockets  map[uint64]*event.Connection
	followed map[uint64]bool
	endings  uint64
	asked    int
	err      error
}

func newFakeKernel() *fakeKernel {
	return &fakeKernel{sockets: make(map[uint64]*event.Connection), followed: make(map[uint64]bool)}
}

func (k *fakeKernel) Follow(s event.Socket) error {
	k.followed[s.Address] = true
	return k.err
}

func (k *fakeKernel) Forget(s event.Socket) { delete(k.followed, s.Address) }

func (k *fakeKernel) Ask(sockets []event.Socket) ([]event.Connection, error) {
	k.asked += len(sockets)
	if k.err != nil {
		return nil, k.err
	}
	answers := make([]event.Connection, len(sockets))
	for i, s := range sockets {
		answers[i] = event.Connection{Ended: true, Time: start}
		if c := k.sockets[s.Address]; c != nil {
			answers[i] = *c
		}
	}
	return answers, nil
}

func (k *fakeKernel) Endings() (uint64, error) { return k.endings, k.err }

// stands says how the socket of a connection stands.
func (k *fakeKernel) stands(address uint64, seconds float64, una, retransmits uint32) {
	k.sockets[address] = &event.Connection{Time: at(seconds), Known: true,
		TCP: event.TCP{State: 1, SndUna: una, SndNxt: una + 8704, WriteSeq: una + 8704, TotalRetransmits: retransmits}}
}

// ends says how it stood at its end.
func (k *fakeKernel) ends(address uint64, seconds float64, una, retransmits uint32) {
	k.stands(address, seconds, una, retransmits)
	c := k.sockets[address]
	c.Ended, c.TCP.WriteSeq = true, una
	k.endings++
}

var errKernel = errors.New("kernel does not answer")

// sender makes the records of one connection.
type sender struct {
	port    uint16
	address uint64
	una     uint32
	total   uint32
	ipv6    bool
}

// drop is a record of a dropped segment.
func (s *sender) drop(seconds float64, seq uint32) *event.Packet {
	p := s.packet(seconds, event.Dropped)
	p.Cause = event.TooManySlots
	p.Flow.Seq, p.TCP.Seq = seq, seq
	return p
}

func (s *sender) packet(seconds float64, v event.Verdict) *event.Packet {
	source, destination := netip.MustParseAddr("10.0.0.5"), netip.MustParseAddrPort("10.0.0.9:5001")
	if s.ipv6 {
		source, destination = netip.MustParseAddr("fd98::1"), netip.MustParseAddrPort("[fd98::2]:5001")
	}
	return &event.Packet{
		Time: at(seconds), Interface: device, Verdict: v, Slots: 35, Limit: 18, Len: 8770,
		Flow: &event.Flow{Proto: 6, Source: netip.AddrPortFrom(source, s.port), Destination: destination, Seq: s.una, SeqKnown: true, SeqLength: 8704},
		TCP: &event.TCP{State: 1, Seq: s.una, SndUna: s.una, SndNxt: s.una + 8704, WriteSeq: s.una + 8704,
			SndQBytes: 8704, RTO: 200 * time.Millisecond, TotalRetransmits: s.total},
		Socket: &event.Socket{Address: s.address, Hash: uint32(s.port)},
	}
}

// datagram is a record of a packet without a connection.
func datagram(seconds float64, port uint16, v event.Verdict) *event.Packet {
	p := (&sender{port: port}).packet(seconds, v)
	p.Flow.Proto, p.Flow.SeqKnown, p.Flow.SeqLength = 17, false, 0
	p.TCP, p.Socket = nil, nil
	if v == event.Dropped {
		p.Cause = event.SGOff
	}
	return p
}

// only returns the one event, of that state.
func only(t *testing.T, events []event.FlowEvent, want event.FlowState) event.FlowHistory {
	t.Helper()
	if len(events) != 1 || events[0].Flow.State != want {
		t.Fatalf("events %+v, want one: %v", events, want)
	}
	return events[0].Flow
}

func none(t *testing.T, events []event.FlowEvent) {
	t.Helper()
	if len(events) != 0 {
		t.Fatalf("events %+v, want none", events)
	}
}
