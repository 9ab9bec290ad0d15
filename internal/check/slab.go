package check

import (
	"errors"
	"fmt"
	"io/fs"
	"strconv"
	"strings"

	"xentrace/internal/slots"
)

// smallHeads is the cache of the heads of small packets, from Linux 6.3 on.
// Before, they came from kmalloc, whose sizes are powers of two and whose objects
// do not cross pages.
const smallHeads = "skbuff_small_head"

// A Slab is the geometry of that cache. It depends on the kernel's configuration and on
// the number of processors.
type Slab struct {
	Bytes   int // from one object to the next; 0 if the kernel has no such cache
	Objects int // in one slab, which begins with a page
	Tail    int // bytes at the end of an object that hold nothing of the packet; 0 if not known
}

// Crossing is how many objects of a slab have the end of a page within the room for
// a packet. A packet in such an object crosses it if its own bytes lie on both
// sides.
func (s Slab) Crossing() int {
	crossing := 0
	for n := range s.Objects {
		first, last := n*s.Bytes, (n+1)*s.Bytes-s.Tail-1
		if first/slots.PageSize != last/slots.PageSize {
			crossing++
		}
	}
	return crossing
}

// readSlab reads the geometry. Whether the cache is there shows without root.
func (r *reader) readSlab() Known[Slab] {
	const caches = "sys/kernel/slab"
	if !r.exists(caches + "/kmalloc-64") { // a kernel without this view of its caches
		return r.readSlabinfo()
	}
	directory := caches + "/" + smallHeads
	if !r.exists(directory) {
		return known(Slab{})
	}
	bytes, objects := r.number(directory+"/slab_size"), r.number(directory+"/objs_per_slab")
	for _, number := range []Known[int]{bytes, objects} {
		if number.Missing != "" {
			return missing[Slab](number.Missing)
		}
	}
	return known(Slab{Bytes: bytes.Value, Objects: objects.Value})
}

// readSlabinfo reads the columns name, active, all, size, per slab.
func (r *reader) readSlabinfo() Known[Slab] {
	content, err := fs.ReadFile(r.source.Files, "proc/slabinfo")
	if errors.Is(err, fs.ErrNotExist) {
		return missing[Slab]("this kernel shows no caches (/sys/kernel/slab, /proc/slabinfo)")
	}
	if err != nil {
		return missing[Slab](why(err))
	}
	for line := range strings.Lines(string(content)) {
		fields := strings.Fields(line)
		if len(fields) < 5 || fields[0] != smallHeads {
			continue
		}
		bytes, errBytes := strconv.Atoi(fields[3])
		objects, errObjects := strconv.Atoi(fields[4])
		if errBytes != nil || errObjects != nil {
			return missing[Slab](fmt.Sprintf("/proc/slabinfo: line %q is not understood", strings.TrimSpace(line)))
		}
		return known(Slab{Bytes: bytes, Objects: objects})
	}
	return known(Slab{})
}
