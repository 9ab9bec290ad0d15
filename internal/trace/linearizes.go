package trace

import (
	"context"
	"sync"

	"xentrace/internal/event"
	"xentrace/internal/kernel"
)

// linearization is what the driver's code shows of packets over the limit. It is read
// while the tracer already counts: the BPF programs need no answer.
type linearization struct {
	once   sync.Once
	known  chan struct{} // closed once answer is there
	answer kernel.Answer
}

// tell sets the answer, if none is there yet, and reports whether it did.
func (l *linearization) tell(answer kernel.Answer) bool {
	first := false
	l.once.Do(func() {
		l.answer = answer
		close(l.known)
		first = true
	})
	return first
}

// settle makes do without an answer.
func (l *linearization) settle(evidence string) bool {
	return l.tell(kernel.Answer{Evidence: evidence})
}

// isKnown reports whether the answer is there.
func (l *linearization) isKnown() bool {
	select {
	case <-l.known:
		return true
	default:
		return false
	}
}

// wait returns once the answer is there.
func (l *linearization) wait(ctx context.Context) error {
	if l.isKnown() {
		return nil
	}
	select {
	case <-l.known:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// isOpen reports whether a packet's cause or verdict depends on the driver's code.
func isOpen(p *event.Packet) bool {
	return p.Cause == event.TooManySlots || p.Verdict == event.Linearized
}

// refine gives a packet the cause and verdict that the BPF programs leave open. The driver
// is Unknown if its code was not read in time.
func refine(p *event.Packet, driver kernel.Linearization) {
	if p.Cause == event.TooManySlots {
		p.Cause = causeOverLimit(driver)
	}
	// A driver that neither drops nor linearizes it sent it as it is.
	if p.Verdict == event.Linearized && driver == kernel.Drops {
		p.Verdict = event.Sent
	}
}

// causeOverLimit is why a packet over the limit was dropped that still had its fragments.
func causeOverLimit(driver kernel.Linearization) event.Cause {
	switch driver {
	case kernel.Linearizes:
		return event.LinearizeFailed
	case kernel.Drops:
		return event.TooManySlots
	}
	return event.UnknownCause
}

// refineCounts does the same for counts, and waits for the answer if they depend on it.
func (l *linearization) refineCounts(ctx context.Context, c *event.Counts) error {
	count := c.Causes[event.TooManySlots]
	if c.Linearized == 0 && count == 0 {
		return nil
	}
	if err := l.wait(ctx); err != nil {
		return err
	}
	if l.answer.Value == kernel.Drops {
		c.Linearized = 0
	}
	c.Causes[event.TooManySlots] = 0
	c.Causes[causeOverLimit(l.answer.Value)] += count
	return nil
}

// notice is what the code showed.
func (l *linearization) notice() event.Notice {
	n := event.Notice{ID: event.NoticeLinearize, Evidence: l.answer.Evidence}
	if l.answer.Value != kernel.Unknown {
		linearizes := l.answer.Value == kernel.Linearizes
		n.Linearizes = &linearizes
	}
	return n
}
