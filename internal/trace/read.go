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
)

// lookInterval is how long a record may wait whose wake-up the kernel side
// left out, and how long it may take to notice that a context has ended.
const lookInterval = 50 * time.Millisecond

// Read returns the next packet that went wrong. It waits for one until ctx
// ends; after Stop it returns what is left, then io.EOF. Only one goroutine may
// read.
func (t *Tracer) Read(ctx context.Context) (Packet, error) {
	for {
		err := t.reader.ReadInto(&t.record)
		switch {
		case errors.Is(err, os.ErrDeadlineExceeded), errors.Is(err, ringbuf.ErrFlushed):
			if t.ended.Load() != nil && t.reader.AvailableBytes() == 0 {
				return Packet{}, io.EOF
			}
			if err := ctx.Err(); err != nil && t.ended.Load() == nil {
				return Packet{}, err
			}
			t.reader.SetDeadline(time.Now().Add(lookInterval))
			continue
		case errors.Is(err, ringbuf.ErrClosed):
			return Packet{}, io.EOF
		case err != nil:
			return Packet{}, fmt.Errorf("ring buffer: %w", err)
		}
		packet, isPacket, err := t.take(ctx, t.record.RawSample)
		if err != nil || isPacket {
			return packet, err
		}
	}
}

// take decodes one record; one that is not of a packet is dealt with here.
func (t *Tracer) take(ctx context.Context, raw []byte) (Packet, bool, error) {
	kind, err := t.decoder.kind(raw)
	if err != nil {
		return Packet{}, false, err
	}
	switch kind {
	case bpf.XentraceEventKindEVENT_INTERFACE:
		t.told(ctx, t.decoder.decodeInterface(raw))
		return Packet{}, false, nil
	case bpf.XentraceEventKindEVENT_PACKET:
		packet, err := t.decoder.decodePacket(raw)
		if err != nil {
			return Packet{}, false, err
		}
		packet.Interface.Name = t.registry.name(deviceKey{packet.Interface.Index, packet.Interface.NetNS})
		t.events.Add(1)
		return packet, true, nil
	}
	return Packet{}, false, fmt.Errorf("record of kind %d: not known", kind)
}
