package owner

import (
	"context"
	"errors"
	"sync"
	"time"

	"xentrace/internal/event"
)

const (
	// holdAtMost is how long a record waits for its owner at most, and those behind it with
	// it. Nearly always it is less than a tenth of that: until the owner may be asked for, and
	// some milliseconds for the answer; more where the machine has no time for it, or very
	// many files.
	holdAtMost = time.Second
	// maxHeld is how many records wait at most.
	maxHeld = 4096
	// askInterval is the least time between two walks through all processes' files, which
	// is also askLeisure times as long as the last one took.
	askInterval = 50 * time.Millisecond
	askLeisure  = 4
)

// A Reader hands on packets, in order, with the process that each belongs to. It is one
// goroutine's.
type Reader struct {
	read   func(context.Context) (event.Packet, error)
	owners *owners
	now    func() time.Time

	waiting []waiting
	ended   error // what reading ended with; told once nothing waits

	answers chan answer
	asking  bool
	nextAsk time.Time

	pause  context.Context // ends when there may be something to do besides reading
	mu     sync.Mutex
	resume context.CancelFunc // of pause
}

// waiting is a packet that waits for its owner, or behind one that does.
type waiting struct {
	packet  event.Packet
	settled bool
	until   time.Time
}

// answer is what a walk found.
type answer struct {
	wanted  map[uint64]want
	holders []event.Holder
	took    time.Duration
	err     error
}

// NewReader returns one that reads packets by read and finds holders of sockets by find,
// as [trace.Tracer.Read] and [trace.Tracer.Holders] do.
func NewReader(read func(context.Context) (event.Packet, error), find func([]uint64) ([]event.Holder, error)) *Reader {
	return &Reader{read: read, owners: newOwners(find), now: time.Now, answers: make(chan answer, 1)}
}

// Read returns the next packet, with its Process where that is known. A packet whose
// owner is to be asked for waits for the answer, and those behind it with it. Read
// returns the context's error when that ends, and the error of reading when nothing waits any more.
func (r *Reader) Read(ctx context.Context) (event.Packet, error) {
	for {
		if len(r.waiting) == 0 {
			if r.ended != nil {
				return event.Packet{}, r.ended
			}
			packet, err := r.read(ctx)
			if err != nil {
				return event.Packet{}, err
			}
			if now := r.now(); !r.take(&packet, now) {
				continue
			}
			return packet, nil
		}
		if packet, is := r.first(); is {
			return packet, nil
		}
		if err := r.readOn(ctx); err != nil {
			return event.Packet{}, err
		}
	}
}

// take completes a packet that nothing waits before, and reports false if it has to wait.
func (r *Reader) take(packet *event.Packet, now time.Time) bool {
	if r.asking {
		r.collect(now)
	}
	if r.owners.complete(packet, now) {
		r.askFor(now) // owners that were known for long are asked for again
		return true
	}
	r.waiting = append(r.waiting, waiting{*packet, false, now.Add(holdAtMost)})
	return false
}

// first returns the packet that came first, if it need not wait any more.
func (r *Reader) first() (event.Packet, bool) {
	now := r.now()
	r.collect(now)
	head := &r.waiting[0]
	if !head.settled && len(r.waiting) < maxHeld && now.Before(head.until) {
		return event.Packet{}, false
	}
	packet := head.packet
	*head = waiting{}
	if r.waiting = r.waiting[1:]; len(r.waiting) == 0 {
		r.waiting = nil
	}
	return packet, true
}

// readOn reads one more packet while others wait.
func (r *Reader) readOn(ctx context.Context) error {
	if r.ended != nil {
		r.finish()
		return nil
	}
	now := r.now()
	r.askFor(now)
	packet, err := r.read(r.untilNext(ctx, now))
	switch {
	case err == nil:
		now = r.now()
		settled := r.owners.complete(&packet, now)
		r.waiting = append(r.waiting, waiting{packet, settled, now.Add(holdAtMost)})
	case ctx.Err() != nil:
		return ctx.Err()
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
	default:
		r.ended = err
	}
	return nil
}

// untilNext returns a context that ends when there is something to do besides reading.
func (r *Reader) untilNext(ctx context.Context, now time.Time) context.Context {
	if r.pause != nil && r.pause.Err() == nil {
		return r.pause
	}
	next := r.waiting[0].until
	if !r.asking && len(r.owners.wanted) > 0 && r.nextAsk.Before(next) {
		next = r.nextAsk
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.resume != nil {
		r.resume()
	}
	r.pause, r.resume = context.WithTimeout(ctx, next.Sub(now))
	return r.pause
}

// askFor asks for the holders of the sockets that are wanted, beside the reading, unless
// that was done just before.
func (r *Reader) askFor(now time.Time) {
	if r.asking || len(r.owners.wanted) == 0 || now.Before(r.nextAsk) {
		return
	}
	r.asking = true
	wanted := r.owners.takeWanted()
	go func() {
		began := time.Now()
		holders, err := r.owners.ask(wanted)
		r.answers <- answer{wanted, holders, time.Since(began), err}
		r.mu.Lock()
		defer r.mu.Unlock()
		if r.resume != nil {
			r.resume()
		}
	}()
}

// collect takes an answer, if there is one.
func (r *Reader) collect(now time.Time) {
	select {
	case a := <-r.answers:
		r.settle(a, now)
	default:
	}
}

// settle completes the packets that waited for an answer. If there was an error nobody is
// known to hold the sockets; they are asked for again later.
func (r *Reader) settle(a answer, now time.Time) {
	r.asking = false
	r.nextAsk = now.Add(max(askInterval, askLeisure*a.took))
	r.owners.answer(a.wanted, a.holders, now)
	for i := range r.waiting {
		if w := &r.waiting[i]; !w.settled {
			w.settled = r.owners.complete(&w.packet, now)
		}
	}
}

// finish settles every packet that waits: no more will come.
func (r *Reader) finish() {
	if r.asking {
		r.settle(<-r.answers, r.now())
	}
	if len(r.owners.wanted) > 0 {
		wanted := r.owners.takeWanted()
		holders, err := r.owners.ask(wanted)
		r.settle(answer{wanted: wanted, holders: holders, err: err}, r.now())
	}
	for i := range r.waiting {
		r.waiting[i].settled = true
	}
}

// Close ends what goes on in the background.
func (r *Reader) Close() {
	if r.asking {
		<-r.answers
		r.asking = false
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.resume != nil {
		r.resume()
	}
}
