// Package flow keeps the history of flows that had trouble: what was dropped of
// them, whether they stand still, since when, and whose they are.
package flow

import (
	"net/netip"
	"time"

	"xentrace/internal/event"
	"xentrace/internal/verdict"
)

// A Key tells one flow from another, in one network namespace.
type Key struct {
	NetNS       uint32 // inode number of the network namespace
	Proto       uint8  // IPPROTO_*
	Source      netip.AddrPort
	Destination netip.AddrPort
}

// A State is how a flow stands.
type State uint8

// The states.
const (
	Troubled  State = iota // packets of it went wrong
	Stalled                // the same sequence number was dropped again, and snd_una has not moved since the first time
	Recovered              // it was stalled, and snd_una has passed the dropped sequence number
	Closed                 // its socket is gone
)

// A Flow is what is known of one flow with trouble, at one moment.
type Flow struct {
	Key
	Interface event.Device
	Process   *event.Process // nil where it is not known
	State     State

	Drops      uint64 // packets dropped
	Causes     [event.NumCauses]uint64
	Linearized uint64
	Bounced    uint64
	Rejected   uint64
	OverLimit  uint64 // on another driver
	Elsewhere  uint64 // of Drops, those outside the driver
	// Reasons is why, for those outside the driver, as Packet.Reason names them; ""
	// where the kernel tells none. Nil without any.
	Reasons map[string]uint64

	MinSlots  int // of the packets that went wrong
	MaxSlots  int
	First     time.Time // when the first packet of the flow went wrong
	Last      time.Time
	FirstDrop time.Time // zero without a drop
	LastDrop  time.Time

	// TCP with a socket of this machine only; else nil.
	TCP *TCP

	StalledSince time.Time     // first drop of the sequence number that it hangs at; zero if it never stalled
	StalledFor   time.Duration // until now, or until it recovered or closed; over all its stalls the last one

	Stalls       int  // how often it stalled
	StalledAtEnd bool // it was when it closed

	Layout string           // how its over-limit packets are made up, a sentence; "" without any
	Stack  []string         // of the sending call, where asked for
	Advice []verdict.Advice // what would help it, best first
	Packet event.Packet     // the last one that went wrong
}

// TCP is how the connection of a flow stands, as the kernel last told.
type TCP struct {
	Asked       time.Time // when the kernel was asked
	State       uint8     // TCP_ESTABLISHED and so on
	Seq         uint32    // the sequence number last dropped
	SameSeq     int       // how often that one was dropped
	SndUna      uint32
	WriteSeq    uint32
	SndQBytes   uint32 // written and not acknowledged
	Retransmits uint32 // segments sent again since the first drop, as total_retrans counts them
	RTO         time.Duration
	Backoff     int

	total uint32 // total_retrans
}

// String returns what the JSON output calls the state: "troubled", "stalled",
// "recovered" or "closed".
func (s State) String() string {
	switch s {
	case Stalled:
		return "stalled"
	case Recovered:
		return "recovered"
	case Closed:
		return "closed"
	}
	return "troubled"
}

// An Event is a change of a flow's State to Stalled, Recovered or Closed.
type Event struct {
	Time time.Time
	Flow Flow // as it was then; its State is what happened
}
