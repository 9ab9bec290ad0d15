package userstack

import (
	"debug/elf"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
)

// Larger ones are not looked at: a name is not worth the time.
const (
	maxFileBytes  = 4 << 30
	maxTableBytes = 32 << 20 // of symbols, 24 bytes each
	maxSections   = 4096
	maxSegments   = 512
	maxNotes      = 4096 // bytes
	maxNameBytes  = 512
	maxGap        = 64 << 10 // from a symbol without a size to an address in it
)

type symbol struct {
	name   string
	offset uint64 // of the address in the function
}

// search looks for the function at an offset of the file: in its table of symbols, in
// that of its debug file, and in what it offers to others.
func (n *Namer) search(file *openFile, offset uint64) (symbol, bool) {
	image, err := parseImage(file, file.size)
	if err != nil {
		return symbol{}, false
	}
	address, ok := image.addressOf(offset)
	if !ok {
		return symbol{}, false
	}
	if s, found := image.find(elf.SHT_SYMTAB, address); found {
		return s, true
	}
	if debug, err := n.openDebug(image.buildID()); err == nil {
		defer debug.Close()
		if image, err := parseImage(debug, debug.size); err == nil {
			if s, found := image.find(elf.SHT_SYMTAB, address); found {
				return s, true
			}
		}
	}
	return image.find(elf.SHT_DYNSYM, address)
}

func (n *Namer) openDebug(build []byte) (*openFile, error) {
	if len(build) < 2 {
		return nil, os.ErrNotExist
	}
	name := hex.EncodeToString(build)
	file, err := os.Open(n.debug + "/.build-id/" + name[:2] + "/" + name[2:] + ".debug")
	if err != nil {
		return nil, fmt.Errorf("debug file: %w", err)
	}
	return regular(file)
}

type image struct {
	*elf.File
	reader io.ReaderAt
}

var errTooLarge = errors.New("larger than is looked at")

func parseImage(reader io.ReaderAt, size int64) (*image, error) {
	if size > maxFileBytes {
		return nil, errTooLarge
	}
	if err := checkOutline(reader); err != nil {
		return nil, err
	}
	file, err := elf.NewFile(io.NewSectionReader(reader, 0, size))
	if err != nil {
		return nil, fmt.Errorf("ELF file: %w", err)
	}
	return &image{file, reader}, nil
}

// checkOutline refuses a file that says it has more sections than is sensible, before
// room is made for them. One that has them counted elsewhere says 0.
func checkOutline(reader io.ReaderAt) error {
	var header [64]byte
	if _, err := reader.ReadAt(header[:], 0); err != nil {
		return fmt.Errorf("ELF header: %w", err)
	}
	segmentsAt, sectionsAt := 0x38, 0x3c
	if elf.Class(header[elf.EI_CLASS]) == elf.ELFCLASS32 {
		segmentsAt, sectionsAt = 0x2c, 0x30
	}
	number := func(at int) int {
		if elf.Data(header[elf.EI_DATA]) == elf.ELFDATA2MSB {
			return int(header[at])<<8 | int(header[at+1])
		}
		return int(header[at+1])<<8 | int(header[at])
	}
	if sections := number(sectionsAt); sections == 0 || sections > maxSections || number(segmentsAt) > maxSegments {
		return errTooLarge
	}
	return nil
}

// addressOf returns where an offset of the file is loaded, before relocation.
func (i *image) addressOf(offset uint64) (uint64, bool) {
	for _, p := range i.Progs {
		if p.Type == elf.PT_LOAD && offset >= p.Off && offset-p.Off < p.Filesz {
			return offset - p.Off + p.Vaddr, true
		}
	}
	return 0, false
}

// buildID returns the number that ties a program to its debug file; nil without one.
func (i *image) buildID() []byte {
	section := i.Section(".note.gnu.build-id")
	if section == nil || section.Flags&elf.SHF_COMPRESSED != 0 || section.FileSize > maxNotes {
		return nil
	}
	note := make([]byte, section.FileSize)
	if _, err := i.reader.ReadAt(note, int64(section.Offset)); err != nil {
		return nil
	}
	const header = 16 // three numbers, and "GNU"
	if len(note) <= header || string(note[12:16]) != "GNU\x00" {
		return nil
	}
	length := i.ByteOrder.Uint32(note[4:])
	if uint64(length) > uint64(len(note)-header) {
		return nil
	}
	return note[header : header+length]
}

func (i *image) find(kind elf.SectionType, address uint64) (symbol, bool) {
	table := i.SectionByType(kind)
	if table == nil || table.Flags&elf.SHF_COMPRESSED != 0 || table.FileSize > maxTableBytes || table.Link >= uint32(len(i.Sections)) {
		return symbol{}, false
	}
	names := i.Sections[table.Link]
	if names.Type != elf.SHT_STRTAB || names.Flags&elf.SHF_COMPRESSED != 0 {
		return symbol{}, false
	}
	best, found := i.closest(table, address)
	if !found {
		return symbol{}, false
	}
	name := i.name(names, best.name)
	return symbol{name: name, offset: address - best.value}, name != ""
}

func (i *image) name(names *elf.Section, at uint32) string {
	if uint64(at) >= names.FileSize {
		return ""
	}
	text := make([]byte, min(maxNameBytes, names.FileSize-uint64(at)))
	n, _ := i.reader.ReadAt(text, int64(names.Offset+uint64(at))) // what there is of it
	for end, c := range text[:n] {
		if c == 0 {
			return string(text[:end])
		}
	}
	return ""
}

const tableChunk = 2048

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
