// Package userstack symbolizes user stacks: it maps an address of a running process to
// the mapped file and that file's symbol table. The files are untrusted input; only
// symbol names are kept.
package userstack

import (
	"fmt"
	"time"

	"xentrace/internal/procfs"
)

// maxNamedBytes bounds the cache of symbolized addresses, which is cleared when full.
const (
	maxNamedBytes = 2 << 20
	sizeOfName    = 128 // without the text
)

// maxPathBytes bounds the path of a file in a frame: its end is shown.
const maxPathBytes = 256

// A Namer names addresses. It is for one goroutine.
type Namer struct {
	debug   string // where distributions install debug files
	running *procfs.Processes
	now     func() time.Time
	budget  *budget

	processes map[int]*process // by PID
	cached    int              // bytes that processes takes at most

	named      map[codeAddress]symbol
	namedBytes int
	searched   int // addresses
}

// New returns a Namer with an empty cache.
func New() *Namer { return newNamer(procfs.Machine(), time.Now) }

func newNamer(running *procfs.Processes, now func() time.Time) *Namer {
	return &Namer{
		debug: "/usr/lib/debug", running: running, now: now, budget: newBudget(now),
		processes: make(map[int]*process), named: make(map[codeAddress]symbol),
	}
}

// A codeAddress is a place in one version of a file.
type codeAddress struct {
	fileVersion
	offset uint64
}

// A Call is a user stack, recorded at a time of CLOCK_BOOTTIME in nanoseconds.
type Call struct {
	PID       int
	Started   time.Duration // when the process was started, since boot; 0 if unknown
	UID       uint32        // user whom the work is counted to
	At        uint64
	Addresses []uint64 // return addresses, innermost first
}

// Name returns the frames of the process, innermost first, as "function+0xoffset
// (file)", or "[unknown] 0xaddress (file+0xoffset)" where the file has no symbol for
// it. The frames of a process that has exited stay bare, even if its PID was reused, and
// so do those that would cost more than the share of the user. C++ and Rust names stay
// mangled.
func (n *Namer) Name(c *Call) []string {
	frames := make([]string, len(c.Addresses))
	for i, address := range c.Addresses {
		frames[i] = unknown(address)
	}
	if len(c.Addresses) == 0 {
		return frames
	}
	mappings := n.mappings(c)
	for i, m := range mappings {
		switch {
		case m == nil:
		case m.inode == 0:
			frames[i] = fmt.Sprintf("%s (%s)", frames[i], shownPath(m.path)) // [vdso], [heap]
		default:
			frames[i] = fmt.Sprintf("%s (%s+%#x)", frames[i], shownPath(m.path), m.offsetOf(c.Addresses[i]))
		}
	}
	for i, m := range mappings {
		if m != nil && m.inode != 0 {
			n.nameIn(c, m, frames[i:], mappings[i:], c.Addresses[i:])
		}
	}
	return frames
}

func unknown(address uint64) string { return fmt.Sprintf("[unknown] %#x", address) }

// shownPath cuts a path: its length is chosen by the user.
func shownPath(path string) string {
	if len(path) > maxPathBytes {
		return "..." + path[len(path)-maxPathBytes+3:]
	}
	return path
}

// offsetOf returns where in the file a return address leads.
func (m *mapping) offsetOf(address uint64) uint64 { return address - m.start + m.offset }

// nameIn names the first frame, and looks for all others in the same mapping with it.
func (n *Namer) nameIn(c *Call, m *mapping, frames []string, mappings []*mapping, addresses []uint64) {
	if s, known := n.nameOf(m, addresses[0]); known {
		if s.name != "" {
			frames[0] = fmt.Sprintf("%s+%#x (%s)", s.name, s.offset+1, shownPath(m.path))
		}
		return
	}
	if m.failed || !n.budget.allows(c.UID) {
		return
	}
	offsets := []uint64{m.offsetOf(addresses[0])}
	for i, other := range mappings[1:] {
		if other == m {
			offsets = append(offsets, m.offsetOf(addresses[i+1]))
		}
	}
	result, err := procfs.Guard(n.running, c.PID, func() (learned, error) { return n.look(c.PID, m, offsets) }, nil)
	n.budget.charge(c.UID, result.read+workOfFile)
	if err != nil {
		m.failed = true
		return
	}
	n.searched += len(offsets)
	m.file = &result.file
	n.learn(result)
	if s, known := n.nameOf(m, addresses[0]); known && s.name != "" {
		frames[0] = fmt.Sprintf("%s+%#x (%s)", s.name, s.offset+1, shownPath(m.path))
	}
}

// nameOf returns the symbol from the cache; its name is empty if the file has none there.
func (n *Namer) nameOf(m *mapping, address uint64) (symbol, bool) {
	if m.file == nil {
		return symbol{}, false
	}
	s, known := n.named[codeAddress{*m.file, m.offsetOf(address)}]
	return s, known
}

// learned is what a search found in a file.
type learned struct {
	file    fileVersion
	offsets []uint64
	symbols []symbol // of each, without a name if there is none
	read    int      // bytes
}

func (n *Namer) learn(l learned) {
	for i, offset := range l.offsets {
		size := sizeOfName + len(l.symbols[i].name)
		if n.namedBytes += size; n.namedBytes > maxNamedBytes {
			clear(n.named)
			n.namedBytes = size
		}
		n.named[codeAddress{l.file, offset}] = l.symbols[i]
	}
}
