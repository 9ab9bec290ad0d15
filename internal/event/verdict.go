package event

// A Verdict is what happened to a packet. Its text is the JSON value.
type Verdict uint8

// The verdicts, numbered as in bpf/event.h.
const (
	VerdictNone Verdict = iota
	Sent                // the driver put it on the ring
	Dropped             // the driver freed it and counted tx_dropped
	Linearized          // over the limit, copied into one buffer and sent
	Bounced             // its head began too close to a page end: copied and sent
	OverLimit           // another driver sent it; a Xen frontend's limit is lower
	Rejected            // the backend refused it after the driver counted it as sent
	Accepted            // of a probe only: not rejected by the backend so far
)

var verdictNames = [...]string{"none", "sent", "dropped", "linearized", "bounced", "over_limit", "rejected", "accepted"}

func (v Verdict) String() string {
	if int(v) < len(verdictNames) {
		return verdictNames[v]
	}
	return "unknown"
}

// A Cause is why the driver dropped a packet: which of the tests in
// xennet_start_xmit it failed. Its text is the JSON value.
type Cause uint8

// The causes, numbered as in bpf/event.h, in the order of the driver's tests.
const (
	CauseNone       Cause = iota
	NoQueues              // the interface has no transmit queue
	DeviceBroken          // the frontend found its backend misbehaving and gave up
	TooBig                // longer than the wire format allows: 65535 bytes
	TooManySlots          // over the limit, and this driver does not linearize
	LinearizeFailed       // over the limit, and no memory for one buffer
	BounceFailed          // no memory for the bounce copy
	NoCarrier             // the backend is not connected
	SGOff                 // more than one slot while scatter-gather is off
	NeedsGSO              // GSO packet after the feature was turned off
	UnknownCause          // dropped, and none of the driver's known tests explains it
	causes
)

// NumCauses is the length of an array indexed by Cause.
const NumCauses = int(causes)

var causeNames = [NumCauses]string{
	"", "no_queues", "device_broken", "too_big", "too_many_slots", "linearize_failed",
	"bounce_failed", "no_carrier", "sg_off", "needs_gso", "unknown",
}

func (c Cause) String() string {
	if int(c) < len(causeNames) {
		return causeNames[c]
	}
	return "unknown"
}

// Causes lists every cause a drop can have, in the order of the driver's tests.
func Causes() []Cause {
	all := make([]Cause, 0, NumCauses-1)
	for c := CauseNone + 1; c < causes; c++ {
		all = append(all, c)
	}
	return all
}
