package rocket

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"
)

// ErrNoHugePage says that the kernel gave no transparent huge page: it has none
// (as in a Xen PV guest), they are switched off, or none was free.
var ErrNoHugePage = errors.New("no transparent huge page")

// hugePageSize is the smallest on the architectures with 4 KiB pages that have them.
const hugePageSize = 2 << 20

// madvCollapse is MADV_COLLAPSE, since 6.1: make a huge page now.
const madvCollapse = 25

// hugePage is 2 MiB of memory in one compound page.
type hugePage struct {
	data    []byte
	mapping []byte
}

// newHugePage maps a huge page and checks that it is one.
func newHugePage() (*hugePage, error) {
	const guard = 1 << 16 // a page on any architecture
	mapping, err := unix.Mmap(-1, 0, 2*hugePageSize+2*guard, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	if err != nil {
		return nil, fmt.Errorf("huge page: mmap: %w", err)
	}
	start := uintptr(unsafe.Pointer(unsafe.SliceData(mapping)))
	// With something else on both sides it cannot be merged with another sender's.
	skip := guard + -(start+guard)&(hugePageSize-1)
	h := &hugePage{data: mapping[skip : skip+hugePageSize], mapping: mapping}
	// Refused where the kernel is built without; what counts is what there is in the end.
	advised := unix.Madvise(h.data, unix.MADV_HUGEPAGE)
	for at := 0; at < len(h.data); at += slotSize {
		h.data[at] = 1
	}
	is, err := isHuge(start + skip)
	if err == nil && !is {
		unix.Madvise(h.data, madvCollapse)
		is, err = isHuge(start + skip)
	}
	if err == nil && !is {
		err = errors.Join(ErrNoHugePage, advised)
	}
	if err != nil {
		return nil, errors.Join(err, h.close())
	}
	return h, nil
}

// close unmaps it.
func (h *hugePage) close() error { return unix.Munmap(h.mapping) }

// isHuge looks in /proc/self/smaps whether the 2 MiB from address on, a mapping of
// their own by the advice they were given, are a huge page.
func isHuge(address uintptr) (bool, error) {
	file, err := os.Open("/proc/self/smaps")
	if err != nil {
		return false, fmt.Errorf("huge page: %w", err)
	}
	defer file.Close()
	return hugeIn(bufio.NewScanner(file), uint64(address))
}

// hugeIn reads smaps: a line of a mapping's addresses, then its properties.
func hugeIn(lines *bufio.Scanner, address uint64) (bool, error) {
	inside := false
	for lines.Scan() {
		fields := strings.Fields(lines.Text())
		if len(fields) == 0 {
			continue
		}
		if from, to, ok := mappingOf(fields[0]); ok {
			inside = from <= address && address < to
			continue
		}
		if inside && fields[0] == "AnonHugePages:" && len(fields) > 1 {
			kib, err := strconv.ParseUint(fields[1], 10, 64)
			if err != nil {
				return false, fmt.Errorf("huge page: smaps: %w", err)
			}
			return kib >= hugePageSize>>10, nil
		}
	}
	// Not there: a kernel without huge pages leaves the line out.
	return false, lines.Err()
}

// mappingOf reads "7f0000000000-7f0000200000".
func mappingOf(field string) (from, to uint64, ok bool) {
	a, b, ok := strings.Cut(field, "-")
	if !ok {
		return 0, 0, false
	}
	from, errFrom := strconv.ParseUint(a, 16, 64)
	to, errTo := strconv.ParseUint(b, 16, 64)
	return from, to, errFrom == nil && errTo == nil
}
