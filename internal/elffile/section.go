package elffile

import (
	"bytes"
	"debug/elf"
	"io"
)

// HasContent reports whether the section's bytes are in the file as they are: it is neither
// compressed nor of a type without bytes.
func (s *Section) HasContent() bool {
	return s.Flags&elf.SHF_COMPRESSED == 0 && s.Type != elf.SHT_NOBITS && s.Type != elf.SHT_NULL
}

// Named returns the first section of that name; nil if there is none.
func (f *File) Named(name string) *Section {
	if f.names >= len(f.Sections) || !f.Sections[f.names].HasContent() {
		return nil
	}
	names, want := &f.Sections[f.names], append([]byte(name), 0)
	got := make([]byte, len(want))
	for n := range f.Sections {
		s := &f.Sections[n]
		if uint64(s.name) > names.Size || uint64(len(want)) > names.Size-uint64(s.name) {
			continue
		}
		if read, _ := f.reader.ReadAt(got, int64(names.Offset+uint64(s.name))); read == len(got) && bytes.Equal(got, want) {
			return s
		}
	}
	return nil
}

// OfType returns the first section of that type; nil if there is none.
func (f *File) OfType(kind elf.SectionType) *Section {
	for n := range f.Sections {
		if f.Sections[n].Type == kind {
			return &f.Sections[n]
		}
	}
	return nil
}

// Linked returns the section that s links to, such as the names of a symbol table, if it
// has that type and content; nil otherwise.
func (f *File) Linked(s *Section, kind elf.SectionType) *Section {
	if uint64(s.Link) >= uint64(len(f.Sections)) {
		return nil
	}
	linked := &f.Sections[s.Link]
	if linked.Type != kind || !linked.HasContent() {
		return nil
	}
	return linked
}

// Content reads a section of at most limit bytes.
func (f *File) Content(s *Section, limit uint64) ([]byte, error) {
	if !s.HasContent() {
		return nil, malformed("section is compressed or empty")
	}
	return f.bytes(s.Offset, s.Size, limit)
}

// Open returns the section's bytes for reading in parts.
func (f *File) Open(s *Section) *io.SectionReader {
	if !s.HasContent() {
		return io.NewSectionReader(f.reader, 0, 0)
	}
	return io.NewSectionReader(f.reader, int64(s.Offset), int64(s.Size))
}

// chunkEntries bounds what is in memory of a table that is read entry by entry.
const chunkEntries = 2048

// Entries calls do with each entry of so many bytes, in order, until it returns an error.
// The entry is valid until do returns. Bytes behind the last whole entry are ignored.
func (f *File) Entries(s *Section, length int, do func(entry []byte) error) error {
	buffer := make([]byte, length*chunkEntries)
	rest := f.Open(s)
	for left := rest.Size() / int64(length); left > 0; {
		chunk := buffer[:length*int(min(left, chunkEntries))]
		if _, err := io.ReadFull(rest, chunk); err != nil {
			return readError(err)
		}
		for ; len(chunk) > 0; chunk = chunk[length:] {
			if err := do(chunk[:length]); err != nil {
				return err
			}
			left--
		}
	}
	return nil
}

// A Symbol is one entry of a symbol table.
type Symbol struct {
	Name        uint32 // where its name is in the table of names
	Info        byte
	Section     elf.SectionIndex
	Value, Size uint64
}

// Symbols calls do with each symbol of a table, the null symbol included, until it returns
// an error.
func (f *File) Symbols(table *Section, do func(Symbol) error) error {
	if f.Class == elf.ELFCLASS32 {
		return f.Entries(table, elf.Sym32Size, func(b []byte) error {
			return do(Symbol{
				Name: f.Order.Uint32(b), Info: b[12], Section: elf.SectionIndex(f.Order.Uint16(b[14:])),
				Value: uint64(f.Order.Uint32(b[4:])), Size: uint64(f.Order.Uint32(b[8:])),
			})
		})
	}
	return f.Entries(table, elf.Sym64Size, func(b []byte) error {
		return do(Symbol{
			Name: f.Order.Uint32(b), Info: b[4], Section: elf.SectionIndex(f.Order.Uint16(b[6:])),
			Value: f.Order.Uint64(b[8:]), Size: f.Order.Uint64(b[16:]),
		})
	})
}

// String reads a string of a table of names, of which it returns at most [MaxName] bytes;
// empty if there is none.
func (f *File) String(names *Section, at uint32) string {
	if !names.HasContent() || uint64(at) >= names.Size {
		return ""
	}
	text := make([]byte, min(MaxName, names.Size-uint64(at)))
	n, _ := f.reader.ReadAt(text, int64(names.Offset+uint64(at)))
	text, _, _ = bytes.Cut(text[:n], []byte{0})
	return string(text)
}
