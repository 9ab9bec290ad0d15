package trace

import (
	"fmt"
	"testing"

	"xentrace/bpf"
)

// sentEvent is a record with a socket, a sender and what the packet carries.
func sentEvent(frags int, sender string) *bpf.XentracePacketEvent {
	e := tcpEvent(frags)
	e.Socket = bpf.XentraceSocketIdentity{Address: 7, Inode: 8}
	e.Sender = bpf.XentraceSender{Tgid: 9, Started: 5}
	copy(e.Sender.Comm[:], sender)
	e.Inner = e.Flow
	return e
}

// A storm of records is not a storm of garbage: what a packet refers to is allocated at once.
func TestAllocationsOfARecord(t *testing.T) {
	for frags, want := range map[int]float64{0: 1, 17: 1, 45: 2} {
		e := sentEvent(frags, "sender")
		e.Inner = bpf.XentraceFlow{} // that of a tunnel is another
		d, record := newDecoder(), raw(e, frags)
		if got := testing.AllocsPerRun(100, func() {
			p, err := d.decodePacket(record)
			if err != nil || p.Flow == nil || p.Socket == nil || p.Sender == nil || p.TCP == nil || len(p.Frags) != frags {
				t.Errorf("%+v, %v", p, err)
			}
		}); got != want {
			t.Errorf("%d fragments: %v allocations, want %v", frags, got, want)
		}
	}
}

// The next record changes nothing of a packet that is kept, and appending to its fragments
// does not reach beyond them.
func TestPacketsShareNothing(t *testing.T) {
	d := newDecoder()
	first, err := d.decodePacket(raw(sentEvent(2, "first"), 2))
	if err != nil {
		t.Fatal(err)
	}
	other := sentEvent(3, "second")
	other.Flow.Dport, other.Inner.Dport, other.Socket.Inode, other.Tcp.SndUna, other.Frags[0].Size = 1, 1, 1, 1, 1
	if _, err := d.decodePacket(raw(other, 3)); err != nil {
		t.Fatal(err)
	}
	if first.Flow.Destination.Port() != 443 || first.Inner.Destination.Port() != 443 || first.Socket.Inode != 8 ||
		first.TCP.SndUna != 0xffffff00 || first.Sender.Comm != "first" || first.Frags[0].Size != 80 || cap(first.Frags) != 2 {
		t.Errorf("%+v", first)
	}
}

// Names of many processes are right, and the memory of them is bounded.
func TestNamesOfSenders(t *testing.T) {
	d := newDecoder()
	for n := range 3 * mostNames {
		name := fmt.Sprintf("sender-%d", n%(mostNames+1))
		p, err := d.decodePacket(raw(sentEvent(0, name), 0))
		if err != nil || p.Sender.Comm != name {
			t.Fatalf("%+v, %v, want %s", p.Sender, err, name)
		}
	}
	if len(d.names) > mostNames {
		t.Errorf("%d names are kept, want at most %d", len(d.names), mostNames)
	}
}
