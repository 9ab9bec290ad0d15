package exporter

import (
	"slices"
	"time"

	"xentrace/internal/event"
	"xentrace/internal/output"
)

// othersName is the device of everything that has no series of its own.
const othersName = "(others)"

// A key identifies the series of an interface: one that is removed and comes back under its
// name, in the same network namespace, continues them.
type key struct {
	netns  uint32
	device string // escaped: as text shows it, valid UTF-8, and no two names are one
}

func keyOf(d event.Device) key {
	return key{d.NetNS, output.Escape(d.Name)}
}

// A ledger adds up what was counted since its last reading: its counts never go back,
// whatever becomes of interfaces.
type ledger struct {
	limit    int            // interfaces with series of their own
	accounts map[key]int    // from 1; 0 is everything else
	began    []time.Time    // of each account
	before   event.Totals   // of the last reading
	sum      event.Totals   // its interfaces have the number of their account as index
	closed   time.Duration  // of unmonitored intervals, and of those that last
	without  int            // interfaces that are there and have no series of their own
	present  map[int]bool   // accounts whose interface is there
	stalls   map[int]uint64 // connections that became stalled, by account
}

func newLedger(limit int, now time.Time) *ledger {
	return &ledger{limit: limit, accounts: make(map[key]int), began: []time.Time{now}, stalls: make(map[int]uint64)}
}

// account returns the number of an interface. Once the limit is reached it is 0 for each new
// one, for good: an account that is given up would be a counter that goes back.
func (l *ledger) account(k key, now time.Time) int {
	number, known := l.accounts[k]
	if !known && k.device != "" && k.device != othersName && len(l.accounts) < l.limit {
		number = len(l.accounts) + 1
		l.accounts[k] = number
		l.began = append(l.began, now)
	}
	return number
}

// add takes in a reading, the latest of all.
func (l *ledger) add(now event.Totals) {
	began := l.before.Time // what is new was counted after that
	if began.IsZero() {
		began = l.began[0]
	}
	moved := now.Since(&l.before)
	l.before = now
	l.without, l.present = 0, make(map[int]bool)
	for i := range moved.Interfaces {
		n := &moved.Interfaces[i]
		k := keyOf(n.Device)
		number := 0
		if n.Index != 0 {
			number = l.account(k, began)
		}
		switch {
		case number != 0:
			l.present[number] = l.present[number] || !n.Gone
		case n.Index != 0 && !n.Gone:
			l.without++
		}
		n.Device = event.Device{Name: k.device, Index: number, NetNS: k.netns}
		if number == 0 {
			n.Device = event.Device{Name: othersName}
		}
	}
	moved.Gaps = nil
	l.sum.Add(&moved)
	l.closed = max(l.closed, unmonitored(now.Gaps, now.Time))
}

// others returns everything that has no series of its own.
func (l *ledger) others() event.InterfaceTotals {
	i := slices.IndexFunc(l.sum.Interfaces, func(n event.InterfaceTotals) bool { return n.Index == 0 })
	if i < 0 {
		return event.InterfaceTotals{Device: event.Device{Name: othersName}}
	}
	return l.sum.Interfaces[i]
}

// unmonitored adds up intervals; one that lasts counts until now.
func unmonitored(gaps []event.Gap, now time.Time) (sum time.Duration) {
	for _, g := range gaps {
		to := g.To
		if to.IsZero() {
			to = now
		}
		sum += max(to.Sub(g.From), 0)
	}
	return sum
}
