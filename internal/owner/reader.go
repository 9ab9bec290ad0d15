package owner

import (
	"context"
	"errors"
	"sync"
	"time"

	"xentrace/internal/event"
)

const (
	// maxWait bounds how long a record waits for its owner, and delays later ones.
	// Typical is less than a tenth: up to lookupInterval, and some milliseconds for the lookup.
	maxWait    = time.Second
	maxWaiting = 4096
	// After a lookup, which walks all processes' files and took d, the next starts no
	// earlier than max(lookupInterval, lookupPause*d) later.
	lookupInterval = 50 * time.Millisecond
	lookupPause    = 4
)

// A Reader returns packets in order, each with its owner. It is for one goroutine.
type Reader struct {
	read   func(context.Context) (event.Packet, error)
	owners *owners
	now    func() time.Time

	waiting []waiting
	ended   error // error of read; returned once nothing waits

	results    chan result // of the lookup under way
	lookingUp  bool
	nextLookup time.Time

	pause  context.Context // ends when there may be work besides reading
	mu     sync.Mutex
	resume context.CancelFunc // of pause
}

// waiting is a packet that waits for its owner, or after one that does.
type waiting struct {
	packet  event.Packet
	settled bool
	until   time.Time
}

type result struct {
	asked  question
	answer answer
}

// NewReader returns one that reads packets by read and finds holders of sockets by find,
// as [trace.Tracer.Read] and [trace.Tracer.Holders] do.
func NewReader(read func(context.Context) (event.Packet, error), find func(event.Wanted) ([]event.Holder, error)) *Reader {
	return &Reader{read: read, owners: newOwners(find), now: time.Now, results: make(chan result, 1)}
}

// Read returns the next packet, with its Process if known. A packet whose owner is being
// looked up waits for the result and delays later ones. Read returns ctx's error when
// ctx ends, and the source's error once no packet waits.
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

// take completes a packet when none waits, and reports false if this one has to.
func (r *Reader) take(packet *event.Packet, now time.Time) bool {
	if r.lookingUp {
		r.poll(now)
	}
	if r.owners.complete(packet, now) {
		r.startLookup(now) // refreshes old entries
		return true
	}
	r.waiting = append(r.waiting, waiting{*packet, false, now.Add(maxWait)})
	return false
}

// first returns the oldest waiting packet if it need not wait longer.
func (r *Reader) first() (event.Packet, bool) {
	now := r.now()
	r.poll(now)
	head := &r.waiting[0]
	if !head.settled && len(r.waiting) < maxWaiting && now.Before(head.until) {
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
	r.startLookup(now)
	packet, err := r.read(r.untilNext(ctx, now))
	switch {
	case err == nil:
		now = r.now()
		settled := r.owners.complete(&packet, now)
		r.waiting = append(r.waiting, waiting{packet, settled, now.Add(maxWait)})
	case ctx.Err() != nil:
		return ctx.Err()
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
	default:
		r.ended = err
	}
	return nil
}

// untilNext returns a context that ends when there is work besides reading.
func (r *Reader) untilNext(ctx context.Context, now time.Time) context.Context {
	if r.pause != nil && r.pause.Err() == nil {
		return r.pause
	}
	next := r.waiting[0].until
	if !r.lookingUp && r.owners.pending.walks() && r.nextLookup.Before(next) {
		next = r.nextLookup
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.resume != nil {
		r.resume()
	}
	r.pause, r.resume = context.WithTimeout(ctx, next.Sub(now))
	return r.pause
}

// startLookup starts the pending lookups in a goroutine, unless one is under way. Sockets
// wait if the last walk was too recent.
func (r *Reader) startLookup(now time.Time) {
	pending := &r.owners.pending
	sockets := pending.walks() && !now.Before(r.nextLookup)
	if r.lookingUp || !sockets && len(pending.tasks) == 0 {
		return
	}
	r.lookingUp = true
	asked := r.owners.takePending(sockets)
	go func() {
		// After an error the sockets have no owner until they are looked up again.
		found, _ := r.owners.lookups.run(asked)
		r.results <- result{asked, found}
		r.mu.Lock()
		defer r.mu.Unlock()
		if r.resume != nil {
			r.resume()
		}
	}()
}

func (r *Reader) poll(now time.Time) {
	select {
	case a := <-r.results:
		r.settle(a, now)
	default:
	}
}

// settle completes the packets that waited for a result.
func (r *Reader) settle(found result, now time.Time) {
	r.lookingUp = false
	if found.asked.walks() {
		r.nextLookup = now.Add(max(lookupInterval, lookupPause*found.answer.walked))
	}
	r.owners.apply(found.asked, found.answer, now)
	for i := range r.waiting {
		if w := &r.waiting[i]; !w.settled {
			w.settled = r.owners.complete(&w.packet, now)
		}
	}
}

// finish settles every waiting packet: the source has ended.
func (r *Reader) finish() {
	if r.lookingUp {
		r.settle(<-r.results, r.now())
	}
	if asked := r.owners.takePending(true); asked.walks() || len(asked.tasks) > 0 {
		found, _ := r.owners.lookups.run(asked)
		r.settle(result{asked, found}, r.now())
	}
	for i := range r.waiting {
		r.waiting[i].settled = true
	}
}

// Close waits for the lookup under way.
func (r *Reader) Close() {
	if r.lookingUp {
		<-r.results
		r.lookingUp = false
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.resume != nil {
		r.resume()
	}
}
