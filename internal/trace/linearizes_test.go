package trace

import (
	"context"
	"errors"
	"testing"

	"xentrace/internal/event"
	"xentrace/internal/kernel"
)

func TestCauseOverTheLimit(t *testing.T) {
	for _, test := range []struct {
		name   string
		answer kernel.Linearization
		want   event.Cause
	}{
		{"the driver linearizes, so that failed", kernel.Linearizes, event.LinearizeFailed},
		{"the driver does not", kernel.Drops, event.TooManySlots},
		{"its code does not tell", kernel.Unknown, event.UnknownCause},
	} {
		t.Run(test.name, func(t *testing.T) {
			l := linearization{known: make(chan struct{})}
			l.tell(kernel.Answer{Value: test.answer})
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
	for answer, want := range map[kernel.Linearization]event.Verdict{kernel.Linearizes: event.Linearized, kernel.Drops: event.Sent, kernel.Unknown: event.Linearized} {
		l := linearization{known: make(chan struct{}), answer: kernel.Answer{Value: answer}}
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
