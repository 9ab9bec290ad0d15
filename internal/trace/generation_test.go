package trace

import (
	"context"
	"errors"
	"testing"

	"xentrace/internal/event"
	"xentrace/internal/kernel"
	"xentrace/internal/netfront"
)

// A packet is judged by the driver that it was handed to, whenever its record is read.
func TestCauseByGeneration(t *testing.T) {
	var g generations
	g.begin(0, "").tell(netfront.Answer{Value: netfront.Drops})
	g.begin(1000, "unloaded").tell(netfront.Answer{Value: netfront.Linearizes})
	g.begin(2000, "unloaded") // its code is never read
	g.begin(3000, "unloaded before its code was read").tell(netfront.Answer{Value: netfront.Drops})
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
			cause := event.TooManySlots
			if err := g.at(test.moment).refine(t.Context(), &cause); err != nil {
				t.Fatal(err)
			}
			if cause != test.want {
				t.Errorf("cause %q, want %q", cause, test.want)
			}
		})
	}
	cause := event.NoCarrier
	if err := g.at(1).refine(t.Context(), &cause); err != nil || cause != event.NoCarrier {
		t.Errorf("a cause that needs no code became %q (%v)", cause, err)
	}
}

// Only packets of a driver whose code is being read wait for it.
func TestWaitsForItsOwnGeneration(t *testing.T) {
	var g generations
	first := g.begin(0, "")
	first.tell(netfront.Answer{Value: netfront.Drops})
	g.begin(1000, "")
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	cause := event.TooManySlots
	if err := g.at(2000).refine(ended, &cause); !errors.Is(err, context.Canceled) {
		t.Errorf("a packet of the driver being read: %v, want the end of the context", err)
	}
	if err := g.at(10).refine(ended, &cause); err != nil || cause != event.TooManySlots {
		t.Errorf("a packet of the driver before: %v, cause %q", err, cause)
	}
	if g.lastRead() != first {
		t.Error("the last driver whose code was read is not the first")
	}
	if first.settle("too late") || first.answer.Value != netfront.Drops {
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
