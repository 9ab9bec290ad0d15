// Package flow keeps the history of flows that lost packets: what was dropped, whether
// they are stalled, since when, and which process owns them.
package flow

import (
	"slices"
	"sync"
	"time"

	"xentrace/internal/event"
	"xentrace/internal/remedy"
)

// DefaultLimit is how many flows a Table keeps unless asked otherwise. One takes
// about two KiB.
const DefaultLimit = 4096

// A Kernel is asked how the sockets of troubled flows stand. [trace.Connections] is
// the real one.
type Kernel interface {
	// Follow makes the kernel keep the last values of a socket when it ends.
	Follow(event.Socket) error
	// Forget ends that.
	Forget(event.Socket)
	// Ask returns how sockets stand now, or how they stood at their end, in their order.
	Ask([]event.Socket) ([]event.Connection, error)
	// Endings returns how many of the sockets followed have ended so far.
	Endings() (uint64, error)
}

// A Table keeps the history of flows that had trouble, a bounded number of them.
// Where it is full, a new flow takes the place of one that matters least: one that
// is closed, one that lost no packet, or one without a TCP socket here; where there
// is none, it is not taken.
//
// Its methods may be called from several goroutines.
type Table struct {
	kernel Kernel
	limit  int
	facts  func(event.Device) remedy.Facts

	mu       sync.Mutex
	flows    map[event.FlowKey]*history
	bySocket map[uint64]*history // those whose socket is followed, by its address
	order    [ranks]order
	refused  map[event.FlowKey]struct{} // flows that found no room, as many as there is room for
	lost     uint64
	stalled  uint64 // flows that stalled, once or more
	now      int    // flows that are stalled
	endings  uint64
	turn     int   // which of the flows that do not hang are asked next
	err      error // why the kernel could not be asked
}

// NewTable returns an empty table for at most limit flows, DefaultLimit if that is 0.
// kernel may be nil: then only packets tell how a connection stands.
func NewTable(limit int, kernel Kernel) *Table {
	if limit <= 0 {
		limit = DefaultLimit
	}
	return &Table{
		kernel: kernel, limit: limit,
		flows: make(map[event.FlowKey]*history), bySocket: make(map[uint64]*history), refused: make(map[event.FlowKey]struct{}),
	}
}

// Ask has the table ask for what the advice for flows that stall depends on. It is
// called before the first packet is added; ask is called while a packet is.
func (t *Table) Ask(ask func(event.Device) remedy.Facts) { t.facts = ask }

// KeyOf returns the flow of a packet, and whether it has one: a packet that is
// neither IPv4 nor IPv6 has none.
func KeyOf(p *event.Packet) (event.FlowKey, bool) {
	if p.Flow == nil {
		return event.FlowKey{}, false
	}
	return event.FlowKey{NetNS: p.Interface.NetNS, Proto: p.Flow.Proto, Source: p.Flow.Source, Destination: p.Flow.Destination}, true
}

// Add takes note of a packet that went wrong and returns what that changed.
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
	events = append(events, t.told(h, h.add(p))...)
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
	return t.told(h, h.end(last, at))
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

func (t *Table) told(h *history, events []event.FlowEvent) []event.FlowEvent {
	if h.flow.Stalls > 0 && !h.stalledEver {
		h.stalledEver = true
		t.stalled++
	}
	if stalled := h.flow.State == event.Stalled; stalled != h.counted {
		h.counted = stalled
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

// Snapshot returns every flow as it stands now, the worst first: those that are
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

// Summary returns what there is to tell at the end: the worst flows that lost packets,
// at most that many.
func (t *Table) Summary(now time.Time, most int) event.FlowSummary {
	s := event.FlowSummary{FlowCounts: t.Counts()}
	for _, f := range t.Snapshot(now) {
		if f.Drops > 0 && len(s.Flows) < most {
			s.Flows = append(s.Flows, f)
		}
	}
	return s
}
