package event

import (
	"slices"
	"time"
)

// A FixStatus is the status of a step of fix. Its text is the JSON value.
type FixStatus uint8

// The statuses.
const (
	Planned  FixStatus = iota
	Applied            // done
	Verified           // done, and read back
	Reverted           // undone
	Refused            // not done, for the reason given
	Failed             // tried and not done
)

func (s FixStatus) String() string {
	return [...]string{"planned", "applied", "verified", "reverted", "refused", "failed"}[s]
}

// A FixStep is one change to the machine, and its status.
type FixStep struct {
	Name      string // as in --step
	Interface string // empty for the machine
	NetNS     uint32 // inode number of the interface's network namespace; 0 for the machine
	Command   string // what one would type; empty where no command does it
	Effect    string // a sentence, or empty
	Cost      string // a sentence; empty where it costs nothing
	Status    FixStatus
	Message   string // whole sentences, or empty
	Path      string // of the file that is written; empty for other steps
	Content   string // of that file
}

// Type returns "fix".
func (*FixStep) Type() string { return "fix" }

// An Opinion is what a module of EC2 Rescue for Linux (ec2rl 1.1.7) would print here, and
// whether that is right.
type Opinion struct {
	Module    string // xennetsgmtu or xennetrocket
	Interface string // empty where the module does not distinguish them
	Verdict   string // SUCCESS, WARN or FAILURE; empty if its source cannot be read here
	Right     *bool  // nil where it is not known
	Message   string // the module's rule, and what is true
}

// A Report is all that one check found.
type Report struct {
	Findings []Finding
	EC2RL    []Opinion // nil unless asked for
}

// Type returns "report": JSON writes one object for each finding and opinion.
func (*Report) Type() string { return "report" }

// An Answer is the backend's TX response to a packet that the driver had sent.
type Answer string

// TX responses.
const (
	NoAnswer       Answer = ""         // not seen: Probe.AnswerMissing has the reason
	AnswerAccepted Answer = "accepted" // the backend accepted it
	AnswerRejected Answer = "rejected" // the backend rejected it
)

// A Probe is the result of one probe.
type Probe struct {
	Time      time.Time // when the driver got the datagram; else when it was given up
	Interface Device
	Netfront  bool  // driven by xen-netfront
	Flow      *Flow // nil if no datagram could be made

	Seen    bool // it reached the driver; else Unseen is the reason why not
	Unseen  string
	Reason  string // of a drop before the driver: the kernel's drop reason, if it has one
	Verdict Verdict
	Cause   Cause // CauseNone unless Verdict is Dropped
	Slots   int   // that the datagram needed
	Limit   int
	Len     int // bytes, headers included

	Asked    int  // slots asked for, 0 for any number over the limit
	Reached  bool // the last datagram had the slots that were asked for
	Attempts int  // datagrams made for it

	// SinglePages: the last datagram could not be made, since page fragments were single
	// pages. The next one may succeed, if memory was just short.
	SinglePages bool

	Answer        Answer
	AnswerMissing string

	// ScatterGatherOff: the interface sends packets of one slot only, so the probe was a
	// small datagram whose head can need two.
	ScatterGatherOff bool
}

// Type returns "probe".
func (*Probe) Type() string { return "probe" }

// Lost reports whether the packet did not reach the other end of the ring.
func (p *Probe) Lost() bool {
	return p.Seen && p.Verdict == Dropped || p.Verdict == Rejected
}

// Probes is the end of a run of probes.
type Probes struct {
	Results   []Probe
	Explained []Explanation // of what was lost
}

// Type returns "probes": JSON wrote each result already.
func (*Probes) Type() string { return "probes" }

// Advice is one thing to do.
type Advice struct {
	ID      string // of the remedy
	Command string // complete, for a root shell; empty where no command does it
	Effect  string // a sentence
	Cost    string // a sentence; empty where it costs nothing
}

// AppendAdvice appends advice that is not there yet: the same remedy with the same command.
func AppendAdvice(all []Advice, more ...Advice) []Advice {
	for _, a := range more {
		if !slices.ContainsFunc(all, func(b Advice) bool { return a.ID == b.ID && a.Command == b.Command }) {
			all = append(all, a)
		}
	}
	return all
}

// An Explanation is the meaning of a count, and the remedies.
type Explanation struct {
	Name    string  // of the cause, drop reason or verdict
	Verdict Verdict // of the packets
	Meaning string  // a sentence
	Count   uint64
	Advice  []Advice
}

// A Status is how serious a finding is. The larger, the more it matters.
type Status uint8

// The statuses.
const (
	OK      Status = iota // nothing is wrong
	Unknown               // it cannot be known; the message has the reason
	Warn                  // it costs speed, or loses packets under conditions
	Fail                  // packets are lost, or will be with ordinary traffic
)

// String is the word of the JSON output.
func (s Status) String() string { return [...]string{"OK", "UNKNOWN", "WARN", "FAIL"}[s] }

// Statuses lists every status, the most serious first.
func Statuses() []Status { return []Status{Fail, Warn, Unknown, OK} }

// A FindingID names what a finding is about. Scripts rely on it.
type FindingID string

// A Finding is one result of check, about the machine or one of its interfaces.
type Finding struct {
	ID        FindingID
	Status    Status
	Interface string // empty for the machine
	NetNS     uint32 // inode number of the interface's network namespace; 0 for the machine
	Message   string // whole sentences
	Evidence  []Fact
	Advice    []Advice // commands are complete
}

// A Fact is one item of evidence.
type Fact struct {
	Key   string // in snake_case, with its unit
	Value any    // a string, a number, a bool, or nil for what is not known
}

// Fact returns the value of an item of evidence; nil if it is unknown or absent.
func (f *Finding) Fact(key string) any {
	for _, fact := range f.Evidence {
		if fact.Key == key {
			return fact.Value
		}
	}
	return nil
}
