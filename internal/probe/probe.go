// Package probe sends one datagram of many slots out of an interface and reports what
// became of it. The caller attaches the tracer; sending needs no privilege.
package probe

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"

	"xentrace/internal/event"
	"xentrace/internal/netdev"
	"xentrace/internal/rocket"
	"xentrace/internal/slots"
	"xentrace/internal/trace"
)

// MaxAttempts is how many datagrams one probe makes at most until one has enough slots.
const MaxAttempts = 32

const defaultSlots = 27

// How long things may take that nothing else shows the end of. Emulated machines are slow.
const (
	seenPatience      = 10 * time.Second       // a datagram on its way to the driver
	answerPatience    = 2 * time.Second        // the backend's first answer
	allAnswers        = 100 * time.Millisecond // its answers to the packet's other requests
	neighbourPatience = 4 * time.Second        // the kernel asks three times, a second apart
	neighbourInterval = 20 * time.Millisecond
)

// A Tracer watches the interface: a [trace.Tracer] with [trace.Options.Probe].
type Tracer interface {
	Read(context.Context) (event.Packet, error)
	SetProbe(cookie uint64) error
	MissingAnswers() string
}

// Options select what to probe.
type Options struct {
	Interface     netdev.Interface
	Destination   Destination
	Slots         int  // that the datagram is to need; 0 for any number over the limit
	ScatterGather bool // whether the interface has the feature on
	SmallHead     int  // see [SmallHeadSize]; 0: read when it is needed
}

// ErrOutOfRange reports that no datagram of so many slots can be made.
var ErrOutOfRange = fmt.Errorf("can be %d to %d", rocket.MinSlots, rocket.MaxSlots)

// CheckSlots fails with [ErrOutOfRange], or not at all. 0 asks for none in particular.
func CheckSlots(n int) error {
	if n != 0 && (n < rocket.MinSlots || n > rocket.MaxSlots) {
		return fmt.Errorf("%d slots: %w", n, ErrOutOfRange)
	}
	return nil
}

// A Prober sends probes out of one interface, one after the other.
type Prober struct {
	options Options
	tracer  Tracer
	network Network
	senders senders
	records chan event.Packet
	failure error              // of reading, set before records is closed
	stop    context.CancelFunc // of reading
}

// New makes a prober whose sockets are in the network namespace of the calling thread,
// and begins to read what the tracer shows, until ctx ends, the tracer is stopped or the
// prober is closed.
func New(ctx context.Context, t Tracer, n Network, o Options) *Prober {
	p := &Prober{
		options: o, tracer: t, network: n,
		senders: newRockets(&o),
		records: make(chan event.Packet, 1024),
	}
	ctx, p.stop = context.WithCancel(ctx)
	go p.read(ctx)
	return p
}

// read hands on the records. Other packets that went wrong are thrown away by who
// waits for his own; while nobody does, the oldest have to go.
func (p *Prober) read(ctx context.Context) {
	defer close(p.records)
	for {
		packet, err := p.tracer.Read(ctx)
		if errors.Is(err, io.EOF) || ctx.Err() != nil {
			return
		}
		if err != nil {
			p.failure = err
			return
		}
		select {
		case p.records <- packet:
		default:
			select {
			case <-p.records:
			default:
			}
			p.records <- packet
		}
	}
}

// Close releases what the senders hold, and waits until the tracer is not read any
// more: the next may do so.
func (p *Prober) Close() error {
	p.stop()
	for range p.records {
		continue // thrown away
	}
	return p.senders.close()
}

// Once makes one probe. Errors are xentrace's own, or ctx's; whatever keeps the
// datagram from the driver is in the result.
func (p *Prober) Once(ctx context.Context) (event.Probe, error) {
	r := event.Probe{
		Interface: deviceOf(p.options.Interface), Netfront: p.options.Interface.IsNetfront(), Asked: p.options.Slots, Limit: slots.Limit,
		ScatterGatherOff: !p.options.ScatterGather,
	}
	if r.ScatterGatherOff && r.Asked != 0 {
		return r, fmt.Errorf("%w: scatter-gather is off on interface %s, so that nothing of more than two slots is sent there: probe it without --slots", trace.ErrCannotRun, p.options.Interface)
	}
	unseen, err := p.resolve(ctx)
	if err != nil || unseen != "" {
		r.Time, r.Unseen = time.Now(), unseen
		return r, err
	}
	for r.Attempts < MaxAttempts && !r.Reached {
		if err := p.attempt(ctx, &r); err != nil {
			return r, err
		}
		if !r.Seen && !r.SinglePages {
			break
		}
	}
	return r, nil
}

func (p *Prober) enough(n int) bool {
	switch {
	case p.options.Slots != 0:
		return n == p.options.Slots
	case !p.options.ScatterGather:
		return n > 1
	default:
		return n > slots.Limit
	}
}

// burst reports whether an attempt is of several datagrams, which have one socket.
func (p *Prober) burst() bool { return !p.options.ScatterGather }

func (p *Prober) datagrams() int {
	if p.burst() {
		return headBurst
	}
	return 1
}

func (p *Prober) sender(ctx context.Context) (sender, error) {
	switch {
	case !p.options.ScatterGather:
		return p.senders.head(ctx)
	case p.options.Slots != 0:
		return p.senders.many(ctx, p.options.Slots)
	default:
		return p.senders.many(ctx, defaultSlots)
	}
}

// attempt sends one datagram and waits for what becomes of it.
func (p *Prober) attempt(ctx context.Context, r *event.Probe) error {
	r.Attempts++
	*r = event.Probe{Time: time.Now(), Interface: r.Interface, Netfront: r.Netfront, Asked: r.Asked, Limit: r.Limit, Attempts: r.Attempts, ScatterGatherOff: r.ScatterGatherOff}
	s, err := p.sender(ctx)
	if err != nil {
		r.Unseen = describeSend(err)
		return ctx.Err()
	}
	cookie, err := s.Cookie()
	if err == nil {
		err = p.tracer.SetProbe(cookie)
	}
	if err != nil {
		return errors.Join(err, s.Close())
	}
	r.Flow = &event.Flow{Proto: unix.IPPROTO_UDP, Source: s.Local(), Destination: withoutZone(p.options.Destination.Address)}
	if err := s.Send(ctx); err != nil {
		// Where the kernel had made a packet of it, a record still shows why it was refused.
		r.Unseen, r.SinglePages = describeSend(err), errors.Is(err, rocket.ErrSinglePages)
		if ctx.Err() != nil || r.SinglePages {
			return errors.Join(ctx.Err(), s.Close())
		}
	}
	return errors.Join(p.follow(ctx, r, cookie), s.Close())
}

// follow waits for the records of the datagrams of an attempt, which have that socket.
func (p *Prober) follow(ctx context.Context, r *event.Probe, cookie uint64) error {
	timer := time.NewTimer(seenPatience)
	defer timer.Stop()
	for ended := 0; ; {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case packet, ok := <-p.records:
			if !ok {
				return p.ended(ctx)
			}
			if packet.Socket == nil || packet.Socket.Cookie != cookie || packet.Interface.Index != r.Interface.Index || p.later(r, &packet) {
				continue
			}
			if !isAnswer(&packet) {
				ended++
			}
			next, done := p.take(r, &packet)
			if done && (r.Reached || ended >= p.datagrams()) {
				return nil
			}
			if p.burst() {
				next = answerPatience // they were sent one right after the other
			}
			if next > 0 {
				timer.Reset(next)
			}
		case <-timer.C:
			switch {
			case r.Seen || r.Unseen != "":
			case r.Answer != event.NoAnswer:
				r.Unseen = fmt.Sprintf("the backend %s the datagram, but what the driver did with it was not reported", r.Answer)
			default:
				r.Unseen = p.notSeen()
			}
			return nil
		}
	}
}

// isAnswer reports whether a record is of what the backend did, and not of what the driver did.
func isAnswer(packet *event.Packet) bool {
	return packet.Layer != event.LayerElsewhere && (packet.Verdict == event.Accepted || packet.Verdict == event.Rejected)
}

// later reports whether a record is of what became of a datagram after it was sent, and does
// not count: another driver freed it as dropped, or the backend answered one of several.
func (p *Prober) later(r *event.Probe, packet *event.Packet) bool {
	if packet.Layer == event.LayerElsewhere {
		return r.Seen && !p.options.Interface.IsNetfront()
	}
	return p.burst() && isAnswer(packet)
}

// ended is why no more records come.
func (p *Prober) ended(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if p.failure != nil {
		return p.failure
	}
	return errors.New("the tracer was stopped during a probe")
}

// take adds what a record shows. It returns how long to wait for another one, 0 for no
// longer than before, and whether the datagram's own are complete.
func (p *Prober) take(r *event.Probe, packet *event.Packet) (next time.Duration, done bool) {
	switch {
	case packet.Layer == event.LayerElsewhere:
		if !r.Seen {
			r.Time, r.Reason, r.Unseen = packet.Time, packet.Reason, droppedBefore(packet)
		}
		return 0, true
	case isAnswer(packet):
		return p.takeAnswer(r, packet)
	}
	r.Seen, r.Unseen, r.Reason = true, "", ""
	r.Time, r.Flow = packet.Time, packet.Flow
	r.Verdict, r.Cause = packet.Verdict, packet.Cause
	if r.Answer == event.AnswerRejected {
		r.Verdict = event.Rejected
	}
	r.Slots, r.Limit, r.Len = packet.Slots, packet.Limit, packet.Len
	r.Reached = p.enough(packet.Slots)
	return p.awaitAnswer(r)
}

// takeAnswer adds an answer to one of the datagram's requests. What the driver did may be
// reported after it.
func (p *Prober) takeAnswer(r *event.Probe, packet *event.Packet) (next time.Duration, done bool) {
	if packet.Verdict == event.Rejected {
		r.Verdict, r.Answer = event.Rejected, event.AnswerRejected
	} else if r.Answer != event.AnswerRejected {
		r.Answer = event.AnswerAccepted
	}
	r.AnswerMissing = ""
	switch {
	case !r.Seen:
		return answerPatience, false
	case r.Answer == event.AnswerRejected:
		return 0, true
	}
	return allAnswers, false
}

// awaitAnswer reports how long to wait for the backend's answer to what the driver sent.
func (p *Prober) awaitAnswer(r *event.Probe) (next time.Duration, done bool) {
	switch {
	case r.Verdict == event.Dropped:
		r.Answer = event.NoAnswer // if there was one it was to another of the attempt
		return 0, true
	case r.Answer == event.AnswerRejected:
		return 0, true
	case !r.Reached && r.Attempts < MaxAttempts:
		return 0, true // another one is made anyway
	case !p.options.Interface.IsNetfront():
		r.AnswerMissing = "another driver has no Xen backend"
		return 0, true
	case p.tracer.MissingAnswers() != "":
		r.AnswerMissing = p.tracer.MissingAnswers()
		return 0, true
	case r.Verdict == event.Bounced && r.Answer == event.NoAnswer:
		r.AnswerMissing = "the driver sent a copy, whose owner is unknown"
		return 0, true
	case p.burst():
		r.AnswerMissing = "several datagrams were sent, and an answer does not show to which of them it is"
		return 0, true
	case r.Answer == event.AnswerAccepted:
		return allAnswers, false
	}
	r.AnswerMissing = fmt.Sprintf("the backend did not answer in %s", answerPatience)
	return answerPatience, false
}

// droppedBefore reports where the kernel dropped a packet before the driver was handed it.
func droppedBefore(packet *event.Packet) string {
	text := "the kernel dropped the datagram on its way to the driver"
	if packet.Reason != "" {
		text += ", for the reason " + packet.Reason
	}
	if len(packet.Stack) > 0 {
		text += ", at " + packet.Stack[0]
	}
	return text
}

// withoutZone is an address as packets have it.
func withoutZone(a netip.AddrPort) netip.AddrPort {
	return netip.AddrPortFrom(a.Addr().WithZone(""), a.Port())
}

func deviceOf(i netdev.Interface) event.Device {
	return event.Device{Name: i.Name, Index: i.Index, NetNS: i.Namespace}
}
