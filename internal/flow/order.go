package flow

import (
	"cmp"
	"container/list"

	"xentrace/internal/event"
)

// A rank is how much a flow matters when there is no space: those of the lowest give
// theirs up first, among them the one that had no trouble for the longest time.
type rank int

const (
	rankClosed    rank = iota // everything was reported
	rankWhole                 // it lost no packet
	rankUntracked             // it lost packets, has no TCP socket here and is not stalled
	rankTracked               // evicted for another user only, by one who has more than a share
	ranks
)

// order holds the flows of one rank, the one with the most recent trouble last.
type order struct{ list list.List }

func (h *history) rank() rank {
	switch {
	case h.closed():
		return rankClosed
	case h.flow.Drops == 0:
		return rankWhole
	case h.flow.TCP == nil, h.flow.Inferred && h.flow.State != event.Stalled:
		return rankUntracked
	}
	return rankTracked
}

// place moves a flow to its position after a change.
func (t *Table) place(h *history) {
	to := h.rank()
	switch {
	case h.element == nil:
	case h.placed == to:
		t.order[to].list.MoveToBack(h.element)
		return
	default:
		t.order[h.placed].list.Remove(h.element)
	}
	h.placed, h.element = to, t.order[to].list.PushBack(h)
}

func (t *Table) insert(key event.FlowKey, p *event.Packet) *history {
	user := userOf(p)
	if len(t.flows) >= t.limit && !t.makeRoom(p.Verdict == event.Dropped) && !t.yield(user) {
		if _, known := t.refused[key]; !known {
			t.lost++
			if len(t.refused) < t.limit {
				t.refused[key] = struct{}{}
			}
		}
		return nil
	}
	h := newHistory(key, p)
	h.facts, h.user = t.facts, user
	t.flows[key] = h
	t.users.Add(user)
	t.place(h)
	return h
}

// makeRoom removes the flow that matters least. A flow that lost nothing yet does
// not drive out one that did.
func (t *Table) makeRoom(drop bool) bool {
	for r := rankClosed; r < rankTracked; r++ {
		if r == rankUntracked && !drop {
			return false
		}
		if first := t.order[r].list.Front(); first != nil {
			if r == rankUntracked {
				t.lost++
			}
			t.remove(first.Value.(*history))
			return true
		}
	}
	return false
}

func (t *Table) remove(h *history) {
	t.letGo(h)
	t.order[h.placed].list.Remove(h.element)
	delete(t.flows, h.flow.FlowKey)
	delete(t.inferred, h)
	t.users.Remove(h.user)
	if h.counted {
		t.now--
	}
}

// yield removes a connection of the user who has the most flows, for one of another user.
func (t *Table) yield(user uint32) bool {
	from, is := t.users.Yields(user)
	if !is {
		return false
	}
	for e := t.order[rankTracked].list.Front(); e != nil; e = e.Next() {
		if h := e.Value.(*history); h.user == from {
			t.lost++
			t.remove(h)
			return true
		}
	}
	return false
}

// noUser is whose the packets of no local socket are.
const noUser = ^uint32(0)

func userOf(p *event.Packet) uint32 {
	if p.Socket == nil {
		return noUser
	}
	return p.Socket.UID
}

// worse orders flows, the worst first.
func worse(a, b *event.FlowHistory) int {
	return cmp.Or(
		cmp.Compare(badness(b), badness(a)),
		stalledLonger(a, b),
		cmp.Compare(b.Drops, a.Drops),
		b.Last.Compare(a.Last),
		compareKeys(&a.FlowKey, &b.FlowKey),
	)
}

func badness(f *event.FlowHistory) int {
	switch {
	case f.State == event.Stalled:
		return 3
	case f.Drops != 0 && f.State != event.Closed:
		return 2
	case f.Drops != 0:
		return 1
	}
	return 0
}

func stalledLonger(a, b *event.FlowHistory) int {
	if a.State != event.Stalled {
		return 0
	}
	return a.StalledSince.Compare(b.StalledSince)
}

func compareKeys(a, b *event.FlowKey) int {
	return cmp.Or(
		cmp.Compare(a.NetNS, b.NetNS),
		cmp.Compare(a.Proto, b.Proto),
		a.Source.Compare(b.Source),
		a.Destination.Compare(b.Destination),
	)
}
