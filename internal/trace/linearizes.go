package trace

import (
	"context"
	"sync"

	"xentrace/internal/event"
	"xentrace/internal/netfront"
)

// linearization is what the driver's code shows of packets over the limit. It is
// read while the tracer already counts: the kernel side needs no answer.
type linearization struct {
	once   sync.Once
	known  chan struct{} // closed once answer is there
	answer netfront.Answer
}

// tell sets the answer, if none is there yet, and reports whether it did.
func (l *linearization) tell(answer netfront.Answer) bool {
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
	return l.tell(netfront.Answer{Evidence: evidence})
}

// sentence says it for a user.
func (l *linearization) sentence() string {
	switch l.answer.Value {
	case netfront.Linearizes:
		return "the driver linearizes packets of too many slots: " + l.answer.Evidence
	case netfront.Drops:
		return "the driver drops packets of too many slots: " + l.answer.Evidence
	}
	return "whether the driver linearizes is not known, so the cause of a drop over the limit is unknown: " + l.answer.Evidence
}

// cause is why a packet over the limit was dropped that still had its fragments.
func (l *linearization) cause() event.Cause {
	switch l.answer.Value {
	case netfront.Linearizes:
		return event.LinearizeFailed
	case netfront.Drops:
		return event.TooManySlots
	}
	return event.UnknownCause
}

// wait returns once the answer is there.
func (l *linearization) wait(ctx context.Context) error {
	select {
	case <-l.known:
		return nil
	default:
	}
	select {
	case <-l.known:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// refine gives a cause its name that the kernel side leaves open.
func (l *linearization) refine(ctx context.Context, c *event.Cause) error {
	if *c != event.TooManySlots {
		return nil
	}
	if err := l.wait(ctx); err != nil {
		return err
	}
	*c = l.cause()
	return nil
}

// refineVerdict corrects what the kernel side takes for linearized because the
// driver did not drop it: one that does neither sent it as it is.
func (l *linearization) refineVerdict(ctx context.Context, v *event.Verdict) error {
	if *v != event.Linearized {
		return nil
	}
	if err := l.wait(ctx); err != nil {
		return err
	}
	if l.answer.Value == netfront.Drops {
		*v = event.Sent
	}
	return nil
}

// refineCounts does the same for counts.
func (l *linearization) refineCounts(ctx context.Context, c *event.Counts) error {
	if c.Linearized != 0 {
		verdict := event.Linearized
		if err := l.refineVerdict(ctx, &verdict); err != nil {
			return err
		}
		if verdict == event.Sent {
			c.Linearized = 0
		}
	}
	cause, count := event.TooManySlots, c.Causes[event.TooManySlots]
	if count == 0 {
		return nil
	}
	if err := l.refine(ctx, &cause); err != nil {
		return err
	}
	c.Causes[event.TooManySlots] = 0
	c.Causes[cause] += count
	return nil
}
