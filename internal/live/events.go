package live

import (
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"xentrace/internal/event"
	"xentrace/internal/output"
)

// eventLines are the last events, the latest at the bottom. One that is longer than
// the screen is wide uses several lines; none is shown in part.
func (m *model) eventLines(columns, rows int) []line {
	if rows <= 0 {
		return nil
	}
	var lines []line
	for _, e := range slices.Backward(m.events(rows)) {
		one := m.eventLine(&e, columns)
		if len(lines)+len(one) > rows {
			break
		}
		lines = append(one, lines...)
	}
	return lines
}

// eventLine shows one event: time, what happened, and the flow.
func (m *model) eventLine(e *entry, columns int) []line {
	when := e.time.Local().Format(timeLayout) + " "
	what, t, rest := "", plain, steady(output.Printable(e.sentence))
	switch {
	case e.packet != nil:
		what, t, rest = m.packetWords(e.packet)
	case e.change != nil:
		what, t, rest = changeWords(e.change)
	}
	if what != "" && rest != "" {
		rest = " " + rest
	}
	if e.packet != nil && e.packet.Process != nil { // if it fits on the line
		if whole := rest + " of " + processName(e.packet.Process); width(when+what+whole) <= columns {
			rest = whole
		}
	}
	var lines []line
	for i, part := range wrap(what+rest, columns-len(when)) {
		switch {
		case i > 0:
			lines = append(lines, line{{spaces(len(when)), plain}, {part, plain}})
		case strings.HasPrefix(part, what):
			lines = append(lines, line{{when, plain}, {what, t}, {part[len(what):], plain}})
		default:
			lines = append(lines, line{{when, plain}, {part, t}})
		}
	}
	return lines
}

func (m *model) packetWords(p *event.Packet) (what string, t tone, rest string) {
	rest = strconv.Itoa(p.Slots) + "/" + strconv.Itoa(p.Limit)
	if len(m.latest.Totals.Interfaces) != 1 {
		rest += " " + name(p.Interface.Name)
	}
	if p.Flow == nil {
		rest += " " + output.Frame(p)
	} else {
		rest += " " + output.Endpoints(p.Flow.Proto, p.Flow.Source, p.Flow.Destination)
	}
	if p.Layer == event.LayerElsewhere {
		rest += "  " + steady(output.Where(p))
	}
	return output.VerdictWords(p), toneOf(p.Verdict), rest
}

// changeWords is a flow's new state and since when.
func changeWords(e *event.FlowEvent) (what string, t tone, rest string) {
	what, t = stateOf(e.Flow.State)
	rest = output.Endpoints(e.Flow.Proto, e.Flow.Source, e.Flow.Destination)
	if e.Flow.StalledFor != 0 {
		preposition := "after "
		if e.Flow.State == event.Stalled {
			preposition = "for "
		}
		rest = preposition + output.Seconds(e.Flow.StalledFor) + " " + rest
	}
	if e.Flow.Process != nil {
		rest += " of " + processName(e.Flow.Process)
	}
	return what, t, rest
}

type entry struct {
	number   uint64 // in the order in which they came
	time     time.Time
	packet   *event.Packet
	change   *event.FlowEvent
	sentence string
}

// keptEntries is how many of either kind are remembered: more than a screen shows.
const keptEntries = 256

// A log remembers the last events. Flow events and sentences
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
