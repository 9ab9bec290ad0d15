package event

import (
	"iter"
	"slices"
	"time"
)

// Buckets is how many slot counts a Histogram has. The last bucket also holds
// every larger count; no packet that a Xen frontend accepts comes near it.
const Buckets = 256

// A Histogram counts packets by the slots they need: the index is the number of slots.
type Histogram [Buckets]uint64

// Packets returns how many packets were counted.
func (h *Histogram) Packets() uint64 { return h.Over(-1) }

// Over returns how many packets needed more than limit slots.
func (h *Histogram) Over(limit int) uint64 {
	var n uint64
	for _, count := range h[limit+1:] {
		n += count
	}
	return n
}

// Max returns the largest number of slots seen, 0 if no packet was counted.
func (h *Histogram) Max() int {
	for i := len(h) - 1; i > 0; i-- {
		if h[i] != 0 {
			return i
		}
	}
	return 0
}

// All yields slots and packets of every bucket that is not empty, fewest slots first.
func (h *Histogram) All() iter.Seq2[int, uint64] {
	return func(yield func(int, uint64) bool) {
		for i, count := range h {
			if count != 0 && !yield(i, count) {
				return
			}
		}
	}
}

// Counts is what the BPF programs counted for one interface. It is right even when
// records are lost.
type Counts struct {
	Packets    uint64 // packets handed to the driver
	Bytes      uint64 // sum of skb->len
	Slots      Histogram
	OverLimit  uint64 // packets that needed more than 18 slots
	Dropped    uint64
	Linearized uint64
	Bounced    uint64 // copied because of where the head starts, or because the backend is not trusted
	Causes     [NumCauses]uint64
	RingLost   uint64 // records lost because the ring buffer was full
	Elsewhere  uint64 // packets dropped outside the driver, if that was asked for
	XDPPackets uint64 // frames that XDP programs sent; not among Packets, but in the interface's tx_packets
	XDPDropped uint64 // those that the driver did not accept; in no counter of the interface
}

// InterfaceTotals is one watched interface and what was counted for it.
type InterfaceTotals struct {
	Device
	Driver  string // "xen-netfront", or another driver's name as ethtool reports it
	Backend Backend
	Gone    bool // removed, or moved to another namespace, since
	Counts

	// Reasons are why packets were dropped outside the driver, as Packet.Reason
	// names them; nil if that was not asked for, or the kernel reports none.
	Reasons map[string]uint64
	// Rejected counts packets that the backend rejected after the driver had
	// counted them as sent; nil where responses are not read.
	Rejected *uint64
	XDP      bool // frames of XDP programs are counted

	// Stuck is for how long in all a TX queue was full while the backend consumed
	// nothing; nil where that is not measured. StuckNow: a queue is stuck now.
	Stuck    *time.Duration
	StuckNow bool

	// TxDroppedDelta is what the interface's own tx_dropped moved by since the
	// hooks were attached; nil where it could not be read.
	TxDroppedDelta *uint64
	Queues         int // TX queues in use when last looked up

	// Conntrack is what connection tracking of the network namespace dropped since then; nil
	// where drops outside the driver were not asked for, or it cannot be read.
	Conntrack *Conntrack
}

// Conntrack is what connection tracking of a network namespace dropped.
type Conntrack struct {
	InsertFailed uint64 // packets whose connection clashed with another's
	Dropped      uint64 // all packets that it dropped, also those that found the table full
	EarlyDropped uint64 // entries that made room for others
}

// Lost counts what the records do not show, by cause. A nil field is one that this
// kernel does not report; Missing of Totals has the reason.
type Lost struct {
	Ring      uint64  // records lost because the ring buffer was full
	Recursion *uint64 // program runs that the kernel skipped to avoid recursion
	Missed    *uint64 // entries and returns of xennet_start_xmit that kprobes missed
}

// Suppressed counts records that were not made because more than Options.Rate were due in
// a second. Their packets are in all other counts.
type Suppressed struct {
	Verdict Verdict
	Cause   Cause // CauseNone unless Verdict is Dropped
	Records uint64
}

// Totals is a snapshot of all that was counted since the hooks were attached.
type Totals struct {
	Time time.Time // when the snapshot was taken
	// Duration is CLOCK_MONOTONIC since then: it stops while the machine is suspended
	// or saved, and runs on while it is paused.
	Duration   time.Duration
	Drops      Drops // which drops were asked for
	Interfaces []InterfaceTotals
	Events     uint64 // records delivered
	Lost       Lost
	Suppressed []Suppressed      // records held back by a rate limit; nil without one
	Gaps       []Gap             // in the order in which they began
	Missing    map[string]string // why a value above is nil, by its JSON key

	moreGaps uint64 // that a sum had no space for
}

// AnyNetfront reports whether an interface of the Xen network frontend is watched.
func (t *Totals) AnyNetfront() bool {
	return slices.ContainsFunc(t.Interfaces, func(n InterfaceTotals) bool { return n.Driver == "xen-netfront" })
}

// Sum adds up the packets of all interfaces, by verdict and cause. Rejected is nil if no
// interface has it.
func (t *Totals) Sum() InterfaceTotals {
	var sum InterfaceTotals
	for i := range t.Interfaces {
		n := &t.Interfaces[i]
		sum.Each(&n.Counts, Plus)
		if n.Rejected != nil {
			if sum.Rejected == nil {
				sum.Rejected = new(uint64)
			}
			*sum.Rejected += *n.Rejected
		}
	}
	return sum
}

// SuppressedRecords returns how many records were suppressed in all.
func (t *Totals) SuppressedRecords() (n uint64) {
	for _, s := range t.Suppressed {
		n += s.Records
	}
	return n
}

// A Gap is an unmonitored interval: packets may have been missed, or the machine did
// not run.
type Gap struct {
	From   time.Time
	To     time.Time // zero if it lasted until the end
	Reason GapReason
}

// A GapReason is why an interval was unmonitored. Its text is the JSON value.
type GapReason string

// The reasons.
const (
	// GapDriverUnloaded: the driver's module was unloaded, and the hooks with it.
	GapDriverUnloaded GapReason = "driver_unloaded"
	// GapSuspended: the machine was suspended, or saved and restored.
	GapSuspended GapReason = "machine_suspended"
)

// A Backend is a way of attaching to the driver.
type Backend string

// The backends, best first.
const (
	Auto       Backend = "auto"       // the first below that really attaches
	Fentry     Backend = "fentry"     // fentry on xennet_start_xmit; needs BTF of the driver
	Kprobe     Backend = "kprobe"     // kprobe on xennet_start_xmit
	Tracepoint Backend = "tracepoint" // net_dev_start_xmit; any driver
)

// Drops selects which drops are reported.
type Drops string

// What --drops can be.
const (
	DropsDriver Drops = "driver" // those of the driver
	DropsAll    Drops = "all"    // also those on the way to it
)
