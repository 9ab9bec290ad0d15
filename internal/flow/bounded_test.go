package flow

import (
	"runtime"
	"slices"
	"testing"

	"xentrace/internal/event"
)

func ports(flows []event.FlowHistory) []int {
	var ports []int
	for _, f := range flows {
		ports = append(ports, int(f.Source.Port()))
	}
	slices.Sort(ports)
	return ports
}

// A full table gives up what matters least, and says what it lost by it.
func TestFullTable(t *testing.T) {
	tcp := func(port uint16) *event.Packet {
		return (&sender{port: port, address: uint64(port), una: 1}).drop(float64(port), 1)
	}
	for _, test := range []struct {
		name    string
		packets []*event.Packet
		closed  []uint64 // sockets that ended, before the last packet
		want    []int
		lost    uint64
	}{
		{"room enough", []*event.Packet{tcp(1), tcp(2), tcp(3)}, nil, []int{1, 2, 3}, 0},
		{"connections keep their place", []*event.Packet{tcp(1), tcp(2), tcp(3), tcp(4), tcp(5), tcp(4)}, nil, []int{1, 2, 3}, 2},
		{"one is closed", []*event.Packet{tcp(1), tcp(2), tcp(3), tcp(4)}, []uint64{2}, []int{1, 3, 4}, 0},
		{"one lost nothing", []*event.Packet{tcp(1), datagram(2, 2, event.Linearized), datagram(3, 3, event.Bounced), tcp(4)}, nil, []int{1, 3, 4}, 0},
		{"the oldest of them goes", []*event.Packet{datagram(1, 1, event.Linearized), datagram(2, 2, event.Linearized), datagram(3, 1, event.Linearized), tcp(4), tcp(5)}, nil, []int{1, 4, 5}, 0},
		{"one without a connection", []*event.Packet{tcp(1), datagram(2, 2, event.Dropped), tcp(3), tcp(4)}, nil, []int{1, 3, 4}, 1},
		{"one that lost nothing drives none out that did", []*event.Packet{tcp(1), datagram(2, 2, event.Dropped), tcp(3), datagram(4, 4, event.Linearized)}, nil, []int{1, 2, 3}, 1},
	} {
		t.Run(test.name, func(t *testing.T) {
			k := newFakeKernel()
			table := NewTable(3, k)
			for i, p := range test.packets {
				if i == len(test.packets)-1 {
					for _, address := range []uint64{1, 2, 3, 4, 5} {
						k.stands(address, 3.5, 1, 0)
					}
					for _, address := range test.closed {
						k.ends(address, 3.5, 1, 0)
					}
					table.Poll(at(3.5))
				}
				table.Add(p)
			}
			if got := ports(table.Snapshot(at(9))); !slices.Equal(got, test.want) || table.Counts().Lost != test.lost {
				t.Errorf("flows %v, %d lost: want %v, %d", got, table.Counts().Lost, test.want, test.lost)
			}
			if len(k.followed) > 3 {
				t.Errorf("%d sockets are followed", len(k.followed))
			}
		})
	}
}

// However many flows there are, the table does not grow, and each that found no
// room is counted.
func TestTableStaysBounded(t *testing.T) {
	const limit, flows = 100, 1000
	table := NewTable(limit, newFakeKernel())
	for round := range 3 {
		for port := range uint16(flows) {
			table.Add((&sender{port: port, address: uint64(port) + 1, una: 1}).drop(float64(round), 1))
		}
	}
	c := table.Counts()
	if c.Flows != limit || c.Stalled != limit || len(table.refused) > limit || c.Lost < flows-limit {
		t.Errorf("%+v, %d refused ones remembered", c, len(table.refused))
	}
}

// The worst come first: stalled, the longest one first; then by drops; closed last.
func TestWorstFirst(t *testing.T) {
	k := newFakeKernel()
	table := NewTable(0, k)
	stall := func(port uint16, since, drops int) {
		s := &sender{port: port, address: uint64(port), una: 1}
		for i := range drops {
			table.Add(s.drop(float64(since+i), 1))
		}
		k.stands(s.address, 50, 1, 0)
	}
	stall(1, 10, 2)
	stall(2, 5, 3)
	stall(3, 20, 9)
	k.ends(3, 50, 1, 0)
	table.Poll(at(50))
	table.Add(datagram(1, 4, event.Dropped))
	table.Add(datagram(1, 5, event.Linearized))
	table.Add(datagram(2, 6, event.Dropped))
	table.Add(datagram(3, 6, event.Dropped))
	var got []int
	for _, f := range table.Snapshot(at(60)) {
		got = append(got, int(f.Source.Port()))
	}
	if want := []int{2, 1, 6, 4, 3, 5}; !slices.Equal(got, want) {
		t.Errorf("order %v, want %v", got, want)
	}
	if s := table.Summary(at(60), 3); len(s.Flows) != 3 || s.Losing <= 3 || s.EverStalled != 3 || s.Stalled != 2 {
		t.Errorf("summary of %d flows, %+v", len(s.Flows), s.FlowCounts)
	}
}

// Those that hang are asked about each time, the others in turn, and all as soon as
// one has ended.
func TestWhoIsAsked(t *testing.T) {
	const quiet = 3 * mostAsked
	k := newFakeKernel()
	table := NewTable(0, k)
	for port := uint16(1); port <= quiet+2; port++ {
		s := &sender{port: port, address: uint64(port), una: 1}
		table.Add(s.drop(0, 1))
		k.stands(s.address, 1, 2, 0)
	}
	k.stands(1, 1, 1, 0)
	k.stands(2, 1, 1, 0)
	table.Poll(at(1))
	seen := make(map[uint64]bool)
	for range 4 {
		k.asked = 0
		_, sockets := table.questions()
		for _, s := range sockets {
			seen[s.Address] = true
		}
		table.Poll(at(2))
		if k.asked != 2+mostAsked {
			t.Errorf("asked about %d, want the 2 that hang and %d others", k.asked, mostAsked)
		}
	}
	if len(seen) < quiet/2 {
		t.Errorf("%d were asked about in four turns", len(seen))
	}
	k.ends(quiet, 3, 2, 0)
	if f := only(t, table.Poll(at(3)), event.Closed); f.Source.Port() != quiet {
		t.Errorf("closed: %+v", f)
	}
}

// What is kept of flows does not grow once there is no space for more of them.
func TestMemoryIsBounded(t *testing.T) {
	table := NewTable(DefaultLimit, nil)
	lose := func(from, to int) uint64 {
		for n := from; n < to; n++ {
			p := datagram(float64(n), uint16(n), event.Dropped)
			if n%5 == 0 {
				p = (&sender{port: uint16(n), address: uint64(n), una: 1}).drop(float64(n), 1)
			}
			p.Interface.NetNS = uint32(n >> 16) // so that no flow comes twice
			table.Add(p)
		}
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	before := lose(0, 40_000)
	after := lose(40_000, 160_000)
	counts := table.Counts()
	t.Logf("heap of %d KiB after 40,000 flows, %d KiB after 160,000; %d flows kept, %d lost", before>>10, after>>10, len(table.Snapshot(at(160_000))), counts.Lost)
	if after > before+before/10 {
		t.Errorf("heap of %d KiB after 40,000 flows, %d KiB after 160,000", before>>10, after>>10)
	}
	if kept := uint64(len(table.Snapshot(at(160_000)))); kept != DefaultLimit || kept+counts.Lost < 160_000 {
		t.Errorf("%d flows kept, %d lost, want %d of 160,000", kept, counts.Lost, DefaultLimit)
	}
}

// A user with more connections than the table has room for keeps no other's out.
func TestTableIsSharedByUsers(t *testing.T) {
	k := newFakeKernel()
	table := NewTable(100, k)
	add := func(port uint16, uid uint32, second float64) {
		p := (&sender{port: port, address: uint64(port), una: 1}).drop(second, 1)
		p.Socket.UID = uid
		table.Add(p)
	}
	for port := range uint16(1000) {
		add(1+port, 1000, float64(port))
	}
	for port := range uint16(40) {
		add(5000+port, 1001, 1000+float64(port))
	}
	for port := range uint16(1000) {
		add(10_000+port, 1000, 2000+float64(port))
	}
	kept := 0
	for _, f := range table.Snapshot(at(3000)) {
		if port := f.Source.Port(); port >= 5000 && port < 10_000 {
			kept++
		}
	}
	if counts := table.Counts(); kept != 40 || counts.Flows != 100 || len(k.followed) > 100 {
		t.Errorf("%d of 40 flows of the second user are kept, %d of all, %d sockets followed", kept, counts.Flows, len(k.followed))
	}
}

// A stalled flow that is evicted is not counted as stalled any more.
func TestEvictedFlowIsNotStalled(t *testing.T) {
	table := NewTable(2, nil)
	for port := range uint16(3) {
		for second := range 3 {
			p := (&sender{port: 1 + port, address: uint64(port) + 1, una: 1}).drop(float64(second), 1)
			p.Socket.UID = uint32(port) / 2
			table.Add(p)
		}
	}
	counts := table.Counts()
	stalled := 0
	for _, f := range table.Snapshot(at(3)) {
		if f.State == event.Stalled {
			stalled++
		}
	}
	if counts.Stalled != stalled || counts.Flows != 2 {
		t.Errorf("%d flows are counted as stalled, %d are, of %d", counts.Stalled, stalled, counts.Flows)
	}
}
