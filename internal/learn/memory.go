// Package learn finds by experiment where members lie in the structures of a kernel that does
// not show its types: it makes packets, interfaces, sockets and threads of its own, whose
// members are known to hold certain numbers, reads them in the kernel's memory, and looks for
// the only place where each of them holds its number.
package learn

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"xentrace/internal/kernel"
)

// ErrUnsure means that an experiment left no place, or several, for a member.
var ErrUnsure = errors.New("not certain")

// pageSize is what one read does not go beyond if it fails: the next page may not be mapped.
const pageSize = 4096

// memory is the kernel's, read while nothing changes in the experiment's objects.
type memory struct {
	ctx    context.Context
	reader kernel.CodeReader
	images map[uint64][]byte // of the present experiment, by address
}

// at returns up to size bytes from an address, fewer where the kernel has no more.
func (m *memory) at(address uint64, size int) []byte {
	if known, is := m.images[address]; is && len(known) >= size {
		return known[:size]
	}
	image := make([]byte, size)
	if m.reader.ReadCode(m.ctx, address, image) != nil {
		image = image[:min(size, int(pageSize-address%pageSize))]
		if m.reader.ReadCode(m.ctx, address, image) != nil {
			image = nil
		}
	}
	m.images[address] = image
	return image
}

// fresh forgets what was read: the kernel's objects have changed.
func (m *memory) fresh() { clear(m.images) }

// word returns 8 bytes from an address.
func (m *memory) word(address uint64) uint64 { return number(m.at(address, 8), 0, 8) }

// isPointer reports whether a word can be an address of the kernel, on amd64 and arm64: 57 bits at
// most are not ones only.
func isPointer(word uint64) bool { return word>>56 == 0xff && word>>12 != 1<<52-1 }

// number reads a number of 1, 2, 4 or 8 bytes; 0 beyond the image.
func number(image []byte, offset, size int) uint64 {
	if offset < 0 || offset+size > len(image) {
		return 0
	}
	switch at := image[offset:]; size {
	case 1:
		return uint64(at[0])
	case 2:
		return uint64(binary.NativeEndian.Uint16(at))
	case 4:
		return uint64(binary.NativeEndian.Uint32(at))
	default:
		return binary.NativeEndian.Uint64(at)
	}
}

// part returns size bytes of an image, or as many as it has there: the end of an object may not be
// readable, and nothing is once the experiments are cancelled.
func part(image []byte, offset, size int) []byte {
	from := min(offset, len(image))
	return image[from:min(from+size, len(image))]
}

// A specimen is an object of the kernel, as it was at one moment.
type specimen struct {
	at    uint64
	image []byte
}

// places returns the offsets at which all specimens hold what is to be there. Members of
// several bytes are aligned to their size.
func places(specimens []specimen, size int, holds func(n int, value uint64) bool) (found []int) {
	if len(specimens) == 0 {
		return nil
	}
	shortest := len(specimens[0].image)
	for _, s := range specimens {
		shortest = min(shortest, len(s.image))
	}
	for offset := 0; offset+size <= shortest; offset += size {
		all := true
		for n := range specimens {
			if all = holds(n, number(specimens[n].image, offset, size)); !all {
				break
			}
		}
		if all {
			found = append(found, offset)
		}
	}
	return found
}

// equal is for members that are known to hold certain numbers.
func equal(values []uint64) func(n int, value uint64) bool {
	return func(n int, value uint64) bool { return value == values[n] }
}

// A Member is where a member lies in its structure, in bytes.
type Member struct{ Offset, Size int }

// A Layout is where the members of structures lie, by "structure.member".
type Layout map[string]Member

// settle notes the place of a member if there is only one.
func (l Layout) settle(name string, size int, places []int) error {
	if len(places) != 1 {
		return fmt.Errorf("%s: %w: %d places: %v", name, ErrUnsure, len(places), places[:min(len(places), 8)])
	}
	if known, is := l[name]; is && known != (Member{places[0], size}) {
		return fmt.Errorf("%s: %w: at %d and at %d", name, ErrUnsure, known.Offset, places[0])
	}
	l[name] = Member{places[0], size}
	return nil
}

// within keeps the places in a range.
func within(places []int, from, to int) []int {
	return slices.DeleteFunc(places, func(at int) bool { return at < from || at >= to })
}
