// Package userstack names the functions of programs that a stack leads through: an
// address of a running process, by the file that is mapped there and that file's
// table of symbols. Programs and what they map are anybody's: nothing in them is
// taken on trust, and none of it is kept but names.
package userstack

import (
	"fmt"
	"os"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// maxNamed bounds the addresses that are remembered; then they are all
	// forgotten. The same few recur.
	maxNamed = 4096

	// Tables of symbols are searched for addresses that were not asked for before. A
	// program that sends from ever new places has no more than so many searches in a
	// while; its other frames have no names.
	searches = 50
	while    = time.Second
)

// A Namer names addresses. It is for one goroutine.
type Namer struct {
	root  string // of /proc
	debug string // where distributions install debug files
	named map[place]string

	since    time.Time // when this while began
	searched int       // in it
}

// New returns a Namer that remembers nothing yet.
func New() *Namer {
	return &Namer{root: "/proc", debug: "/usr/lib/debug", named: make(map[place]string)}
}

// A place is an address in a file, as long as the file is not written to.
type place struct {
	device, inode uint64
	changed       unix.Timespec
	offset        uint64
}

// Name returns the frames of the process, innermost first, as "function+0xoffset
// (file)", or "[unknown] 0xaddress (file+0xoffset)" where the file has no symbol for
// it. The addresses are return addresses, seen at a time of CLOCK_BOOTTIME in
// nanoseconds: those of a process that is gone, even if another has its number now,
// stay bare. Names of functions are as the compiler left them, C++ and Rust mangled.
func (n *Namer) Name(pid int, at uint64, addresses []uint64) []string {
	frames := make([]string, len(addresses))
	for i, address := range addresses {
		frames[i] = unknown(address)
	}
	if len(addresses) == 0 {
		return frames
	}
	// The mappings first: a number that is taken anew in between is found out after.
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

// frame names one address in a mapping.
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
	at := place{device: file.device, inode: file.inode, changed: file.changed, offset: offset}
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
	if time.Since(n.since) > while {
		n.since, n.searched = time.Now(), 0
	}
	n.searched++
	return n.searched <= searches
}

// startedBefore tells whether the process with this number was there at that time.
func (n *Namer) startedBefore(pid int, at uint64) bool {
	text, err := os.ReadFile(n.process(pid, "stat"))
	if err != nil {
		return false
	}
	start, ok := startOf(text)
	return ok && start <= at
}
