package event

import (
	"iter"
	"time"
)

// UsableSlots is how many slots of a ring are in use at most: the driver stops a queue
// that is too full for the largest packet, 256 less 18 and 1 (5.10 to 7.2).
const UsableSlots = 237

// CompletionSample is how many packets there are for each one whose completion time is
// measured. A prime, so that these meet every position in a burst.
const CompletionSample = 17

// A CongestionReport is what was measured on one interface in some time. What is nil could not be
// measured here; Missing has the reason, by the name that the JSON output has for it.
type CongestionReport struct {
	Time     time.Time // when it ended
	Duration time.Duration

	Name   string
	Index  int
	NetNS  uint32 // inode number
	Driver string

	Queues  []CongestionQueue
	Total   CongestionQueue // of all queues
	Sizes   Log2            // bytes of a packet, link header included
	Slots   Log2            // slots of a packet
	Receive *Receive
	Events  *Events // nil where the kernel does not count them
	CPU     *CPULoad
	TCP     *Accepts
	Bound   *RingBound
	// Missed counts runs of programs, on the whole machine, that the kernel skipped since the
	// same program was already running on that CPU: what they would have counted is missing.
	Missed *uint64

	Missing map[string]string
}

// A CongestionQueue is one transmit queue, or all of an interface.
type CongestionQueue struct {
	Number  int
	Packets uint64 // that the driver took
	Bytes   uint64 // sum of skb->len
	Payload uint64 // bytes after the transport header
	Small   uint64 // packets with less than 256 bytes of payload
	Slots   uint64
	Busy    uint64 // packets that the driver handed back because the ring was full

	Stops uint64         // how often the driver stopped the queue because the ring was full
	Full  *time.Duration // how long it was stopped
	Wake  Log2           // microseconds from a stop to the wake

	Occupancy     Log2 // slots in use when a packet came
	Latency       Log2 // microseconds from the driver to the backend's response, of one packet in CompletionSample
	MeanLatency   *time.Duration
	Completed     uint64  // packets in Latency
	Responses     *uint64 // of the backend, one for a slot
	Runs          *uint64 // of the driver's looking for responses that found any
	Notifications *uint64 // of the backend
	Copied        *uint64 // packets that were bounced or linearized
	Interrupts    *uint64 // of the queue, sent and received
}

// Receive is the receiving side of an interface.
type Receive struct {
	Polls     uint64
	Packets   uint64
	Exhausted uint64 // polls that used up their budget
}

// Events are those of the interface's event channels.
type Events struct {
	Device         string // such as vif-0
	Total          uint32
	Spurious       uint32 // that found nothing to do
	DelayedJiffies uint32 // for which the kernel delayed interrupts because of them (XSA-332)
	Threshold      int    // spurious events in a row that are not delayed
}

// CPULoad is how busy the CPUs were. Shares are of the time not stolen; Steal is of all
// time.
type CPULoad struct {
	Count             int
	Hottest           int      // the one that was idle least
	HottestInterrupts float64  // its share in interrupts, soft ones included
	HottestBusy       float64  // its share that was not idle
	MeanInterrupts    float64  // mean of all CPUs
	RestBusy          float64  // of all but the hottest; 0 where there is one
	Steal             float64  // of all: ready to run while the hypervisor ran another vCPU
	InterruptShare    *float64 // of the interface's interrupts, those on the CPU that took most
	InterruptsCPU     int      // that CPU
}

// Accepts is the connections of the interface's network namespace.
type Accepts struct {
	Accepts     *uint64 // connections that an application accepted
	Accept      Log2    // microseconds from the SYN-ACK to the accept
	Established uint64  // connections that came in and completed the handshake
	Opened      uint64  // in either direction
	Closed      uint64
	Overflows   *uint64 // connections that found the accept queue full
	Drops       *uint64 // those, and others that were dropped for a listener
	Listeners   []Listener
}

// A Listener is one from which connections were accepted.
type Listener struct {
	Port    uint16
	Accepts uint64
	Longest uint32 // its queue, so far
	Limit   uint32 // of its queue; one more fits
	Full    uint64 // accepts that found it full
}

// RingBound is how many packets per second the ring lets through: each holds its slots
// until the TX response.
type RingBound struct {
	PacketsPerSecond float64
	Queues           int
	SlotsPerPacket   float64
	Latency          time.Duration // mean of the time to the response
	Share            float64       // what was sent of it
}

// Rate is n per second of the report's time.
func (r *CongestionReport) Rate(n uint64) float64 {
	if r.Duration <= 0 {
		return 0
	}
	return float64(n) / r.Duration.Seconds()
}

// Ratio is a share; 0 of nothing.
func Ratio(part, whole uint64) float64 {
	if whole == 0 {
		return 0
	}
	return float64(part) / float64(whole)
}

// SmallShare is the share of packets that carry little.
func (q *CongestionQueue) SmallShare() float64 { return Ratio(q.Small, q.Packets) }

// BytesPerSlot is the payload that a slot carries.
func (q *CongestionQueue) BytesPerSlot() float64 { return Ratio(q.Payload, q.Slots) }

// FullShare is the share of the time that queues were stopped, of the one that was
// longest; 0 where it is not known.
func (r *CongestionReport) FullShare() float64 {
	var most time.Duration
	for i := range r.Queues {
		if full := r.Queues[i].Full; full != nil {
			most = max(most, *full)
		}
	}
	if r.Duration <= 0 {
		return 0
	}
	return most.Seconds() / r.Duration.Seconds()
}

// A Log2 counts values in buckets that double: the first holds 0, the second 1,
// each other one what is above the bound before it and not above its own.
type Log2 []uint64

// Log2Bound returns the upper bound of a bucket: 0, 1, 2, 4 and so on. The last bucket
// of a histogram also holds what is above its bound.
func Log2Bound(bucket int) uint64 {
	if bucket == 0 {
		return 0
	}
	return 1 << (bucket - 1)
}

// Count returns how many values were counted.
func (h Log2) Count() uint64 {
	var sum uint64
	for _, n := range h {
		sum += n
	}
	return sum
}

// All yields the bound and the count of each bucket that is not empty.
func (h Log2) All() iter.Seq2[uint64, uint64] {
	return func(yield func(uint64, uint64) bool) {
		for bucket, n := range h {
			if n != 0 && !yield(Log2Bound(bucket), n) {
				return
			}
		}
	}
}

// Quantile returns the bound of the bucket that holds the value below which this
// share of all values lie; 0 if none was counted.
func (h Log2) Quantile(share float64) uint64 {
	want, sum := share*float64(h.Count()), uint64(0)
	last := uint64(0)
	for bucket, n := range h {
		if n == 0 {
			continue
		}
		sum += n
		if last = Log2Bound(bucket); float64(sum) >= want {
			return last
		}
	}
	return last
}

// A LimitID names what keeps an interface from doing more.
type LimitID string

// What may be the limit.
const (
	LimitRing        LimitID = "ring"         // the backend is slow, and the ring is full
	LimitOneQueue    LimitID = "one_queue"    // one CPU serves the queue while others idle
	LimitCopies      LimitID = "copies"       // the frontend copies packets before it sends them
	LimitSteal       LimitID = "steal"        // the hypervisor runs other vCPUs
	LimitAcceptQueue LimitID = "accept_queue" // an application accepts its connections too slowly
	LimitNone        LimitID = "none"
)

// A Bottleneck is what was found to be one, with advice ranked by effect, its commands complete.
type Bottleneck struct {
	ID       LimitID
	Meaning  string
	Evidence []Fact
	Advice   []Advice
}

// A Judgment is what the figures of a report mean.
type Judgment struct {
	Limits []Bottleneck // never empty: LimitNone if nothing is
	// SmallPackets: most packets are small, and the cost per packet, ring slots or the time
	// of one CPU, is the bottleneck.
	SmallPackets bool
	Sentence     string // with the figures; empty unless SmallPackets
}

// A Change is one figure next to the same of an earlier run. Either is nil if that run
// could not measure it.
type Change struct {
	Key         string // as in the JSON output
	Before, Now *float64
}

// A Congestion is what was measured on one interface, what it means, and how it differs
// from an earlier run.
type Congestion struct {
	Report   *CongestionReport
	Judgment Judgment
	Changes  []Change // nil: no earlier run was given
}

// Type returns "congestion".
func (*Congestion) Type() string { return "congestion" }
