package trace

import (
	"context"
	"errors"
	"testing"

	"xentrace/internal/event"
	"xentrace/internal/kernel"
	"xentrace/internal/netfront"
)

func TestCauseOverTheLimit(t *testing.T) {
	for _, test := range []struct {
		name   string
		answer netfront.Linearization
		want   event.Cause
	}{
		{"the driver linearizes, so that failed", netfront.Linearizes, event.LinearizeFailed},
		{"the driver does not", netfront.Drops, event.TooManySlots},
		{"its code does not tell", netfront.Unknown, event.UnknownCause},
	} {
		t.Run(test.name, func(t *testing.T) {
			l := linearization{known: make(chan struct{})}
			l.resolve(netfront.Answer{Value: test.answer})
			for cause, want := range map[event.Cause]event.Cause{event.TooManySlots: test.want, event.SGOff: event.SGOff} {
				p := event.Packet{Verdict: event.Dropped, Cause: cause}
				if refine(&p, test.answer); p.Cause != want || p.Verdict != event.Dropped {
					t.Errorf("%s, cause %q, want %q", p.Verdict, p.Cause, want)
				}
			}
			counts := event.Counts{Dropped: 12}
			counts.Causes[event.TooManySlots], counts.Causes[event.UnknownCause], counts.Causes[event.SGOff] = 7, 2, 3
			if err := l.refineCounts(t.Context(), &counts); err != nil {
				t.Fatal(err)
			}
			want := [event.NumCauses]uint64{event.UnknownCause: 2, event.SGOff: 3}
			want[test.want] += 7
			if counts.Causes != want {
				t.Errorf("causes %v, want %v", counts.Causes, want)
			}
		})
	}
}

// A packet over the limit that a driver without linearizing does not drop was sent
// as it is.
func TestVerdictOverTheLimit(t *testing.T) {
	for answer, want := range map[netfront.Linearization]event.Verdict{netfront.Linearizes: event.Linearized, netfront.Drops: event.Sent, netfront.Unknown: event.Linearized} {
		l := linearization{known: make(chan struct{}), answer: netfront.Answer{Value: answer}}
		close(l.known)
		over, other := event.Packet{Verdict: event.Linearized}, event.Packet{Verdict: event.Bounced}
		refine(&over, answer)
		refine(&other, answer)
		counts := event.Counts{OverLimit: 5, Linearized: 5}
		if err := l.refineCounts(t.Context(), &counts); err != nil {
			t.Fatal(err)
		}
		if over.Verdict != want || other.Verdict != event.Bounced {
			t.Errorf("answer %v: verdicts %s and %s, want %s and bounced", answer, over.Verdict, other.Verdict, want)
		}
		if (counts.Linearized == 5) != (want == event.Linearized) || counts.OverLimit != 5 {
			t.Errorf("answer %v: %d linearized of %d over the limit", answer, counts.Linearized, counts.OverLimit)
		}
	}
}

// Counts wait for the answer only if they have a packet over the limit.
func TestCountsWaitForTheAnswer(t *testing.T) {
	l := linearization{known: make(chan struct{})}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	over := event.Counts{}
	over.Causes[event.TooManySlots] = 1
	if err := l.refineCounts(ended, &over); !errors.Is(err, context.Canceled) || over.Causes[event.TooManySlots] != 1 {
		t.Errorf("over the limit: %v, want the end of the context", err)
	}
	if err := l.refineCounts(ended, &event.Counts{}); err != nil {
		t.Errorf("no drop over the limit: %v", err)
	}
}

// A packet is judged by the driver that it was handed to, whenever its record is read.
func TestCauseByGeneration(t *testing.T) {
	var g generations
	g.begin(0, "").resolve(netfront.Answer{Value: netfront.Drops})
	g.begin(1000, "unloaded").resolve(netfront.Answer{Value: netfront.Linearizes})
	g.begin(2000, "unloaded") // its code is never read
	g.begin(3000, "unloaded before its code was read").resolve(netfront.Answer{Value: netfront.Drops})
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
	first.resolve(netfront.Answer{Value: netfront.Drops})
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
