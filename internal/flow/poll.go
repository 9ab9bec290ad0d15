package flow

import (
	"slices"
	"time"

	"xentrace/internal/trace"
)

const (
	// PollInterval is how often to Poll: well below the half second within which it is
	// to be told that a flow goes on.
	PollInterval = 200 * time.Millisecond

	// mostAsked is how many flows are asked about in one Poll that do not hang: a
	// packet of theirs was lost once, and all of it is acknowledged.
	mostAsked = 64
)

// Poll asks the kernel how the connections stand that lost packets, and returns
// what changed. Those that hang are asked about each time; the others in turn, and
// all of them as soon as one has ended.
func (t *Table) Poll(now time.Time) []Event {
	if t.kernel == nil {
		return nil
	}
	var events []Event
	for _, q := range t.questions() {
		c, err := t.kernel.Ask(q.socket)
		if err != nil {
			t.failed(err)
			return events
		}
		events = append(events, t.answer(q, &c, now)...)
	}
	return events
}

// A question is a flow to ask about. The flow may have another socket by the time
// of the answer.
type question struct {
	flow   *history
	socket trace.Socket
}

// questions chooses whom to ask about.
func (t *Table) questions() []question {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.bySocket) == 0 {
		return nil
	}
	endings, err := t.kernel.Endings()
	ended := err != nil || endings != t.endings
	t.endings = endings
	var asked, rest []question
	for _, h := range t.bySocket {
		q := question{h, *h.socket}
		if ended || h.hanging() {
			asked = append(asked, q)
		} else {
			rest = append(rest, q)
		}
	}
	return append(asked, t.next(rest)...)
}

// next takes the few of the rest whose turn it is.
func (t *Table) next(rest []question) []question {
	if len(rest) <= mostAsked {
		return rest
	}
	slices.SortFunc(rest, func(a, b question) int { return compareKeys(&a.flow.flow.Key, &b.flow.flow.Key) })
	from := t.turn % len(rest)
	t.turn = from + mostAsked
	chosen := slices.Clone(rest[from:min(from+mostAsked, len(rest))])
	return append(chosen, rest[:mostAsked-len(chosen)]...)
}

// answer takes note of what the kernel told of a flow's connection.
func (t *Table) answer(q question, c *trace.Connection, now time.Time) []Event {
	t.mu.Lock()
	defer t.mu.Unlock()
	h := q.flow
	if h.socket == nil || *h.socket != q.socket {
		return nil
	}
	if c.Ended {
		events := t.end(h, c, now)
		t.place(h)
		return events
	}
	return t.told(h, h.observe(&c.TCP, c.Time))
}

func (t *Table) failed(err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.askedLast = err
}

// Err returns why the kernel could not be asked, the last time that it could not.
func (t *Table) Err() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.askedLast
}
