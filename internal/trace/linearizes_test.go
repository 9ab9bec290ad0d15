package trace

import (
	"context"
	"errors"
	"testing"

	"xentrace/internal/kernel"
)

func TestCauseOverTheLimit(t *testing.T) {
	for _, test := range []struct {
		name   string
		answer kernel.Linearization
		want   Cause
	}{
		{"the driver linearizes, so that failed", kernel.Linearizes, LinearizeFailed},
		{"the driver does not", kernel.Drops, TooManySlots},
		{"its code does not tell", kernel.Unknown, UnknownCause},
	} {
		t.Run(test.name, func(t *testing.T) {
			l := linearization{known: make(chan struct{}), answer: kernel.Answer{Value: test.answer}}
			close(l.known)
			over, other := TooManySlots, SGOff
			if err := errors.Join(l.refine(t.Context(), &over), l.refine(t.Context(), &other)); err != nil {
				t.Fatal(err)
			}
			if over != test.want || other != SGOff {
				t.Errorf("causes %q and %q, want %q and sg_off", over, other, test.want)
			}
			counts := Counts{Dropped: 12}
			counts.Causes[TooManySlots], counts.Causes[UnknownCause], counts.Causes[SGOff] = 7, 2, 3
			if err := l.refineCounts(t.Context(), &counts); err != nil {
				t.Fatal(err)
			}
			want := [NumCauses]uint64{UnknownCause: 2, SGOff: 3}
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
	for answer, want := range map[kernel.Linearization]Verdict{kernel.Linearizes: Linearized, kernel.Drops: Sent, kernel.Unknown: Linearized} {
		l := linearization{known: make(chan struct{}), answer: kernel.Answer{Value: answer}}
		close(l.known)
		over, other := Linearized, Bounced
		counts := Counts{OverLimit: 5, Linearized: 5}
		if err := errors.Join(l.refineVerdict(t.Context(), &over), l.refineVerdict(t.Context(), &other), l.refineCounts(t.Context(), &counts)); err != nil {
			t.Fatal(err)
		}
		if over != want || other != Bounced {
			t.Errorf("answer %v: verdicts %s and %s, want %s and bounced", answer, over, other, want)
		}
		if (counts.Linearized == 5) != (want == Linearized) || counts.OverLimit != 5 {
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
	over, other := TooManySlots, NoCarrier
	if err := l.refine(ended, &over); !errors.Is(err, context.Canceled) {
		t.Errorf("over the limit: %v, want the end of the context", err)
	}
	if err := l.refine(ended, &other); err != nil || other != NoCarrier {
		t.Errorf("another cause: %v, %q", err, other)
	}
	if err := l.refineCounts(ended, &Counts{}); err != nil {
		t.Errorf("no drop over the limit: %v", err)
	}
}
