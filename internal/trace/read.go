package trace

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/cilium/ebpf/ringbuf"

	"xentrace/bpf"
	"xentrace/internal/event"
)

// The kernel side leaves out a wake-up where the reader seems to be busy. If the
// reader was just finishing, it finds that record by looking once more before it
// sleeps for good.
const (
	lookAgain = 50 * time.Millisecond
	sleepLong = 10 * time.Second
)

// Read returns the next packet that went wrong. It waits for one until ctx
// ends; after Stop it returns what is left, then io.EOF. Only one goroutine may
// read. It keeps reading the ring buffer while the driver's code is being read; the packets
// whose cause depends on that are returned once it is known, in order.
func (t *Tracer) Read(ctx context.Context) (event.Packet, error) {
	wait := lookAgain
	for {
		if packet, found := t.nextPending(); found {
			return packet, nil
		}
		err := t.reader.ReadInto(&t.record)
		switch {
		case errors.Is(err, os.ErrDeadlineExceeded), errors.Is(err, ringbuf.ErrFlushed):
			if err := t.pause(ctx, wait); err != nil {
				return event.Packet{}, err
			}
			wait = sleepLong
			continue
		case errors.Is(err, ringbuf.ErrClosed):
			return event.Packet{}, io.EOF
		case err != nil:
			return event.Packet{}, fmt.Errorf("ring buffer: %w", err)
		}
		if err := t.take(ctx, t.record.RawSample); err != nil {
			return event.Packet{}, err
		}
		wait = lookAgain
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

// pause arranges how long the reader waits for the next record, now that there
// is none, and tells if there is nothing to wait for.
func (t *Tracer) pause(ctx context.Context, wait time.Duration) error {
	if t.ended.Load() != nil && t.reader.AvailableBytes() == 0 {
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

// take decodes one record. A packet goes to those pending, for Read to return.
func (t *Tracer) take(ctx context.Context, raw []byte) error {
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
		t.hold(packet)
		return nil
	case bpf.XentraceEventKindEVENT_PACKET:
		packet, err := t.decoder.decodePacket(raw)
		if err != nil {
			return err
		}
		if t.calls != nil {
			packet.Stack = t.calls.name(&t.decoder)
		}
		t.hold(packet)
		return nil
	}
	return fmt.Errorf("record of kind %d: unknown", kind)
}

// hold adds the name of its interface to a packet and makes it pending. The interface tells
// which loading of the driver the packet was handed to; the time does for an interface that
// is not known yet.
func (t *Tracer) hold(p event.Packet) {
	i, known := t.registry.lookUp(deviceKey{p.Interface.Index, p.Interface.NetNS})
	p.Interface.Name = i.name
	if !known {
		i.driver = t.driver.generations.at(t.decoder.packet.TimeNs)
	}
	t.pending.add(p, &i.driver.linearization)
}
