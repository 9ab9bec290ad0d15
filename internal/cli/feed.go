package cli

import (
	"context"
	"fmt"
	"sync"
	"time"

	"xentrace/internal/event"
	"xentrace/internal/flow"
	"xentrace/internal/output"
)

// A sink takes what a run has to tell, one thing at a time and in order.
type sink interface {
	packet(*event.Packet) error
	event(*event.FlowEvent) error
}

// A feed leads every packet that went wrong through the history of flows, asks from
// time to time how they stand, and hands what there is to tell to a sink.
type feed struct {
	table *flow.Table
	say   func(sentence string) // told once if the kernel does not answer; may be nil

	mu   sync.Mutex // of the sink, and for the order
	sink sink
}

// packet takes one packet.
func (f *feed) packet(p *event.Packet) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	events := f.table.Add(p)
	if err := f.sink.packet(p); err != nil {
		return err
	}
	return f.tell(events)
}

// poll asks how the flows stand.
func (f *feed) poll() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.tell(f.table.Poll(time.Now()))
}

func (f *feed) tell(events []event.FlowEvent) error {
	for i := range events {
		if err := f.sink.event(&events[i]); err != nil {
			return err
		}
	}
	return nil
}

// run polls until ctx ends.
func (f *feed) run(ctx context.Context) {
	ticker := time.NewTicker(flow.PollInterval)
	defer ticker.Stop()
	complained := f.say == nil
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		if err := f.poll(); err != nil {
			return // of standard output, whose stream tells of it
		}
		if err := f.table.Err(); err != nil && !complained {
			complained = true
			f.say(fmt.Sprintf("how connections go on after a drop is not known for all of them: %v", err))
		}
	}
}

// lines is a sink that writes.
type lines struct {
	format output.Format
	out    *output.Stream
	line   []byte
}

func (l *lines) packet(p *event.Packet) error {
	l.line = l.format.AppendPacket(l.line[:0], p)
	_, err := l.out.Write(l.line)
	return err
}

func (l *lines) event(e *event.FlowEvent) error {
	l.line = l.format.AppendFlow(l.line[:0], e)
	_, err := l.out.Write(l.line)
	return err
}
