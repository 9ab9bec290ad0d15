package trace

import (
	"context"
	"sync"
	"time"

	"xentrace/internal/event"
	"xentrace/internal/kernel"
	"xentrace/internal/netfront"
)

// linearization is what the driver's code shows of packets over the limit. It is read
// while the tracer already counts: the BPF programs do not need it.
type linearization struct {
	once   sync.Once
	known  chan struct{} // closed once answer is set
	answer netfront.Answer
}

// resolve sets the answer unless it is set, and reports whether it did.
func (l *linearization) resolve(answer netfront.Answer) bool {
	first := false
	l.once.Do(func() {
		l.answer = answer
		close(l.known)
		first = true
	})
	return first
}

// settle gives up: the answer stays unknown.
func (l *linearization) settle(evidence string) bool {
	return l.resolve(netfront.Answer{Evidence: evidence})
}

func (l *linearization) isKnown() bool {
	select {
	case <-l.known:
		return true
	default:
		return false
	}
}

// wait returns once the answer is set.
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

// value returns the answer, Unknown while there is none.
func (l *linearization) value() netfront.Linearization {
	if !l.isKnown() {
		return netfront.Unknown
	}
	return l.answer.Value
}

func isOpen(p *event.Packet) bool {
	return p.Cause == event.TooManySlots || p.Verdict == event.Linearized
}

// refine gives a packet the cause and verdict that the BPF programs leave open. The driver
// is Unknown if its code was not read in time.
func refine(p *event.Packet, driver netfront.Linearization) {
	if p.Cause == event.TooManySlots {
		p.Cause = causeOverLimit(driver)
	}
	// A driver that neither drops nor linearizes it sent it as it is.
	if p.Verdict == event.Linearized && driver == netfront.Drops {
		p.Verdict = event.Sent
	}
}

func causeOverLimit(driver netfront.Linearization) event.Cause {
	switch driver {
	case netfront.Linearizes:
		return event.LinearizeFailed
	case netfront.Drops:
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
	if l.answer.Value == netfront.Drops {
		c.Linearized = 0
	}
	c.Causes[event.TooManySlots] = 0
	c.Causes[causeOverLimit(l.answer.Value)] += count
	return nil
}

// DriverCode waits for what the driver's code shows of packets over the limit. It is not known where
// no interface is driven by xen-netfront.
func (t *Tracer) DriverCode(ctx context.Context) (netfront.Answer, error) {
	g := t.driver.generations.current()
	if err := g.wait(ctx); err != nil {
		return netfront.Answer{}, err
	}
	return g.answer, nil
}

// SharedInfo is what this kernel keeps at the end of every head. The error wraps [kernel.ErrNoTypes]
// or [kernel.ErrNoSuchType].
func (t *Tracer) SharedInfo() (kernel.SharedInfo, error) { return t.sharedInfo, t.sharedMissing }

// notice is what the code showed.
func (l *linearization) notice() event.Notice {
	n := event.Notice{ID: event.NoticeLinearize, Evidence: l.answer.Evidence}
	if l.answer.Value != netfront.Unknown {
		linearizes := l.answer.Value == netfront.Linearizes
		n.Linearizes = &linearizes
	}
	return n
}

// A generation is the driver from one loading of its module to the next. Another
// driver may have been loaded, so each has its own answer to what became of
// packets over the limit.
type generation struct {
	began uint64 // CLOCK_BOOTTIME; earlier packets are of the one before
	linearization
}

func newGeneration(began uint64) *generation {
	return &generation{began: began, linearization: linearization{known: make(chan struct{})}}
}

// generations are those since the start, the present one last.
type generations struct {
	mu  sync.Mutex
	all []*generation
}

// begin begins a new one at that moment. If the code of the one before was not read by then,
// what it does stays unknown.
func (g *generations) begin(moment uint64, unread string) *generation {
	g.mu.Lock()
	defer g.mu.Unlock()
	if n := len(g.all); n > 0 {
		g.all[n-1].settle(unread)
	}
	next := newGeneration(moment)
	g.all = append(g.all, next)
	return next
}

func (g *generations) current() *generation {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.all[len(g.all)-1]
}

// lastRead returns the latest one whose code was read, else the present one.
func (g *generations) lastRead() *generation {
	g.mu.Lock()
	defer g.mu.Unlock()
	for i := len(g.all) - 1; i >= 0; i-- {
		select {
		case <-g.all[i].known:
			return g.all[i]
		default:
		}
	}
	return g.all[len(g.all)-1]
}

func (g *generations) at(moment uint64) *generation {
	g.mu.Lock()
	defer g.mu.Unlock()
	i := len(g.all) - 1
	for i > 0 && g.all[i].began > moment {
		i--
	}
	return g.all[i]
}

const (
	// maxPending bounds the packets that wait for the driver's code to be read: about
	// 4 MB. With more, the oldest is delivered as if the code were not known: an
	// over-limit drop with the cause unknown, so the ring buffer is drained in any case.
	maxPending = 4096

	// pendingAtEnd is how long they wait after Stop.
	pendingAtEnd = time.Minute
)

// pending holds packets whose cause or verdict depends on the driver's code while that is
// being read, and all packets after them, so that the order is kept.
type pending struct {
	packets []pendingPacket // the first one waits for its driver
	one     []pendingPacket // memory of a single packet, which is nearly always enough
	limit   int
}

type pendingPacket struct {
	packet event.Packet
	driver *linearization // nil if nothing is open
}

// add appends a packet; driver is the one that it was handed to.
func (p *pending) add(packet *event.Packet, driver *linearization) {
	if !isOpen(packet) {
		driver = nil
	}
	if p.packets == nil {
		p.packets = p.one
	}
	p.packets = append(p.packets, pendingPacket{driver: driver})
	p.packets[len(p.packets)-1].packet = *packet
	if len(p.packets) == 1 && cap(p.packets) == 1 {
		p.one = p.packets[:0]
	}
}

func (p *pending) next() (event.Packet, bool) {
	if len(p.packets) == 0 {
		return event.Packet{}, false
	}
	first := &p.packets[0]
	switch {
	case first.driver == nil:
	case first.driver.isKnown():
		refine(&first.packet, first.driver.answer.Value)
	case len(p.packets) > p.limit:
		refine(&first.packet, netfront.Unknown)
	default:
		return event.Packet{}, false
	}
	packet := first.packet
	*first = pendingPacket{} // free what it refers to
	if p.packets = p.packets[1:]; len(p.packets) == 0 {
		p.packets = nil
	}
	return packet, true
}

// settle waits for the answer that the oldest packet needs, at most for patience; after
// that the cause of the packets that need it is unknown.
func (p *pending) settle(ctx context.Context, patience time.Duration) {
	if len(p.packets) == 0 || p.packets[0].driver == nil {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	driver := p.packets[0].driver
	if driver.wait(ctx) == nil {
		return
	}
	for i := range p.packets {
		if w := &p.packets[i]; w.driver == driver {
			refine(&w.packet, netfront.Unknown)
			w.driver = nil
		}
	}
}
