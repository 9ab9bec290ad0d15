package trace

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"xentrace/bpf"
	"xentrace/internal/event"
	"xentrace/internal/ringread"
)

// DefaultRingBytes is the size of the ring buffer, unless asked otherwise, of machines with up
// to 4 GiB of memory: room for 9,000 records of packets with 17 fragments. Larger machines, which
// make more records in the time that the reader is kept off the CPU, have a thousandth of
// their memory, at most largestRing.
const (
	DefaultRingBytes = 4 << 20

	largestRing = 16 << 20
	memoryOfOne = 1024 // bytes of memory for a byte of the ring
)

// DefaultRing returns the size of the ring buffer that suits this machine, in bytes.
func DefaultRing() int {
	var info unix.Sysinfo_t
	if err := unix.Sysinfo(&info); err != nil {
		return DefaultRingBytes
	}
	return ringFor(uint64(info.Totalram) * uint64(info.Unit))
}

// ringFor returns a power of two. Some of a machine's memory is never in its total.
func ringFor(memory uint64) int {
	ring := DefaultRingBytes
	for ring < largestRing && uint64(ring)*memoryOfOne*3/2 < memory {
		ring *= 2
	}
	return ring
}

// The BPF programs send no wake-up while the reader seems busy. A reader that was just
// about to sleep finds such a record because it polls once more after recheckDelay.
const (
	recheckDelay = 50 * time.Millisecond
	idleDelay    = 10 * time.Second
)

// Read returns the next packet that went wrong. It waits for one until ctx
// ends; after Stop it returns what is left, then io.EOF. Only one goroutine may
// read. It keeps reading the ring buffer while the driver's code is being read; the packets
// whose cause depends on that are returned once it is known, in order.
func (t *Tracer) Read(ctx context.Context) (event.Packet, error) {
	wait := recheckDelay
	t.wakeOn(ctx) // the reader may still wait as long as the last Read asked it to
	for {
		if packet, found := t.nextPending(); found {
			return packet, nil
		}
		err := t.reader.ReadInto(&t.record)
		switch {
		case errors.Is(err, os.ErrDeadlineExceeded), errors.Is(err, ringread.ErrFlushed):
			if err := t.pause(ctx, wait); err != nil {
				return event.Packet{}, err
			}
			wait = idleDelay
			continue
		case errors.Is(err, os.ErrClosed):
			return event.Packet{}, io.EOF
		case err != nil:
			return event.Packet{}, fmt.Errorf("ring buffer: %w", err)
		}
		if err := t.take(ctx, t.record); err != nil {
			return event.Packet{}, err
		}
		wait = recheckDelay
	}
}

// nextPending returns the oldest packet that can be delivered. One that turns out to have
// been sent as it is is none, unless it is the probe's.
func (t *Tracer) nextPending() (event.Packet, bool) {
	for {
		packet, found := t.pending.next()
		if !found {
			return packet, false
		}
		if packet.Verdict != event.Sent || t.isProbe(&packet) {
			t.events.Add(1)
			return packet, true
		}
	}
}

// pause sets how long the reader waits for the next record, now that there is none. It
// returns io.EOF after Stop.
func (t *Tracer) pause(ctx context.Context, wait time.Duration) error {
	if t.ended.Load() != nil && t.reader.Available() == 0 {
		if len(t.pending.packets) == 0 {
			return io.EOF
		}
		t.pending.settle(ctx, pendingAtEnd)
		t.reader.SetDeadline(time.Now())
		return nil
	}
	if err := ctx.Err(); err != nil && t.ended.Load() == nil {
		return err
	}
	// The poll cannot wait for a context too: wake it when that ends.
	t.wakeOn(ctx)
	t.reader.SetDeadline(time.Now().Add(wait))
	return nil
}

// wakeOn makes the end of ctx wake the reader. It is arranged once for each
// context that Read is called with, since each call may bring another.
func (t *Tracer) wakeOn(ctx context.Context) {
	if t.waking == ctx {
		return
	}
	if t.stopWaking != nil {
		t.stopWaking()
	}
	t.waking = ctx
	t.stopWaking = context.AfterFunc(ctx, t.wake)
}

// wake makes a Read that waits look at what it waits for.
func (t *Tracer) wake() { _ = t.reader.Flush() } // fails only once closed

func (t *Tracer) take(ctx context.Context, raw []byte) error {
	select {
	case t.recordRead <- struct{}{}:
	default:
	}
	kind, err := t.decoder.kind(raw)
	if err != nil {
		return err
	}
	switch kind {
	case bpf.XentraceEventKindEVENT_INTERFACE:
		t.addReported(ctx, t.decoder.decodeInterface(raw))
		return nil
	case bpf.XentraceEventKindEVENT_ELSEWHERE:
		packet, err := t.takeElsewhere(raw)
		if err != nil {
			return err
		}
		t.hold(&packet)
		return nil
	case bpf.XentraceEventKindEVENT_PACKET:
		packet, err := t.decoder.decodePacket(raw)
		if err != nil {
			return err
		}
		if t.calls != nil {
			packet.Stack = t.calls.name(&t.decoder)
		}
		t.hold(&packet)
		return nil
	}
	return fmt.Errorf("record of kind %d: unknown", kind)
}

// hold adds the name of its interface to a packet and makes it pending. The driver it was
// handed to is the one its interface was registered with, or that of the time where the
// interface is not registered yet.
func (t *Tracer) hold(p *event.Packet) {
	i, known := t.registry.lookUp(deviceKey{p.Interface.Index, p.Interface.NetNS})
	p.Interface.Name = i.name
	if !known {
		i.driver = t.driver.generations.at(t.decoder.packet.TimeNs)
	}
	t.pending.add(p, &i.driver.linearization)
}

// errNoProbe refuses a probe to a tracer that was not started for one.
var errNoProbe = errors.New("the tracer was not started for a probe")

// SetProbe makes every packet of the socket with this cookie (SO_COOKIE) a record, whatever
// becomes of it; 0 for none. It needs [Options.Probe].
func (t *Tracer) SetProbe(cookie uint64) error {
	if !t.options.Probe {
		return errNoProbe
	}
	if err := t.attachment.collection.Variables[bpf.XentraceVarProbeCookie].Set(cookie); err != nil {
		return fmt.Errorf("probe for the BPF programs: %w", err)
	}
	t.probe.Store(cookie)
	return nil
}

// isProbe reports whether the packet is one of the probe's. A copy that the driver made
// has no socket, and is none.
func (t *Tracer) isProbe(p *event.Packet) bool {
	cookie := t.probe.Load()
	return cookie != 0 && p.Socket != nil && p.Socket.Cookie == cookie
}
