package trace

import (
	"context"
	"errors"
	"testing"

	"xentrace/internal/event"
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
			l.tell(netfront.Answer{Value: test.answer})
			over, other := event.TooManySlots, event.SGOff
			if err := errors.Join(l.refine(t.Context(), &over), l.refine(t.Context(), &other)); err != nil {
				t.Fatal(err)
			}
			if over != test.want || other != event.SGOff {
				t.Errorf("causes %q and %q, want %q and sg_off", over, other, test.want)
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
		over, other := event.Linearized, event.Bounced
		counts := event.Counts{OverLimit: 5, Linearized: 5}
		if err := errors.Join(l.refineVerdict(t.Context(), &over), l.refineVerdict(t.Context(), &other), l.refineCounts(t.Context(), &counts)); err != nil {
			t.Fatal(err)
		}
		if over != want || other != event.Bounced {
			t.Errorf("answer %v: verdicts %s and %s, want %s and bounced", answer, over, other, want)
		}
		if (counts.Linearized == 5) != (want == event.Linearized) || counts.OverLimit != 5 {
			t.Errorf("answer %v: %d linearized of %d over the limit", answer, counts.Linearized, counts.OverLimit)
		}
	}
}

// Nothing is given a name before the answer is there, and only a packet over the
// limit waits for it.
func TestCauseWaitsForTheAnswer(t *testing.T) {
	l := linearization{known: make(chan struct{})}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	over, other := event.TooManySlots, event.NoCarrier
	if err := l.refine(ended, &over); !errors.Is(err, context.Canceled) {
		t.Errorf("over the limit: %v, want the end of the context", err)
	}
	if err := l.refine(ended, &other); err != nil || other != event.NoCarrier {
		t.Errorf("another cause: %v, %q", err, other)
	}
	if err := l.refineCounts(ended, &event.Counts{}); err != nil {
		t.Errorf("no drop over the limit: %v", err)
	}
}
