package flow

import (
	"errors"
	"slices"
	"time"

	"xentrace/internal/event"
)

const (
	// PollInterval is how often to Poll: below the half second within which it is to be
	// reported as recovered.
	PollInterval = 400 * time.Millisecond

	// mostAsked is how many flows that are not stalled are read in one Poll: a
	// packet of theirs was lost once, and all of it is acknowledged.
	mostAsked = 64
)

// Following reports whether there are connections for Poll to read.
func (t *Table) Following() bool {
	if t.kernel == nil {
		return false
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.bySocket) > 0
}

// Poll reads the state of connections that lost packets, and returns
// what changed. Stalled ones are read each time; the others in turn, and
// all of them as soon as one has ended.
func (t *Table) Poll(now time.Time) []event.FlowEvent {
	if t.kernel == nil {
		return nil
	}
	flows, sockets := t.questions()
	if len(flows) == 0 {
		return nil
	}
	answers, err := t.kernel.Ask(sockets)
	t.mu.Lock()
	defer t.mu.Unlock()
	if err != nil {
		t.failed(err)
		return nil
	}
	var events []event.FlowEvent
	for i, h := range flows {
		// It may have another socket by now.
		if h.socket != nil && *h.socket == sockets[i] {
			events = append(events, t.answer(h, &answers[i], now)...)
		}
	}
	return events
}

func (t *Table) questions() ([]*history, []event.Socket) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.bySocket) == 0 {
		return nil, nil
	}
	endings, err := t.kernel.Endings()
	ended := endings != t.endings
	if err != nil {
		t.failed(err)
		return nil, nil
	}
	t.endings = endings
	var asked, rest []*history
	for _, h := range t.bySocket {
		if ended || h.hanging() {
			asked = append(asked, h)
		} else {
			rest = append(rest, h)
		}
	}
	asked = append(asked, t.next(rest)...)
	sockets := make([]event.Socket, len(asked))
	for i, h := range asked {
		sockets[i] = *h.socket
	}
	return asked, sockets
}

func (t *Table) next(rest []*history) []*history {
	if len(rest) <= mostAsked {
		return rest
	}
	slices.SortFunc(rest, func(a, b *history) int { return compareKeys(&a.flow.FlowKey, &b.flow.FlowKey) })
	from := t.turn % len(rest)
	t.turn = from + mostAsked
	chosen := slices.Clone(rest[from:min(from+mostAsked, len(rest))])
	return append(chosen, rest[:mostAsked-len(chosen)]...)
}

// answer records what the kernel reports of a flow's connection.
func (t *Table) answer(h *history, c *event.Connection, now time.Time) []event.FlowEvent {
	if c.Ended {
		events := t.end(h, c, now)
		t.place(h)
		return events
	}
	return t.noted(h, h.observe(&c.TCP, c.Time))
}

// failed records the kernel's refusal; that it is not ready yet is none.
func (t *Table) failed(err error) {
	if !errors.Is(err, event.ErrNotLoaded) {
		t.err = err
	}
}

// Err returns why the kernel could not be asked, the last time that it could not.
func (t *Table) Err() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.err
}
