// Package cell is what a run of the truth matrix says: which paths of the driver
// are walked, and what was found in each of its cells. The tests in the guest
// write it, one JSON object a line, and package table reads it.
package cell

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
)

// Backends are the columns within each kernel's.
var Backends = []string{"fentry", "kprobe", "tracepoint"}

// Kernels are the columns, by the lab's names, with the type of guest unless it is PV.
var Kernels = []string{"5.10", "6.1", "6.12", "newest", "6.1:pvh", "6.12:pvh", "newest:pvh"}

// A Path is a row: one of the ways that a packet can take through the driver.
type Path struct {
	ID     string
	What   string // happens to the packet
	Driver string // the lab's name of the driver that is made to do it
	How    string // it is made to
}

// Status is what came out for a cell.
type Status string

// A cell that is not there is as bad as one that is Red.
const (
	Agrees     Status = "agrees"     // what was sent, what xentrace said, tx_dropped and the peer agree
	Impossible Status = "impossible" // cannot exist on this kernel; Why says it
	Red        Status = "red"        // they do not agree; Why says where
)

// A Cell is one path on one kernel, seen by one backend.
type Cell struct {
	Kernel  string // the column
	Release string // uname -r, and the type of guest unless it is PV
	Path    string // ID
	Backend string
	Status  Status
	Why     string `json:",omitempty"`
	Note    string `json:",omitempty"` // what a reader should know of a cell that agrees

	Sent      Traffic // to the path's port, and the ordinary datagrams between them
	Arrived   Traffic // at the peer
	Said      map[string]uint64
	Struck    uint64 // packets that the path took, as the driver or another witness counts them
	TxPackets uint64 // by which the interface's counters moved
	TxDropped uint64
}

// Traffic is how many packets went to a path's own port, and how many besides.
type Traffic struct{ Path, Ordinary uint64 }

// A Session is one run of xentrace, in which one or several paths were walked.
type Session struct {
	Kernel  string
	Name    string
	Backend string

	Counted      uint64 // packets by xentrace
	Skipped      uint64 // runs of its programs that the kernel left out, as xentrace says
	TxPackets    uint64
	TxDropped    uint64
	Dropped      uint64 // by xentrace
	Causes       map[string]uint64
	Linearized   uint64
	Bounced      uint64
	Rejected     uint64
	Copies       uint64 // calls of the function by which the driver makes a bounce copy
	Records      uint64
	FalseRecords uint64 // of packets to which nothing of the kind happened
}

// The words that begin the lines.
const (
	cellWord    = "cell"
	sessionWord = "session"
)

// Write writes the cell as one line.
func (c Cell) Write(w io.Writer) error { return write(w, cellWord, c) }

// Write writes the session as one line.
func (s Session) Write(w io.Writer) error { return write(w, sessionWord, s) }

func write(w io.Writer, word string, value any) error {
	text, err := json.Marshal(value)
	if err != nil {
		return err
	}
	// A line of its own, whatever was being written there.
	_, err = fmt.Fprintf(w, "\n%s %s\n", word, text)
	return err
}

// Parse reads one line of a run's output into cells or sessions, if it is one.
func Parse(line string, cells *[]Cell, sessions *[]Session) error {
	word, text, _ := strings.Cut(strings.TrimSpace(line), " ")
	switch {
	case !strings.HasPrefix(text, "{"):
		return nil
	case word == cellWord:
		var c Cell
		if err := json.Unmarshal([]byte(text), &c); err != nil {
			return fmt.Errorf("cell %q: %w", text, err)
		}
		*cells = append(*cells, c)
	case word == sessionWord:
		var s Session
		if err := json.Unmarshal([]byte(text), &s); err != nil {
			return fmt.Errorf("session %q: %w", text, err)
		}
		*sessions = append(*sessions, s)
	}
	return nil
}
