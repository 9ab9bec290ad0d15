package session

import (
	"context"

	"xentrace/internal/event"
	"xentrace/internal/owner"
)

// A Tracer is attached to the driver: a trace.Tracer.
type Tracer interface {
	// Read waits for the next record. It returns io.EOF once the tracer was stopped and
	// all records were read.
	Read(context.Context) (event.Packet, error)
	// Holders returns the processes that hold the sockets of these inodes.
	Holders(inodes []uint64) ([]event.Holder, error)
	Totals(context.Context) (event.Totals, error)
	Stop(context.Context) error
	Close() error
}

// Live is the source of a tracer's packets, each with its owner.
func Live(t Tracer) Source { return live{t, owner.NewReader(t.Read, t.Holders)} }

type live struct {
	Tracer
	owned *owner.Reader
}

func (l live) Next(ctx context.Context) (event.Event, error) {
	packet, err := l.owned.Read(ctx)
	if err != nil {
		return nil, err
	}
	return &packet, nil
}

func (l live) Close() error {
	l.owned.Close()
	return l.Tracer.Close()
}
