package tool

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"time"
)

// Packet is an object of type "packet".
type Packet struct {
	Type       string
	Time       time.Time
	CPU        int
	Layer      string
	Ifname     string
	Ifindex    int
	Netns      uint32
	Queue      int
	Verdict    string
	Cause      *string
	Slots      int
	Limit      int
	Len        int
	HeadOffset int `json:"head_offset"`
	HeadLen    int `json:"head_len"`
	Frags      []Frag
	GSOSize    int `json:"gso_size"`
	GSOSegs    int `json:"gso_segs"`
	Flow       *Flow
	TCP        *TCP
	Process    *Process
	Reason     *string
	Stack      []string
}

// String is the record as JSON, for messages.
func (p *Packet) String() string {
	text, err := json.Marshal(p)
	if err != nil {
		return err.Error()
	}
	return string(text)
}

// Frag is a fragment of a packet.
type Frag struct{ Offset, Size, Slots int }

// Flow is a 5-tuple.
type Flow struct {
	Family string
	Proto  string
	Saddr  string
	Sport  int
	Daddr  string
	Dport  int
}

// TCP is the state of the sender's socket.
type TCP struct {
	State       string
	Seq         uint32
	SndUna      uint32 `json:"snd_una"`
	SndNxt      uint32 `json:"snd_nxt"`
	WriteSeq    uint32 `json:"write_seq"`
	Retransmits int
	RTOms       int `json:"rto_ms"`
	SRTTus      int `json:"srtt_us"`
	SndQBytes   int `json:"sndq_bytes"`
}

// Process is the owner of a packet's socket.
type Process struct {
	PID       int
	Comm      string
	UID       uint32
	Unit      *string
	Container *string
}

// Interface is one interface of a summary.
type Interface struct {
	Ifname         string
	Ifindex        int
	Netns          uint32
	Driver         string
	Backend        string
	Limit          int
	Packets        uint64
	Bytes          uint64
	Slots          map[int]uint64
	OverLimit      uint64 `json:"over_limit"`
	Dropped        uint64
	Linearized     uint64
	Bounced        uint64
	Rejected       *uint64
	Causes         map[string]uint64
	TxDroppedDelta *uint64 `json:"tx_dropped_delta"`
	Elsewhere      *uint64
	Reasons        map[string]uint64
	StuckMs        *uint64 `json:"stuck_ms"`
	XDPPackets     *uint64 `json:"xdp_packets"`
	XDPDropped     *uint64 `json:"xdp_dropped"`
}

// Summary is the object of type "summary".
type Summary struct {
	Type       string
	Time       time.Time
	DurationMs int `json:"duration_ms"`
	Interfaces []Interface
	Events     uint64
	Lost       struct {
		Ring      uint64
		Flows     *uint64
		Recursion *uint64
		Missed    *uint64
	}
	FlowsStalled *uint64 `json:"flows_stalled"`
	Gaps         []Gap
	Filter       []string
	LeftOut      uint64 `json:"left_out"`
	Missing      map[string]string
}

// Gap is a time in which nothing could be counted.
type Gap struct {
	From   time.Time
	To     *time.Time // null if it lasted until the end
	Reason string
}

// parse reads the objects that the program wrote, one a line. The last one is a summary.
func (o *Output) parse(output []byte) error {
	var seen bool
	for line := range bytes.Lines(output) {
		var kind struct{ Type string }
		if err := json.Unmarshal(line, &kind); err != nil {
			return fmt.Errorf("line %q: %w", line, err)
		}
		switch kind.Type {
		case "packet":
			var p Packet
			if err := json.Unmarshal(line, &p); err != nil {
				return fmt.Errorf("line %q: %w", line, err)
			}
			o.Packets = append(o.Packets, p)
		case "flow":
			var f FlowEvent
			if err := json.Unmarshal(line, &f); err != nil {
				return fmt.Errorf("line %q: %w", line, err)
			}
			o.Flows = append(o.Flows, f)
		case "summary":
			if err := json.Unmarshal(line, &o.Summary); err != nil {
				return fmt.Errorf("line %q: %w", line, err)
			}
			seen = true
		default:
			return fmt.Errorf("line %q: type not known", line)
		}
	}
	if !seen {
		return errors.New("no summary")
	}
	return nil
}

// FlowEvent is an object of type "flow".
type FlowEvent struct {
	Type         string
	Time         time.Time
	Event        string
	Netns        uint32
	Ifname       string
	Flow         Flow
	Process      *Process
	Drops        uint64
	Retransmits  *uint64
	Seq          *uint32
	SameSeqDrops *int       `json:"same_seq_drops"`
	FirstDrop    *time.Time `json:"first_drop"`
	LastDrop     *time.Time `json:"last_drop"`
	StalledMs    int        `json:"stalled_ms"`
	SndQBytes    *uint32    `json:"sndq_bytes"`
	RTOms        *int       `json:"rto_ms"`
	Backoff      *int
	Causes       map[string]uint64
	Reasons      map[string]uint64
	MinSlots     int `json:"min_slots"`
	MaxSlots     int `json:"max_slots"`
	Layout       *string
	Advice       []struct{ Command, Effect, Cost *string }
	Inferred     bool
	BeforeNAT    *struct{ Flow Flow } `json:"before_nat"`
}

// String is the event as JSON, for messages.
func (f *FlowEvent) String() string {
	text, err := json.Marshal(f)
	if err != nil {
		return err.Error()
	}
	return string(text)
}

// SlotsOfParts is what the packet's own parts add up to: its head and every
// fragment, in Xen pages of 4096 bytes.
func (p *Packet) SlotsOfParts() int {
	sum := (p.HeadOffset%4096 + p.HeadLen + 4095) / 4096
	for _, f := range p.Frags {
		sum += (f.Offset%4096 + f.Size + 4095) / 4096
	}
	return sum
}

// Counted is the sum over the histogram.
func (i *Interface) Counted() uint64 {
	var sum uint64
	for _, n := range i.Slots {
		sum += n
	}
	return sum
}
