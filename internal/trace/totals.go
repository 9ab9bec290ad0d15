package trace

import (
	"time"

	"xentrace/internal/slots"
)

// Counts is what the kernel side counted for one interface. It is right even
// when the records that tell of it were lost.
type Counts struct {
	Packets    uint64 // packets handed to the driver
	Bytes      uint64 // sum of skb->len
	Slots      slots.Histogram
	OverLimit  uint64 // packets that needed more than slots.Limit
	Dropped    uint64
	Linearized uint64
	Bounced    uint64 // copied for the head's sake or because the backend is not trusted
	rejected   uint64 // see InterfaceTotals.Rejected
	Causes     [NumCauses]uint64
	RingLost   uint64 // records for which the ring buffer had no room
	Elsewhere  uint64 // packets dropped outside the driver, if that was asked for
	reasons    [numReasons]uint64
}

// InterfaceTotals is one watched interface and what was counted for it.
type InterfaceTotals struct {
	Device
	Driver  string // "xen-netfront", or another driver's name as ethtool gives it
	Backend Backend
	Gone    bool // removed, or moved to another namespace, since
	Counts

	// Reasons are why packets were dropped outside the driver, as Packet.Reason
	// names them; nil if that was not asked for, or the kernel tells none.
	Reasons map[string]uint64
	// Rejected counts packets that the backend refused after the driver had
	// counted them as sent; nil where that is not looked at.
	Rejected *uint64

	// Stuck is how long, all in all, a transmit queue was full and the backend took
	// nothing from it; nil where that is not looked at. StuckNow: it lasts.
	Stuck    *time.Duration
	StuckNow bool

	// TxDroppedDelta is what the interface's own tx_dropped moved by since the
	// hooks were attached; nil where it could not be read.
	TxDroppedDelta *uint64
	Queues         int // transmit queues in use when last looked up
}

// Lost counts what the records do not tell of, by cause. A nil field is one
// that this kernel does not report; Missing of Totals says why.
type Lost struct {
	Ring      uint64  // records for which the ring buffer had no room
	Recursion *uint64 // program runs that the kernel skipped to avoid recursion
	Missed    *uint64 // entries and returns of xennet_start_xmit that kprobes missed
}

// Totals is a snapshot of all that was counted since the hooks were attached.
type Totals struct {
	Time time.Time // when the snapshot was taken
	// Duration is how long the machine ran meanwhile (CLOCK_MONOTONIC): while it is
	// suspended, or saved, it does not; while it is paused it does, for all it knows.
	Duration   time.Duration
	Drops      Drops // what was asked for
	Interfaces []InterfaceTotals
	Events     uint64 // records delivered
	Lost       Lost
	Gaps       []Gap             // in the order in which they began
	Missing    map[string]string // why a value above is nil, by its JSON key
}
