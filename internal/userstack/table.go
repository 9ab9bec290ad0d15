package userstack

import (
	"debug/elf"
	"io"
)

// tableChunk is how many symbols are read at a time.
const tableChunk = 2048

// An entry is one symbol of a table.
type entry struct {
	name        uint32 // where it is in the table of names
	value, size uint64
}

// closest returns the function that an address is in: of several the last that begins
// before it, and of those at one place the first.
func (i *image) closest(table *elf.Section, address uint64) (best entry, found bool) {
	length := 24
	if i.Class == elf.ELFCLASS32 {
		length = 16
	}
	buffer := make([]byte, length*tableChunk)
	rest := io.NewSectionReader(i.reader, int64(table.Offset), int64(table.FileSize))
	for {
		n, err := io.ReadFull(rest, buffer)
		for at := 0; at+length <= n; at += length {
			e, isFunction := i.entry(buffer[at : at+length])
			if isFunction && e.holds(address) && (!found || e.value > best.value) {
				best, found = e, true
			}
		}
		if err != nil {
			return best, found // the end, or what there is of a file that was cut off
		}
	}
}

// entry decodes a symbol, and tells if it is a function with a place in the file.
func (i *image) entry(raw []byte) (entry, bool) {
	order := i.ByteOrder
	e := entry{name: order.Uint32(raw)}
	var info byte
	var section uint16
	if i.Class == elf.ELFCLASS32 {
		e.value, e.size = uint64(order.Uint32(raw[4:])), uint64(order.Uint32(raw[8:]))
		info, section = raw[12], order.Uint16(raw[14:])
	} else {
		info, section = raw[4], order.Uint16(raw[6:])
		e.value, e.size = order.Uint64(raw[8:]), order.Uint64(raw[16:])
	}
	kind := elf.ST_TYPE(info)
	function := kind == elf.STT_FUNC || kind == elf.STT_GNU_IFUNC || kind == elf.STT_NOTYPE && e.size == 0
	return e, function && e.name != 0 && e.value != 0 && section != uint16(elf.SHN_UNDEF)
}

func (e *entry) holds(address uint64) bool {
	if address < e.value {
		return false
	}
	if e.size == 0 {
		return address-e.value < maxGap
	}
	return address-e.value < e.size
}
