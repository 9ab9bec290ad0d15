package kernel

import (
	"bytes"
	"context"
	"debug/elf"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"strings"
)

const (
	imageBase     = 0xffffffffc0000000 // where a module could be loaded
	importBase    = imageBase + 64<<20
	importStride  = 2 * maxPadding // each import is a function of its own
	maxImageBytes = importBase - imageBase
	maxTableBytes = 64 << 20 // of symbols, names or relocations; a vmlinux with all symbols has 20 MiB
	maxNoteBytes  = 64 << 10 // a kernel has a few hundred bytes
)

// ErrNotCode means that a file is neither a kernel module nor a kernel whose code can be
// read. The text says what it is.
var ErrNotCode = errors.New("no code to be read")

// An Image is a kernel module in a file (.ko), its code at addresses as if it were loaded
// and its imports at others; or a whole kernel (vmlinux), where it was linked to.
type Image struct {
	Module  string // what the file calls itself, such as xen_netfront; empty for a kernel
	BuildID string // in hexadecimal, as the kernel shows it for what is loaded; empty without one
	Code

	sections []imageSection
	placed   map[elf.SectionIndex]uint64 // address of each section of code
	symbols  Symbols
}

type imageSection struct {
	address, size uint64
	file          io.ReaderAt
	relocated     bool // the linker has calls to fill in
}

// ReadImage reads an uncompressed module, or a vmlinux with its symbols, for amd64 or
// arm64. Of the symbols of a vmlinux it keeps the wanted ones. Errors wrap [ErrNotCode] if
// the file is something else.
func ReadImage(file io.ReaderAt, want Wanted) (*Image, error) {
	object, err := elf.NewFile(file)
	if err != nil {
		return nil, fmt.Errorf("%w: it is not an ELF file: %w", ErrNotCode, err)
	}
	architecture := map[elf.Machine]string{elf.EM_X86_64: "amd64", elf.EM_AARCH64: "arm64"}[object.Machine]
	if architecture == "" || object.Class != elf.ELFCLASS64 || object.Data != elf.ELFDATA2LSB {
		return nil, fmt.Errorf("%w: it is for %s (%s), whose code is not analysed", ErrNotCode, object.Machine, object.Class)
	}
	for _, section := range object.Sections {
		table := section.Type == elf.SHT_SYMTAB || section.Type == elf.SHT_STRTAB || section.Type == elf.SHT_RELA
		if table && (section.FileSize > maxTableBytes || section.Size > maxTableBytes) {
			return nil, fmt.Errorf("%w: section %s has over %d MiB", ErrNotCode, section.Name, maxTableBytes>>20)
		}
	}
	i := &Image{BuildID: buildID(object), placed: make(map[elf.SectionIndex]uint64)}
	i.Code = Code{Architecture: architecture, Symbols: &i.symbols, Reader: i}
	i.symbols.seen = true
	relocatable := object.Type == elf.ET_REL
	switch object.Type {
	case elf.ET_REL:
		i.Module = moduleName(object)
		i.Relocated = make(map[uint64]uint64)
	case elf.ET_EXEC, elf.ET_DYN:
	default:
		return nil, fmt.Errorf("%w: it is an ELF file of type %s", ErrNotCode, object.Type)
	}
	if err := i.place(object, relocatable); err != nil {
		return nil, err
	}
	table, err := object.Symbols()
	if errors.Is(err, elf.ErrNoSymbols) || err == nil && len(table) == 0 {
		return nil, fmt.Errorf("%w: its symbols were stripped", ErrNotCode)
	}
	if err != nil {
		return nil, fmt.Errorf("%w: symbols: %w", ErrNotCode, err)
	}
	addresses := i.define(table, relocatable, want)
	if relocatable {
		return i, i.relocate(object, addresses)
	}
	return i, nil
}

// HasRelocations reports whether the linker has calls to fill in near an address, or had
// filled them in. Without, no call of a module could be seen.
func (i *Image) HasRelocations(address uint64) bool {
	section, found := i.sectionAt(address)
	return found && (i.Relocated == nil || section.relocated)
}

// ReadCode implements [CodeReader].
func (i *Image) ReadCode(_ context.Context, address uint64, buf []byte) error {
	section, found := i.sectionAt(address)
	if !found {
		return fmt.Errorf("address %#x is not in the file", address)
	}
	if n, err := section.file.ReadAt(buf, int64(address-section.address)); n < len(buf) {
		return fmt.Errorf("code in the file: %w", err)
	}
	return nil
}

func (i *Image) sectionAt(address uint64) (*imageSection, bool) {
	for n := range i.sections {
		if s := &i.sections[n]; address >= s.address && address-s.address < s.size {
			return s, true
		}
	}
	return nil, false
}

// place gives each section of code an address: pages of its own in a module.
func (i *Image) place(object *elf.File, relocatable bool) error {
	next := uint64(imageBase)
	for index, section := range object.Sections {
		if section.Type != elf.SHT_PROGBITS || section.Flags&elf.SHF_EXECINSTR == 0 || section.Size == 0 || section.Flags&elf.SHF_COMPRESSED != 0 {
			continue
		}
		address := section.Addr
		if relocatable {
			if section.Size > maxImageBytes || next-imageBase+section.Size+2*codePage > maxImageBytes {
				return fmt.Errorf("%w: it has over %d MiB of code", ErrNotCode, maxImageBytes>>20)
			}
			address, next = next, (next+section.Size+codePage-1)&^(codePage-1)+codePage
		}
		i.placed[elf.SectionIndex(index)] = address
		i.sections = append(i.sections, imageSection{address: address, size: section.Size, file: section.ReaderAt})
		i.symbols.addresses = append(i.symbols.addresses, address+section.Size) // the last function ends here
	}
	if len(i.sections) == 0 {
		return fmt.Errorf("%w: it has no code", ErrNotCode)
	}
	return nil
}

// define keeps the symbols, and returns the address of each by its index in relocations; 0
// for those that are not code.
func (i *Image) define(table []elf.Symbol, relocatable bool, want Wanted) []uint64 {
	addresses := make([]uint64, len(table)+1) // index 0 is the null symbol
	selected := newSymbolParser(want)
	imports := uint64(0)
	for n, entry := range table {
		base, isCode := i.placed[entry.Section]
		symbol := Symbol{Name: entry.Name, Address: entry.Value, Type: 't', Module: i.Module}
		switch {
		case isCode && relocatable:
			symbol.Address += base
		case isCode:
		case relocatable && entry.Section == elf.SHN_UNDEF && entry.Name != "":
			symbol.Address, symbol.Module = importBase+imports*importStride, ""
			imports++
		default:
			continue
		}
		addresses[n+1] = symbol.Address
		if elf.ST_TYPE(entry.Info) == elf.STT_SECTION || entry.Name == "" || entry.Name[0] == '$' { // arm64's mapping symbols
			continue
		}
		i.symbols.addresses = append(i.symbols.addresses, symbol.Address)
		if relocatable || selected.wanted([]byte(entry.Name), nil) {
			i.symbols.kept = append(i.symbols.kept, symbol)
		}
	}
	return addresses
}

func (i *Image) isBranch(kind uint32) bool {
	if i.Architecture == "amd64" {
		return kind == uint32(elf.R_X86_64_PC32) || kind == uint32(elf.R_X86_64_PLT32)
	}
	switch elf.R_AARCH64(kind) {
	case elf.R_AARCH64_CALL26, elf.R_AARCH64_JUMP26, elf.R_AARCH64_CONDBR19, elf.R_AARCH64_TSTBR14:
		return true
	}
	return false
}

func (i *Image) relocate(object *elf.File, addresses []uint64) error {
	for _, section := range object.Sections {
		base, isCode := i.placed[elf.SectionIndex(section.Info)]
		if section.Type != elf.SHT_RELA || !isCode {
			continue
		}
		entries, err := section.Data()
		if err != nil {
			return fmt.Errorf("%w: section %s: %w", ErrNotCode, section.Name, err)
		}
		of, _ := i.sectionAt(base)
		const entryBytes, operandBytes = 24, 4
		for ; len(entries) >= entryBytes; entries = entries[entryBytes:] {
			offset, info, addend := object.ByteOrder.Uint64(entries), object.ByteOrder.Uint64(entries[8:]), object.ByteOrder.Uint64(entries[16:])
			if !i.isBranch(elf.R_TYPE64(info)) {
				continue
			}
			symbol := elf.R_SYM64(info)
			if uint64(symbol) >= uint64(len(addresses)) || of.size < operandBytes || offset > of.size-operandBytes {
				return fmt.Errorf("%w: section %s: relocation at %#x is out of range", ErrNotCode, section.Name, offset)
			}
			to := addresses[symbol] + addend
			if i.Architecture == "amd64" {
				to += operandBytes // the distance counts from the end of the operand
			}
			i.Relocated[base+offset] = to
			of.relocated = true
		}
	}
	return nil
}

func moduleName(object *elf.File) string {
	const unnamed = "without a name"
	section := object.Section(".modinfo")
	if section == nil || section.Size > maxNoteBytes {
		return unnamed
	}
	info, err := section.Data()
	if err != nil {
		return unnamed
	}
	for entry := range bytes.SplitSeq(info, []byte{0}) {
		if name, is := strings.CutPrefix(string(entry), "name="); is {
			return name
		}
	}
	return unnamed
}

// buildID reads the note that the linker left in the file.
func buildID(object *elf.File) string {
	for _, name := range []string{".note.gnu.build-id", ".notes"} {
		section := object.Section(name)
		if section == nil || section.Size > maxNoteBytes {
			continue
		}
		if notes, err := section.Data(); err == nil {
			if id := BuildID(notes); id != "" {
				return id
			}
		}
	}
	return ""
}

// BuildID finds the linker's identification of a build among ELF notes, such as
// /sys/module/NAME/notes/.note.gnu.build-id, and returns it in hexadecimal; empty if
// there is none.
func BuildID(notes []byte) string {
	const header, kindBuildID = 12, 3
	for len(notes) >= header {
		size := func(at int) uint64 {
			return uint64(notes[at]) | uint64(notes[at+1])<<8 | uint64(notes[at+2])<<16 | uint64(notes[at+3])<<24
		}
		nameEnd := header + (size(0)+3)&^3
		end := nameEnd + (size(4)+3)&^3
		if end > uint64(len(notes)) {
			return ""
		}
		if size(8) == kindBuildID && bytes.HasPrefix(notes[header:nameEnd], []byte("GNU\x00")) {
			return hex.EncodeToString(notes[nameEnd : nameEnd+size(4)])
		}
		notes = notes[end:]
	}
	return ""
}
