package event

import (
	"net/netip"
	"time"
)

// A FlowKey identifies a flow in one network namespace.
type FlowKey struct {
	NetNS       uint32 // inode number of the network namespace
	Proto       uint8  // IPPROTO_*
	Source      netip.AddrPort
	Destination netip.AddrPort
}

// A FlowState is the state of a flow. Its text is the JSON value.
type FlowState uint8

// The states.
const (
	Troubled  FlowState = iota // packets of it went wrong
	Stalled                    // the same sequence number was dropped again, and snd_una has not moved since the first drop
	Recovered                  // it was stalled, and snd_una has passed the dropped sequence number
	Closed                     // its socket is gone
)

func (s FlowState) String() string {
	return [...]string{"troubled", "stalled", "recovered", "closed"}[s]
}

// A FlowHistory is what is known of one flow that lost packets, at one moment.
type FlowHistory struct {
	FlowKey
	Interface Device
	Process   *Process // nil where it is not known
	State     FlowState

	Drops      uint64 // packets dropped
	Causes     [NumCauses]uint64
	Linearized uint64
	Bounced    uint64
	Rejected   uint64
	OverLimit  uint64 // on another driver
	Elsewhere  uint64 // of Drops, those outside the driver
	// Reasons counts those outside the driver by reason, as Packet.Reason names them; ""
	// where the kernel reports none. Nil without any.
	Reasons map[string]uint64

	MinSlots  int // of the packets that went wrong
	MaxSlots  int
	First     time.Time // when the first packet of the flow went wrong
	Last      time.Time
	FirstDrop time.Time // zero without a drop
	LastDrop  time.Time

	TCP *FlowTCP // nil unless it is TCP
	// Inferred: the connection has no socket in this network namespace, and is known by the
	// headers of its dropped packets alone. Of TCP only Seq and SameSeq are known. Stalled: the
	// same sequence number was dropped again, and nothing higher in between. Recovered: it is
	// not dropped any more, so it passed, or the sender gave up.
	Inferred bool

	StalledSince time.Time     // first drop of the sequence number at which it is stalled; zero if it never was
	StalledFor   time.Duration // until now, or until it recovered or closed; of several stalls the last

	Stalls       int  // how often it stalled
	StalledAtEnd bool // it was stalled when it closed

	Layout string   // layout of its over-limit packets, a sentence; "" without any
	Stack  []string // of the sending call, where asked for
	Advice []Advice // what would help it, best first
	Packet Packet   // the last one that went wrong
}

// FlowTCP is the state of a flow's connection as last read from the kernel.
type FlowTCP struct {
	Asked       time.Time // when it was read
	State       uint8     // TCP_ESTABLISHED and so on
	Seq         uint32    // the sequence number last dropped
	SameSeq     int       // how often that one was dropped
	SndUna      uint32
	WriteSeq    uint32
	SndQBytes   uint32 // written and unacknowledged
	Retransmits uint32 // segments retransmitted since the first drop, as total_retrans counts them
	RTO         time.Duration
	Backoff     int
}

// A FlowEvent is a change of a flow's state to Stalled, Recovered or Closed.
type FlowEvent struct {
	Time time.Time
	Flow FlowHistory // as it was then; its State is what happened
}

// FlowCounts is how many flows there are.
type FlowCounts struct {
	Flows       int    // tracked now
	Stalled     int    // stalled now
	EverStalled uint64 // stalled once or more
	Lost        uint64 // flows not tracked because the table was full, or evicted from it
}

// A FlowSummary is what the end of a run reports of flows.
type FlowSummary struct {
	FlowCounts
	Flows  []FlowHistory // the worst of those that lost packets, the worst first
	Losing int           // how many lost packets, listed or not
}
