package trace

import (
	"context"
	"errors"
	"testing"

	"xentrace/internal/event"
	"xentrace/internal/kernel"
)

// A packet is judged by the driver that it was handed to, whenever its record is read.
func TestCauseByGeneration(t *testing.T) {
	var g generations
	g.begin(0, "").tell(kernel.Answer{Value: kernel.Drops})
	g.begin(1000, "unloaded").tell(kernel.Answer{Value: kernel.Linearizes})
	g.begin(2000, "unloaded") // its code is never read
	g.begin(3000, "unloaded before its code was read").tell(kernel.Answer{Value: kernel.Drops})
	for _, test := range []struct {
		name   string
		moment uint64
		want   event.Cause
	}{
		{"the first driver", 1, event.TooManySlots},
		{"the first driver's last packet", 999, event.TooManySlots},
		{"the second driver", 1000, event.LinearizeFailed},
		{"the second driver's last packet", 1999, event.LinearizeFailed},
		{"a driver that went before its code was read", 2500, event.UnknownCause},
		{"the present driver", 3000, event.TooManySlots},
		{"the present driver, later", 1 << 62, event.TooManySlots},
	} {
		t.Run(test.name, func(t *testing.T) {
			p := event.Packet{Cause: event.TooManySlots}
			driver := g.at(test.moment)
			if refine(&p, driver.answer.Value); p.Cause != test.want || !driver.isKnown() {
				t.Errorf("cause %q, want %q", p.Cause, test.want)
			}
		})
	}
	p := event.Packet{Cause: event.NoCarrier}
	if refine(&p, g.at(1).answer.Value); p.Cause != event.NoCarrier || isOpen(&p) {
		t.Errorf("a cause that needs no code became %q", p.Cause)
	}
}

// Only packets of a driver whose code is being read wait for it.
func TestWaitsForItsOwnGeneration(t *testing.T) {
	var g generations
	first := g.begin(0, "")
	first.tell(kernel.Answer{Value: kernel.Drops})
	g.begin(1000, "")
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	counts := event.Counts{}
	counts.Causes[event.TooManySlots] = 1
	if err := g.at(2000).refineCounts(ended, &counts); !errors.Is(err, context.Canceled) {
		t.Errorf("packets of the driver being read: %v, want the end of the context", err)
	}
	if err := g.at(10).refineCounts(ended, &counts); err != nil || counts.Causes[event.TooManySlots] != 1 {
		t.Errorf("packets of the driver before: %v, causes %v", err, counts.Causes)
	}
	if g.lastRead() != first {
		t.Error("the last driver whose code was read is not the first")
	}
	if first.settle("too late") || first.answer.Value != kernel.Drops {
		t.Errorf("an answer was taken back: %+v", first.answer)
	}
}

func TestSameDriver(t *testing.T) {
	config := (&facts{types: kernel.NewTypes(), typed: false}).configuration()
	other, another := config, config
	other.ConsumeIsDrop = 1 - config.ConsumeIsDrop
	another.BrokenOffset = 4096
	if !sameDriver(config, config) || !sameDriver(config, other) {
		t.Error("a driver differs from itself")
	}
	if sameDriver(config, another) {
		t.Error("drivers whose structures differ are the same")
	}
}
