package trace

import (
	"context"

	"xentrace/internal/kernel"
)

// linearization is what the driver's code shows of packets over the limit. It is
// read while the tracer already counts: the kernel side needs no answer.
type linearization struct {
	known  chan struct{} // closed once answer is there
	answer kernel.Answer
}

// sentence says it for a user.
func (l *linearization) sentence() string {
	switch l.answer.Value {
	case kernel.Linearizes:
		return "the driver linearizes packets of too many slots: " + l.answer.Evidence
	case kernel.Drops:
		return "the driver drops packets of too many slots: " + l.answer.Evidence
	}
	return "whether the driver linearizes is not known, so the cause of a drop over the limit is unknown: " + l.answer.Evidence
}

// cause is why a packet over the limit was dropped that still had its fragments.
func (l *linearization) cause() Cause {
	switch l.answer.Value {
	case kernel.Linearizes:
		return LinearizeFailed
	case kernel.Drops:
		return TooManySlots
	}
	return UnknownCause
}

// wait returns once the answer is there.
func (l *linearization) wait(ctx context.Context) error {
	select {
	case <-l.known:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// refine gives a cause its name that the kernel side leaves open.
func (l *linearization) refine(ctx context.Context, c *Cause) error {
	if *c != TooManySlots {
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
func (l *linearization) refineVerdict(ctx context.Context, v *Verdict) error {
	if *v != Linearized {
		return nil
	}
	if err := l.wait(ctx); err != nil {
		return err
	}
	if l.answer.Value == kernel.Drops {
		*v = Sent
	}
	return nil
}

// refineCounts does the same for counts.
func (l *linearization) refineCounts(ctx context.Context, c *Counts) error {
	if c.Linearized != 0 {
		verdict := Linearized
		if err := l.refineVerdict(ctx, &verdict); err != nil {
			return err
		}
		if verdict == Sent {
			c.Linearized = 0
		}
	}
	cause, count := TooManySlots, c.Causes[TooManySlots]
	if count == 0 {
		return nil
	}
	if err := l.refine(ctx, &cause); err != nil {
		return err
	}
	c.Causes[TooManySlots] = 0
	c.Causes[cause] += count
	return nil
}
