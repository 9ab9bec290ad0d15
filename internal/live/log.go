package live

import (
	"slices"
	"sync"
	"time"

	"xentrace/internal/event"
)

// An entry is one thing that happened. One of packet, change and sentence is set.
type entry struct {
	number   uint64 // in the order in which they came
	time     time.Time
	packet   *event.Packet
	change   *event.FlowEvent
	sentence string
}

// keptEntries is how many of either kind are remembered: more than a screen shows.
const keptEntries = 256

// A log remembers the last events. What happens to flows and what there is to say
// is kept apart from packets, so that a storm of those does not sweep it away. Its
// methods may be called from several goroutines; noting a packet costs a copy of it.
type log struct {
	mu      sync.Mutex
	number  uint64
	packets []event.Packet // a ring once it is full
	numbers []uint64       // of packets
	oldest  int            // of packets
	changes []entry
}

func (l *log) packet(p *event.Packet) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.number++
	if len(l.packets) < keptEntries {
		l.packets, l.numbers = append(l.packets, *p), append(l.numbers, l.number)
		return
	}
	l.packets[l.oldest], l.numbers[l.oldest] = *p, l.number
	l.oldest = (l.oldest + 1) % keptEntries
}

func (l *log) change(e *event.FlowEvent) {
	l.add(entry{time: e.Time, change: e})
}

func (l *log) say(when time.Time, sentence string) {
	l.add(entry{time: when, sentence: sentence})
}

func (l *log) add(e entry) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.number++
	e.number = l.number
	if len(l.changes) == keptEntries {
		l.changes = slices.Delete(l.changes, 0, 1)
	}
	l.changes = append(l.changes, e)
}

// last returns the latest events, at most n, oldest first. Packets leave half of them
// to what else there is.
func (l *log) last(n int) []entry {
	l.mu.Lock()
	defer l.mu.Unlock()
	packets, changes := min(len(l.packets), n), min(len(l.changes), n)
	if packets+changes > n {
		changes = min(changes, max(n/2, n-packets))
		packets = n - changes
	}
	entries := slices.Clone(l.changes[len(l.changes)-changes:])
	for i := len(l.packets) - packets; i < len(l.packets); i++ {
		at := (l.oldest + i) % len(l.packets)
		p := l.packets[at]
		entries = append(entries, entry{number: l.numbers[at], time: p.Time, packet: &p})
	}
	slices.SortFunc(entries, func(a, b entry) int { return int(a.number) - int(b.number) })
	return entries
}
