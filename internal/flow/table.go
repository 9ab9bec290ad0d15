// Package flow keeps the history of flows that lost packets: what was dropped, whether
// they are stalled, since when, and which process owns them.
package flow

import (
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"xentrace/internal/event"
	"xentrace/internal/remedy"
	"xentrace/internal/share"
)

// DefaultLimit is how many flows a Table keeps unless asked otherwise. One takes
// about two KiB.
const DefaultLimit = 4096

// A Kernel reads the sockets of flows that lost packets. [trace.Connections] is
// the real one.
type Kernel interface {
	// Follow makes the kernel keep the last values of a socket when it ends.
	Follow(event.Socket) error
	// Forget ends that.
	Forget(event.Socket)
	// Ask returns the state of sockets now, or at their end, in their order.
	Ask([]event.Socket) ([]event.Connection, error)
	// Endings returns how many of the sockets followed have ended so far.
	Endings() (uint64, error)
}

// A Table keeps the history of flows that had trouble, a bounded number of them.
// When it is full, a new flow replaces the least important one: one that
// is closed, one that lost no packet, or one without a TCP socket here that is not stalled; where there
// is none, one of the user who has the most. A user's own flow is not taken then.
//
// Its methods may be called from several goroutines.
type Table struct {
	kernel Kernel
	limit  int
	facts  func(event.Device) remedy.Facts

	mu       sync.Mutex
	flows    map[event.FlowKey]*history
	bySocket map[uint64]*history   // those whose socket is followed, by its address
	inferred map[*history]struct{} // those that are stalled as far as headers show
	order    [ranks]order
	users    share.Counts
	refused  map[event.FlowKey]struct{} // flows not tracked because the table was full; bounded
	lost     uint64
	stalled  uint64 // flows that stalled, once or more
	now      int    // flows that are stalled
	endings  uint64
	turn     int   // which of the flows that are not stalled are read next
	err      error // why the kernel could not be asked
}

// NewTable returns an empty table for at most limit flows, DefaultLimit if that is 0.
// kernel may be nil: then the state of a connection comes from packets only.
func NewTable(limit int, kernel Kernel) *Table {
	if limit <= 0 {
		limit = DefaultLimit
	}
	return &Table{
		kernel: kernel, limit: limit,
		flows: make(map[event.FlowKey]*history), bySocket: make(map[uint64]*history), inferred: make(map[*history]struct{}), refused: make(map[event.FlowKey]struct{}), users: share.Counts{},
	}
}

// Ask has the table ask for what the advice for flows that stall depends on. It is
// called before the first packet is added; ask is called while a packet is.
func (t *Table) Ask(ask func(event.Device) remedy.Facts) { t.facts = ask }

// KeyOf returns the flow of a packet, and whether it has one: a packet that is
// neither IPv4 nor IPv6 has none.
// A segment in a tunnel belongs to the connection that is in it.
func KeyOf(p *event.Packet) (event.FlowKey, bool) {
	f := flowOf(p)
	if f == nil {
		return event.FlowKey{}, false
	}
	return event.FlowKey{NetNS: p.Interface.NetNS, Proto: f.Proto, Source: f.Source, Destination: f.Destination}, true
}

func flowOf(p *event.Packet) *event.Flow {
	if p.Inner != nil && p.Inner.Proto == unix.IPPROTO_TCP && (p.TCP != nil || p.Inner.SeqKnown) {
		return p.Inner
	}
	return p.Flow
}

// Add records a packet that was reported and returns what that changed.
func (t *Table) Add(p *event.Packet) []event.FlowEvent {
	key, ok := KeyOf(p)
	if !ok {
		return nil
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	var events []event.FlowEvent
	h := t.flows[key]
	if h != nil && h.anotherSocket(p) {
		events = t.end(h, nil, p.Time)
		t.remove(h)
		h = nil
	}
	if h == nil {
		if h = t.insert(key, p); h == nil {
			return events
		}
	}
	events = append(events, t.noted(h, h.add(p))...)
	events = append(events, t.follow(h, p)...)
	t.place(h)
	return events
}

// follow makes the kernel keep an eye on the socket of a flow that lost packets.
func (t *Table) follow(h *history, p *event.Packet) []event.FlowEvent {
	if h.socket != nil || h.closed() || h.flow.Drops == 0 || !h.connected(p) || p.Socket == nil {
		return nil
	}
	var events []event.FlowEvent
	if old := t.bySocket[p.Socket.Address]; old != nil {
		// Its memory is another connection's by now.
		events = t.end(old, nil, p.Time)
		t.place(old)
	}
	socket := *p.Socket
	h.socket = &socket
	t.bySocket[socket.Address] = h
	if t.kernel == nil {
		return events
	}
	if err := t.kernel.Follow(socket); err != nil {
		t.failed(err)
	}
	return events
}

// end closes a flow: last is how its socket stood then, nil where that is not known.
func (t *Table) end(h *history, last *event.Connection, at time.Time) []event.FlowEvent {
	if last == nil && h.socket != nil && t.kernel != nil {
		if c, err := t.kernel.Ask([]event.Socket{*h.socket}); err == nil && c[0].Ended {
			last = &c[0]
		}
	}
	t.letGo(h)
	return t.noted(h, h.end(last, at))
}

func (t *Table) letGo(h *history) {
	if h.socket == nil {
		return
	}
	if t.bySocket[h.socket.Address] == h {
		delete(t.bySocket, h.socket.Address)
		if t.kernel != nil {
			t.kernel.Forget(*h.socket)
		}
	}
	h.socket = nil
}

func (t *Table) noted(h *history, events []event.FlowEvent) []event.FlowEvent {
	if h.flow.Stalls > 0 && !h.stalledEver {
		h.stalledEver = true
		t.stalled++
	}
	if stalled := h.flow.State == event.Stalled; stalled != h.counted {
		h.counted = stalled
		if stalled && h.flow.Inferred {
			t.inferred[h] = struct{}{}
		} else {
			delete(t.inferred, h)
		}
		if stalled {
			t.now++
		} else {
			t.now--
		}
	}
	return events
}

// Counts returns how many flows there are.
func (t *Table) Counts() event.FlowCounts {
	t.mu.Lock()
	defer t.mu.Unlock()
	return event.FlowCounts{Flows: len(t.flows), Stalled: t.now, EverStalled: t.stalled, Lost: t.lost}
}

// Stalled returns how many flows are stalled, by the interface of their last packet.
func (t *Table) Stalled() map[event.Device]int {
	t.mu.Lock()
	defer t.mu.Unlock()
	stalled := make(map[event.Device]int)
	if t.now == 0 {
		return stalled
	}
	for _, h := range t.flows {
		if h.flow.State == event.Stalled {
			stalled[h.flow.Interface]++
		}
	}
	return stalled
}

// Snapshot returns the state of every flow, the worst first: those that are
// stalled, the longest one first, then the others by their drops.
func (t *Table) Snapshot(now time.Time) []event.FlowHistory {
	t.mu.Lock()
	taken := make([]event.FlowHistory, 0, len(t.flows))
	for _, h := range t.flows {
		taken = append(taken, h.snapshot(now))
	}
	t.mu.Unlock()
	sorted := make([]*event.FlowHistory, len(taken)) // they are large to be moved about
	for i := range taken {
		sorted[i] = &taken[i]
	}
	slices.SortFunc(sorted, worse)
	flows := make([]event.FlowHistory, len(sorted))
	for i, f := range sorted {
		flows[i] = *f
	}
	return flows
}

// Summary returns what the summary reports: the worst flows that lost packets,
// at most that many.
func (t *Table) Summary(now time.Time, most int) event.FlowSummary {
	s := event.FlowSummary{FlowCounts: t.Counts()}
	for _, f := range t.Snapshot(now) {
		if f.Drops == 0 {
			continue
		}
		if s.Losing++; len(s.Flows) < most {
			s.Flows = append(s.Flows, f)
		}
	}
	return s
}
