package rocket

import (
	"context"
	"errors"
	"time"
)

// bench is what the pieces of packets are put in place with: a thread of its own
// and the connection that moves its page fragment on.
type bench struct {
	*thread
	*filler
}

// newBench makes one, with sockets in the network namespace of the calling thread.
func newBench(ctx context.Context) (*bench, error) {
	f, err := newFiller(ctx)
	if err != nil {
		return nil, err
	}
	t, err := newThread()
	if err != nil {
		return nil, errors.Join(err, f.close())
	}
	return &bench{thread: t, filler: f}, nil
}

// send runs write, which writes one packet to conn, on the bench's thread and
// leaves the thread as the plan says. Waiting in write ends when ctx does.
func (b *bench) send(ctx context.Context, p plan, conn interface{ SetDeadline(time.Time) error }, write func() error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	// Left over if ctx ended before.
	if err := b.drain(ctx); err != nil {
		return err
	}
	err := b.run(func() error {
		release := interruptible(ctx, conn)
		defer release()
		if err := write(); err != nil {
			return err
		}
		return b.filler.write(p.after)
	})
	// The packet is on its way. What cannot be read now is read before the next.
	_ = b.drain(ctx)
	if err != nil {
		return errors.Join(err, b.renew())
	}
	return nil
}

// renew takes another thread, since this one's fragment is wherever it was left.
func (b *bench) renew() error {
	t, err := newThread()
	if err != nil {
		return err
	}
	b.thread.close()
	b.thread = t
	return nil
}

// close ends the thread and the connection.
func (b *bench) close() error {
	b.thread.close()
	return b.filler.close()
}
