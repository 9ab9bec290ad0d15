// Package situation is what a guest test writes of one situation: what the modules of
// EC2 Rescue for Linux would say there, what xentrace says, and what became of real packets.
package situation

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
)

// A Situation is one setting of one driver on one kernel.
type Situation struct {
	Release string // uname -r
	Driver  string // the lab's name of it
	VCPUs   int
	What    string // is set, beyond scatter-gather and the MTU

	ScatterGather bool
	MTU           int
	Messages      int // "skb rides the rocket" in what dmesg prints

	SGMTU  Answer // of ec2rl's module xennetsgmtu
	Rocket Answer // of ec2rl's module xennetrocket
	Ours   string // the findings of check that are not OK and are about this

	OverLimit Traffic // datagrams of more than 18 slots, as the interface is set
	Small     Traffic // datagrams that fit a page, as the interface is set
	Defect    Traffic // datagrams of more than 18 slots with scatter-gather on
}

// An Answer is a module's verdict, and whether check says that it is right.
type Answer struct {
	Verdict string
	Right   bool
}

// Traffic is what was sent, and by how much the interface's tx_dropped moved.
type Traffic struct{ Sent, Dropped uint64 }

// Lost reports whether packets are lost as the interface is set, which is what
// xennetsgmtu is about.
func (s *Situation) Lost() bool { return s.OverLimit.Dropped+s.Small.Dropped > 0 }

// Defective reports whether the driver has the defect that xennetrocket is about.
func (s *Situation) Defective() bool { return s.Defect.Dropped > 0 }

// SGMTUIsRight reports whether xennetsgmtu's verdict is what the experiment showed.
func (s *Situation) SGMTUIsRight() bool { return (s.SGMTU.Verdict != "SUCCESS") == s.Lost() }

// RocketIsRight reports whether xennetrocket's verdict is what the experiment showed.
func (s *Situation) RocketIsRight() bool { return (s.Rocket.Verdict != "SUCCESS") == s.Defective() }

const word = "situation "

// Write writes the situation as one line.
func (s *Situation) Write(out io.Writer) error {
	text, err := json.Marshal(s)
	if err != nil {
		return err
	}
	// A line of its own, whatever was being written there.
	_, err = fmt.Fprintf(out, "\n%s%s\n", word, text)
	return err
}

// Parse returns the situations in a run's output.
func Parse(output string) ([]Situation, error) {
	var all []Situation
	for line := range strings.Lines(output) {
		text, is := strings.CutPrefix(strings.TrimSpace(line), word)
		if !is || !strings.HasPrefix(text, "{") {
			continue
		}
		var s Situation
		if err := json.Unmarshal([]byte(text), &s); err != nil {
			return nil, fmt.Errorf("situation %q: %w", text, err)
		}
		all = append(all, s)
	}
	return all, nil
}
