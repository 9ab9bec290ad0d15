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
// read.
func (t *Tracer) Read(ctx context.Context) (event.Packet, error) {
	wait := lookAgain
	for {
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
		packet, isPacket, err := t.take(ctx, t.record.RawSample)
		if err != nil || isPacket {
			return packet, err
		}
		wait = lookAgain
	}
}

// pause arranges how long the reader waits for the next record, now that there
// is none, and tells if there is nothing to wait for.
func (t *Tracer) pause(ctx context.Context, wait time.Duration) error {
	stopped := t.ended.Load() != nil
	if stopped && t.reader.AvailableBytes() == 0 {
		return io.EOF
	}
	if err := ctx.Err(); err != nil && !stopped {
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
	t.stopWaking = context.AfterFunc(ctx, func() { _ = t.reader.Flush() }) // fails only once closed
}

// take decodes one record; one that is not of a packet is dealt with here.
func (t *Tracer) take(ctx context.Context, raw []byte) (event.Packet, bool, error) {
	kind, err := t.decoder.kind(raw)
	if err != nil {
		return event.Packet{}, false, err
	}
	switch kind {
	case bpf.XentraceEventKindEVENT_INTERFACE:
		t.told(ctx, t.decoder.decodeInterface(raw))
		return event.Packet{}, false, nil
	case bpf.XentraceEventKindEVENT_ELSEWHERE:
		packet, err := t.takeElsewhere(raw)
		if err != nil {
			return event.Packet{}, false, err
		}
		i, _ := t.registry.lookUp(deviceKey{packet.Interface.Index, packet.Interface.NetNS})
		packet.Interface.Name = i.name
		t.events.Add(1)
		return packet, true, nil
	case bpf.XentraceEventKindEVENT_PACKET:
		packet, err := t.decoder.decodePacket(raw)
		if err != nil {
			return event.Packet{}, false, err
		}
		if t.calls != nil {
			packet.Stack = t.calls.name(&t.decoder)
		}
		if err := t.complete(&packet); err != nil {
			return event.Packet{}, false, err
		}
		if packet.Verdict == event.Sent && !t.isProbe(&packet) {
			return event.Packet{}, false, nil
		}
		t.events.Add(1)
		return packet, true, nil
	}
	return event.Packet{}, false, fmt.Errorf("record of kind %d: not known", kind)
}

// complete adds to a packet what the kernel side leaves open. Its interface tells which
// loading of the driver it was handed to; the time does for one that is not known yet.
func (t *Tracer) complete(p *event.Packet) error {
	i, known := t.registry.lookUp(deviceKey{p.Interface.Index, p.Interface.NetNS})
	p.Interface.Name = i.name
	if !known {
		i.driver = t.driver.generations.at(t.decoder.packet.TimeNs)
	}
	return errors.Join(i.driver.refine(t.background, &p.Cause), i.driver.refineVerdict(t.background, &p.Verdict))
}
