// Package userstack symbolizes user stacks: it maps an address of a running process to
// the mapped file and that file's symbol table. The files are untrusted input; only
// symbol names are kept.
package userstack

import (
	"fmt"
	"os"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"xentrace/internal/procfs"
)

const (
	// maxNamed bounds the cache of symbolized addresses, which is cleared when full.
	maxNamed = 4096

	// At most maxSearches addresses that are not in the cache are looked up in each
	// searchInterval. Other frames stay without a name.
	maxSearches    = 50
	searchInterval = time.Second
)

// A Namer names addresses. It is for one goroutine.
type Namer struct {
	root  string // of /proc
	debug string // where distributions install debug files
	named map[codeAddress]string

	since    time.Time // start of the current searchInterval
	searched int       // in it
}

// New returns a Namer with an empty cache.
func New() *Namer {
	return &Namer{root: "/proc", debug: "/usr/lib/debug", named: make(map[codeAddress]string)}
}

type codeAddress struct {
	device, inode uint64
	changed       unix.Timespec
	offset        uint64
}

// Name returns the frames of the process, innermost first, as "function+0xoffset
// (file)", or "[unknown] 0xaddress (file+0xoffset)" where the file has no symbol for
// it. The addresses are return addresses, recorded at a time of CLOCK_BOOTTIME in
// nanoseconds: those of a process that has exited stay bare, even if its PID was reused.
// C++ and Rust names stay mangled.
func (n *Namer) Name(pid int, at uint64, addresses []uint64) []string {
	frames := make([]string, len(addresses))
	for i, address := range addresses {
		frames[i] = unknown(address)
	}
	if len(addresses) == 0 {
		return frames
	}
	// Mappings first: the start time read afterwards reveals a PID reused in between.
	mappings, err := readMappings(n.process(pid, "maps"), addresses)
	if err != nil || !n.startedBefore(pid, at) {
		return frames
	}
	for i, address := range addresses {
		if m := mappings[i]; m != nil {
			frames[i] = n.frame(pid, m, address)
		}
	}
	return frames
}

func unknown(address uint64) string { return fmt.Sprintf("[unknown] %#x", address) }

func (n *Namer) process(pid int, file string) string {
	return n.root + "/" + strconv.Itoa(pid) + "/" + file
}

func (n *Namer) frame(pid int, m *mapping, address uint64) string {
	if m.inode == 0 {
		return fmt.Sprintf("%s (%s)", unknown(address), m.path) // [vdso], [heap]
	}
	offset := address - m.start + m.offset
	bare := fmt.Sprintf("%s (%s+%#x)", unknown(address), m.path, offset)
	file, err := n.open(pid, m)
	if err != nil {
		return bare
	}
	defer file.Close()
	at := codeAddress{device: file.device, inode: file.inode, changed: file.changed, offset: offset}
	name, known := n.named[at]
	if !known {
		if !n.maySearch() {
			return bare
		}
		if symbol, found := n.search(file, offset-1); found {
			name = fmt.Sprintf("%s+%#x (%s)", symbol.name, symbol.offset+1, m.path)
		}
		if len(n.named) >= maxNamed {
			clear(n.named)
		}
		n.named[at] = name
	}
	if name == "" {
		return bare
	}
	return name
}

func (n *Namer) maySearch() bool {
	if time.Since(n.since) > searchInterval {
		n.since, n.searched = time.Now(), 0
	}
	n.searched++
	return n.searched <= maxSearches
}

// startedBefore tells whether the process with this PID existed at that time.
func (n *Namer) startedBefore(pid int, at uint64) bool {
	text, err := os.ReadFile(n.process(pid, "stat"))
	if err != nil {
		return false
	}
	start, ok := procfs.StartTime(text)
	return ok && uint64(start) <= at
}
