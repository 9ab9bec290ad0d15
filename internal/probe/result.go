package probe

import (
	"time"

	"xentrace/internal/event"
	"xentrace/internal/netdev"
)

// An Answer is what Xen's backend said of a packet that the driver had sent.
type Answer string

// The answers.
const (
	NoAnswer Answer = ""         // not seen: Result.AnswerMissing says why
	Accepted Answer = "accepted" // the backend took it
	Rejected Answer = "rejected" // the backend refused it
)

// A Result is what became of one probe.
type Result struct {
	Time      time.Time // when the driver was handed the datagram; else when it was given up
	Interface netdev.Interface
	Flow      *event.Flow // nil if no datagram could be made

	Seen    bool // the driver was handed it; else Unseen says why not
	Unseen  string
	Reason  string // of a drop before the driver: the kernel's own name, if it has one
	Verdict event.Verdict
	Cause   event.Cause // CauseNone unless Verdict is Dropped
	Slots   int         // that the datagram really had
	Limit   int
	Len     int // bytes, headers included

	Asked    int  // slots asked for, 0 if any number over the limit was to do
	Reached  bool // the last datagram had the slots that were wanted
	Attempts int  // datagrams made for it

	// SinglePages: the last datagram could not be made, since page fragments were single
	// pages. Another one may be, where memory was short only.
	SinglePages bool

	Answer        Answer
	AnswerMissing string

	// ScatterGatherOff: the interface takes packets of one slot only, so that the
	// probe was a small datagram whose head may need two.
	ScatterGatherOff bool
}

// Lost tells whether the packet did not reach the other end of Xen's ring.
func (r *Result) Lost() bool {
	return r.Seen && (r.Verdict == event.Dropped || r.Verdict == event.Rejected)
}

// Type returns "probe".
func (*Result) Type() string { return "probe" }

// Results is every probe of a run: its end.
type Results []Result

// Type returns "probes".
func (*Results) Type() string { return "probes" }
