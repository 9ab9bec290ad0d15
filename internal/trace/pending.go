package trace

import (
	"context"
	"time"

	"xentrace/internal/event"
	"xentrace/internal/kernel"
)

const (
	// maxPending bounds the packets that wait for the driver's code to be read: about
	// 4 MB. With more, the oldest is delivered as if the code were not known: an
	// over-limit drop with the cause unknown, so the ring buffer is drained in any case.
	maxPending = 4096

	// pendingAtEnd is how long they wait after Stop.
	pendingAtEnd = 10 * time.Second
)

// pending holds packets whose cause or verdict depends on the driver's code while that is
// being read, and all packets behind them, so that the order is kept.
type pending struct {
	packets []pendingPacket // the first one waits for its driver
	limit   int
}

type pendingPacket struct {
	packet event.Packet
	driver *linearization // nil if nothing is open
}

// add appends a packet; driver is the one that it was handed to.
func (p *pending) add(packet event.Packet, driver *linearization) {
	if !isOpen(&packet) {
		driver = nil
	}
	p.packets = append(p.packets, pendingPacket{packet, driver})
}

// next returns the oldest packet if all of it is known, or if there are too many.
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
		refine(&first.packet, kernel.Unknown)
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

// settle waits for the answer that the oldest packet needs, but not for ever: then it does
// without.
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
			refine(&w.packet, kernel.Unknown)
			w.driver = nil
		}
	}
}
