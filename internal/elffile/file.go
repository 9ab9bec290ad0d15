// Package elffile reads ELF files of untrusted origin. Unlike debug/elf it allocates
// nothing by a size that the file claims before that size is checked against a limit and
// against the size of the file, and it never decompresses.
package elffile

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// Limits on what a file may have. Linked programs and kernels have fewer than 100
// sections; modules have some hundreds.
const (
	MaxSections = 4096
	MaxSegments = 512

	// MaxName bounds the name of a symbol, in bytes. The kernel's own limit is 512.
	MaxName = 512
)

// ErrMalformed means that a file is not an ELF file, contradicts itself or is over a limit.
// The text names it.
var ErrMalformed = errors.New("malformed ELF file")

func malformed(format string, args ...any) error {
	return fmt.Errorf("%w: "+format, append([]any{ErrMalformed}, args...)...)
}

// A File is the headers of an ELF file.
type File struct {
	Class    elf.Class
	Order    binary.ByteOrder
	Type     elf.Type
	Machine  elf.Machine
	Sections []Section
	Segments []Segment

	reader io.ReaderAt
	size   uint64
	names  int // index of the section with the names of sections
}

// A Section is one entry of the section table. Offset and Size lie within the file unless
// the type is SHT_NOBITS.
type Section struct {
	Type         elf.SectionType
	Flags        elf.SectionFlag
	Address      uint64
	Offset, Size uint64
	Link, Info   uint32

	name uint32
}

// A Segment is one entry of the program header table.
type Segment struct {
	Type             elf.ProgType
	Offset, FileSize uint64
	Address          uint64
}

// A layout is where the ELF header of one class has what is read, in bytes.
type layout struct {
	header, section, segment int // sizes
	segments, sections       int // where the offsets of the tables are
	counts                   int // from phnum on: phnum, shentsize, shnum, shstrndx
	address                  int // size of an address
}

func layoutOf(class elf.Class) (layout, bool) {
	switch class {
	case elf.ELFCLASS32:
		return layout{header: 52, section: 40, segment: 32, segments: 28, sections: 32, counts: 44, address: 4}, true
	case elf.ELFCLASS64:
		return layout{header: 64, section: 64, segment: 56, segments: 32, sections: 40, counts: 56, address: 8}, true
	}
	return layout{}, false
}

// Read reads the headers of a file of that many bytes. Errors wrap [ErrMalformed] unless
// the file cannot be read.
func Read(reader io.ReaderAt, size int64) (*File, error) {
	f := &File{reader: reader, size: uint64(max(size, 0))}
	ident, err := f.bytes(0, elf.EI_NIDENT, elf.EI_NIDENT)
	if err != nil {
		return nil, err
	}
	if !bytes.HasPrefix(ident, []byte(elf.ELFMAG)) {
		return nil, malformed("bad magic number")
	}
	f.Class = elf.Class(ident[elf.EI_CLASS])
	l, known := layoutOf(f.Class)
	switch elf.Data(ident[elf.EI_DATA]) {
	case elf.ELFDATA2LSB:
		f.Order = binary.LittleEndian
	case elf.ELFDATA2MSB:
		f.Order = binary.BigEndian
	default:
		known = false
	}
	if !known || elf.Version(ident[elf.EI_VERSION]) != elf.EV_CURRENT {
		return nil, malformed("unknown class, byte order or version")
	}
	header, err := f.bytes(0, uint64(l.header), uint64(l.header))
	if err != nil {
		return nil, err
	}
	f.Type, f.Machine = elf.Type(f.Order.Uint16(header[16:])), elf.Machine(f.Order.Uint16(header[18:]))
	if err := f.readSegments(l, header); err != nil {
		return nil, err
	}
	return f, f.readSections(l, header)
}

// word reads an address, offset or size of the file's class.
func (f *File) word(b []byte) uint64 {
	if f.Class == elf.ELFCLASS32 {
		return uint64(f.Order.Uint32(b))
	}
	return f.Order.Uint64(b)
}

func (f *File) readSegments(l layout, header []byte) error {
	count := int(f.Order.Uint16(header[l.counts:]))
	table, err := f.table("program header", f.word(header[l.segments:]), f.Order.Uint16(header[l.counts-2:]), count, l.segment, MaxSegments)
	if err != nil {
		return err
	}
	f.Segments = make([]Segment, count)
	for n := range f.Segments {
		b := table[n*l.segment:]
		offset := l.address // 32-bit: type, offset, vaddr, paddr, filesz; 64-bit has flags behind the type
		f.Segments[n] = Segment{
			Type: elf.ProgType(f.Order.Uint32(b)), Offset: f.word(b[offset:]),
			Address: f.word(b[offset+l.address:]), FileSize: f.word(b[offset+3*l.address:]),
		}
	}
	return nil
}

func (f *File) readSections(l layout, header []byte) error {
	count, names := int(f.Order.Uint16(header[l.counts+4:])), int(f.Order.Uint16(header[l.counts+6:]))
	at := f.word(header[l.sections:])
	if count == 0 && at != 0 {
		return malformed("over %d sections", MaxSections) // 65,280 or more, counted elsewhere
	}
	table, err := f.table("section", at, f.Order.Uint16(header[l.counts+2:]), count, l.section, MaxSections)
	if err != nil {
		return err
	}
	f.Sections, f.names = make([]Section, count), names
	for n := range f.Sections {
		b, words := table[n*l.section:], 8 // name and type, then flags, address, offset and size
		s := Section{
			name: f.Order.Uint32(b), Type: elf.SectionType(f.Order.Uint32(b[4:])),
			Flags: elf.SectionFlag(f.word(b[words:])), Address: f.word(b[words+l.address:]),
			Offset: f.word(b[words+2*l.address:]), Size: f.word(b[words+3*l.address:]),
			Link: f.Order.Uint32(b[words+4*l.address:]), Info: f.Order.Uint32(b[words+4*l.address+4:]),
		}
		if s.Type != elf.SHT_NOBITS && s.Type != elf.SHT_NULL && !f.holds(s.Offset, s.Size) {
			return malformed("section %d lies outside the file", n)
		}
		f.Sections[n] = s
	}
	return nil
}

// table reads a header table. Entries of another size than the class has are refused: they
// would multiply what has to be read.
func (f *File) table(what string, at uint64, entry uint16, count, want, limit int) ([]byte, error) {
	switch {
	case count == 0:
		return nil, nil
	case count > limit:
		return nil, malformed("%d %ss, limit is %d", count, what, limit)
	case int(entry) != want:
		return nil, malformed("%s of %d bytes, want %d", what, entry, want)
	}
	return f.bytes(at, uint64(count*want), uint64(limit*want))
}

// holds reports whether the file has that part.
func (f *File) holds(at, length uint64) bool { return at <= f.size && length <= f.size-at }

// bytes reads a part of the file of at most limit bytes.
func (f *File) bytes(at, length, limit uint64) ([]byte, error) {
	if length > limit {
		return nil, malformed("%d bytes, limit is %d", length, limit)
	}
	if !f.holds(at, length) {
		return nil, malformed("%d bytes at %#x lie outside the file", length, at)
	}
	b := make([]byte, length)
	if n, err := f.reader.ReadAt(b, int64(at)); n < len(b) {
		return nil, readError(err)
	}
	return b, nil
}

// readError takes a file that became shorter since its size was asked for as malformed.
func readError(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return malformed("it ends early")
	}
	return err
}
