package report

import (
	"slices"
	"time"

	"xentrace/internal/event"
)

// mostSpans is how many unmonitored intervals are kept with their times.
const mostSpans = 100

// A span is an unmonitored interval: packets in it were not counted, or not recorded.
type span struct {
	from, to time.Time // to is zero while it lasts
	why      string
}

// Why an interval is unmonitored.
const (
	whyUnloaded  = "xen-netfront was not loaded"
	whySuspended = "machine was suspended, or saved and restored"
	whyPaused    = "recording was paused; packets were counted, not recorded"
	whyStopped   = "xentrace did not run"
)

// silence is how long nothing may be recorded before a new start counts as an interval in
// which xentrace did not run. A recorder writes an interval every 10 s.
const silence = 15 * time.Second

type spans struct {
	all  []span
	more int // that had no space
}

// add adds an interval, or widens one of the same kind that touches it.
func (s *spans) add(n span) {
	if n.from.IsZero() {
		return
	}
	for i := range s.all {
		old := &s.all[i]
		if old.why != n.why || !old.to.IsZero() && old.to.Add(time.Second).Before(n.from) ||
			!n.to.IsZero() && n.to.Add(time.Second).Before(old.from) {
			continue
		}
		if n.from.Before(old.from) {
			old.from = n.from
		}
		if !old.to.IsZero() && (n.to.IsZero() || n.to.After(old.to)) {
			old.to = n.to
		} else if old.to.IsZero() {
			old.to = n.to
		}
		return
	}
	if len(s.all) == mostSpans {
		s.more++
		return
	}
	s.all = append(s.all, n)
}

// close ends the intervals that last, those of one kind or, if that is empty, all.
func (s *spans) close(at time.Time, why string) {
	for i := range s.all {
		if n := &s.all[i]; n.to.IsZero() && (why == "" || n.why == why) {
			n.to = at
			if at.Before(n.from) {
				n.to = n.from
			}
		}
	}
}

func (s *spans) sorted() []span {
	slices.SortStableFunc(s.all, func(a, b span) int { return a.from.Compare(b.from) })
	return s.all
}

// length is how long all of them lasted; what two of them cover counts once.
func (s *spans) length() (sum time.Duration) {
	var until time.Time
	for _, n := range s.sorted() {
		from := n.from
		if from.Before(until) {
			from = until
		}
		if n.to.After(from) {
			sum += n.to.Sub(from)
			until = n.to
		}
	}
	return sum
}

func (s *spans) gap(g event.Gap) {
	why := whyUnloaded
	if g.Reason == event.GapSuspended {
		why = whySuspended
	}
	s.add(span{g.From, g.To, why})
}

// notice takes the unmonitored interval that a notice begins or ends.
func (s *spans) notice(n *event.Notice) {
	lasted := time.Duration(n.DurationMS) * time.Millisecond
	switch n.ID {
	case event.NoticeUnmonitored:
		s.add(span{from: n.Time, why: "packets were not counted: " + n.Reason})
	case event.NoticeDriverUnloaded:
		s.add(span{from: n.Time, why: whyUnloaded})
	case event.NoticeDriverReloaded:
		s.add(span{n.Time.Add(-lasted), n.Time, whyUnloaded})
	case event.NoticeSuspended:
		s.add(span{n.Time.Add(-lasted), n.Time, whySuspended})
	case event.NoticeRecordingPaused:
		s.add(span{from: n.Time, why: whyPaused})
	case event.NoticeRecordingResumed:
		s.add(span{n.Time.Add(-lasted), n.Time, whyPaused})
	}
}
