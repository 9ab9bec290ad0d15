package congestion

import "time"

// UsableSlots is how many slots of a ring are in use at most: the driver stops a queue
// that has no room for the largest packet left, 256 less 18 and 1 (5.10 to 7.2).
const UsableSlots = 237

// A Report is what was measured on one interface in some time. What is nil could not be
// measured here; Missing says why, by the name that the JSON output has for it.
type Report struct {
	Time     time.Time // when it ended
	Duration time.Duration

	Name   string
	Index  int
	NetNS  uint32 // inode number
	Driver string

	Queues  []Queue
	Total   Queue     // of all queues
	Sizes   Histogram // bytes of a packet, link header included
	Slots   Histogram // slots of a packet
	Receive *Receive
	CPU     *CPU
	TCP     *TCP
	Bound   *RingBound
	// Missed counts runs of programs, on the whole machine, that the kernel skipped since the
	// same program was interrupted on that processor: what they would have counted is missing.
	Missed *uint64

	Missing map[string]string
}

// A Queue is one transmit queue, or all of an interface.
type Queue struct {
	Number  int
	Packets uint64 // that the driver took
	Bytes   uint64 // sum of skb->len
	Payload uint64 // bytes behind the transport header
	Small   uint64 // packets with less than 256 bytes of payload
	Slots   uint64
	Busy    uint64 // packets that the driver handed back for want of room

	Stops uint64         // how often the driver stopped the queue for want of room
	Full  *time.Duration // how long it was stopped
	Wake  Histogram      // microseconds from a stop to the wake

	Occupancy     Histogram // slots in use when a packet came
	Latency       Histogram // microseconds from the driver to the backend's response
	MeanLatency   *time.Duration
	Completed     uint64  // packets whose latency is known
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

// CPU is how busy the machine's processors were. Shares are of the time
// that the hypervisor left them, but for Steal.
type CPU struct {
	Count             int
	Hottest           int      // the one that was idle least
	HottestInterrupts float64  // its share in interrupts, soft ones included
	HottestBusy       float64  // its share that was not idle
	MeanInterrupts    float64  // of all processors
	RestBusy          float64  // of all but the hottest; 0 where there is one
	Steal             float64  // of all: ready to run while the hypervisor ran somebody else
	InterruptShare    *float64 // of the interface's interrupts, those on the processor that had most
	InterruptsCPU     int      // that processor
}

// TCP is the connections of the interface's network namespace.
type TCP struct {
	Accepts     *uint64   // connections that an application accepted
	Accept      Histogram // microseconds from the SYN's answer to the accept
	Established uint64    // connections that came in and completed the handshake
	Opened      uint64    // in either direction
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

// RingBound is how many packets a second the ring lets through: each takes slots for as long
// as the backend takes.
type RingBound struct {
	PacketsPerSecond float64
	Queues           int
	SlotsPerPacket   float64
	Latency          time.Duration // mean of the time to the response
	Share            float64       // what was sent of it
}

// Rate is n per second of the report's time.
func (r *Report) Rate(n uint64) float64 {
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
func (q *Queue) SmallShare() float64 { return Ratio(q.Small, q.Packets) }

// BytesPerSlot is the payload that a slot carries.
func (q *Queue) BytesPerSlot() float64 { return Ratio(q.Payload, q.Slots) }

// FullShare is the share of the time that queues were stopped, of the one that was
// longest; 0 where it is not known.
func (r *Report) FullShare() float64 {
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

// bound reckons what the ring lets through, from what was measured.
func (r *Report) bound() {
	t := &r.Total
	if t.MeanLatency == nil || *t.MeanLatency <= 0 || t.Packets == 0 {
		return
	}
	b := RingBound{Queues: len(r.Queues), SlotsPerPacket: Ratio(t.Slots, t.Packets), Latency: *t.MeanLatency}
	b.PacketsPerSecond = UsableSlots * float64(b.Queues) / (b.SlotsPerPacket * b.Latency.Seconds())
	b.Share = r.Rate(t.Packets) / b.PacketsPerSecond
	r.Bound = &b
}
