package kernel

import (
	"bytes"
	"context"
	"debug/elf"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"xentrace/internal/elffile"
)

const (
	imageBase     = 0xffffffffc0000000 // where a module could be loaded
	importBase    = imageBase + 64<<20
	importStride  = 2 * maxPadding // each import is a function of its own
	maxImageBytes = importBase - imageBase
)

// Limits on what is read of a file, so that a malformed one takes no more memory than a
// large kernel.
const (
	maxTableBytes  = 32 << 20 // of symbols or names; a vmlinux with all symbols has 20 MiB
	maxNoteBytes   = 64 << 10 // a kernel has a few hundred bytes
	maxKeptSymbols = 4096     // xen-netfront has about 300
	maxRelocations = 64 << 10 // of code; xen-netfront has about 2,000
)

// ErrNotCode means that a file is neither a kernel module nor a kernel whose code can be
// read. The text names it.
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
// arm64, from a file of that many bytes. Of the symbols of a vmlinux it keeps the wanted
// ones, and of a module that has a name all or, if it is not wanted, none. Errors wrap
// [ErrNotCode] if the file is something else.
func ReadImage(file io.ReaderAt, size int64, want Wanted) (*Image, error) {
	object, err := elffile.Read(file, size)
	if err != nil {
		magic := make([]byte, len(elf.ELFMAG))
		if _, err := file.ReadAt(magic, 0); err != nil || string(magic) != elf.ELFMAG {
			return nil, fmt.Errorf("%w: it is not an ELF file", ErrNotCode)
		}
		return nil, fmt.Errorf("%w: it is an ELF file that is cut off or damaged", ErrNotCode)
	}
	architecture := map[elf.Machine]string{elf.EM_X86_64: "amd64", elf.EM_AARCH64: "arm64"}[object.Machine]
	if architecture == "" || object.Class != elf.ELFCLASS64 || object.Order != binary.ByteOrder(binary.LittleEndian) {
		return nil, fmt.Errorf("%w: it is for %s (%s), whose code is not analysed", ErrNotCode, object.Machine, object.Class)
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
	if relocatable && i.Module != unnamed && !slices.Contains(want.Modules, i.Module) {
		return i, nil
	}
	addresses, err := i.define(object, relocatable, want)
	if err != nil {
		return nil, err
	}
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
func (i *Image) place(object *elffile.File, relocatable bool) error {
	next := uint64(imageBase)
	for index := range object.Sections {
		section := &object.Sections[index]
		if section.Type != elf.SHT_PROGBITS || section.Flags&elf.SHF_EXECINSTR == 0 || section.Size == 0 || !section.HasContent() {
			continue
		}
		address := section.Address
		if relocatable {
			if section.Size > maxImageBytes || next-imageBase+section.Size+2*codePage > maxImageBytes {
				return fmt.Errorf("%w: it has over %d MiB of code", ErrNotCode, maxImageBytes>>20)
			}
			address, next = next, (next+section.Size+codePage-1)&^(codePage-1)+codePage
		}
		i.placed[elf.SectionIndex(index)] = address
		i.sections = append(i.sections, imageSection{address: address, size: section.Size, file: object.Open(section)})
		i.symbols.addresses = append(i.symbols.addresses, address+section.Size) // the last function ends here
	}
	if len(i.sections) == 0 {
		return fmt.Errorf("%w: it has no code", ErrNotCode)
	}
	return nil
}

// define keeps the symbols, and returns the address of each by its index in relocations; 0
// for those that are not code, and none at all for a kernel.
func (i *Image) define(object *elffile.File, relocatable bool, want Wanted) ([]uint64, error) {
	table := object.OfType(elf.SHT_SYMTAB)
	if table == nil || table.Size <= elf.Sym64Size { // the null symbol
		return nil, fmt.Errorf("%w: its symbols were stripped", ErrNotCode)
	}
	if table.Size > maxTableBytes {
		return nil, fmt.Errorf("%w: its symbols have over %d MiB", ErrNotCode, maxTableBytes>>20)
	}
	section := object.Linked(table, elf.SHT_STRTAB)
	if section == nil {
		return nil, fmt.Errorf("%w: its symbols have no names", ErrNotCode)
	}
	names, err := object.Content(section, maxTableBytes)
	if err != nil {
		return nil, fmt.Errorf("%w: names of symbols: %w", ErrNotCode, err)
	}
	var addresses []uint64
	imports, selected := uint64(0), newSymbolParser(want)
	err = object.Symbols(table, func(entry elffile.Symbol) error {
		name := nameAt(names, entry.Name)
		symbol, isCode := i.symbolOf(entry, relocatable)
		if !isCode && relocatable && entry.Section == elf.SHN_UNDEF && len(name) > 0 {
			symbol = Symbol{Address: importBase + imports*importStride, Type: 't'}
			imports, isCode = imports+1, true
		}
		if relocatable {
			addresses = append(addresses, symbol.Address)
		}
		if !isCode || elf.ST_TYPE(entry.Info) == elf.STT_SECTION || len(name) == 0 || name[0] == '$' { // arm64's mapping symbols
			return nil
		}
		i.symbols.addresses = append(i.symbols.addresses, symbol.Address)
		if !relocatable && !selected.wanted(name, nil) {
			return nil
		}
		if symbol.Name = string(name); len(i.symbols.kept) >= maxKeptSymbols {
			return fmt.Errorf("over %d", maxKeptSymbols)
		}
		i.symbols.kept = append(i.symbols.kept, symbol)
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("%w: symbols: %w", ErrNotCode, err)
	}
	return addresses, nil
}

// symbolOf returns a symbol without its name, and false unless it is in a section of code.
func (i *Image) symbolOf(entry elffile.Symbol, relocatable bool) (Symbol, bool) {
	base, isCode := i.placed[entry.Section]
	if !isCode {
		return Symbol{}, false
	}
	symbol := Symbol{Address: entry.Value, Type: 't', Module: i.Module}
	if relocatable {
		symbol.Address += base
	}
	return symbol, true
}

// nameAt returns the name there, of at most [elffile.MaxName] bytes: names may overlap, so
// the size of their table does not bound what they have together.
func nameAt(names []byte, at uint32) []byte {
	if uint64(at) >= uint64(len(names)) {
		return nil
	}
	names = names[at:]
	name, _, _ := bytes.Cut(names[:min(len(names), elffile.MaxName)], []byte{0})
	return name
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

func (i *Image) relocate(object *elffile.File, addresses []uint64) error {
	left := maxRelocations
	for n := range object.Sections {
		section := &object.Sections[n]
		base, isCode := i.placed[elf.SectionIndex(section.Info)]
		if section.Type != elf.SHT_RELA || !isCode {
			continue
		}
		of, _ := i.sectionAt(base)
		const entryBytes, operandBytes = 24, 4
		err := object.Entries(section, entryBytes, func(entry []byte) error {
			if left--; left < 0 {
				return fmt.Errorf("over %d relocations", maxRelocations)
			}
			offset, info, addend := object.Order.Uint64(entry), object.Order.Uint64(entry[8:]), object.Order.Uint64(entry[16:])
			if !i.isBranch(elf.R_TYPE64(info)) {
				return nil
			}
			symbol := elf.R_SYM64(info)
			if uint64(symbol) >= uint64(len(addresses)) || of.size < operandBytes || offset > of.size-operandBytes {
				return fmt.Errorf("relocation at %#x is out of range", offset)
			}
			to := addresses[symbol] + addend
			if i.Architecture == "amd64" {
				to += operandBytes // the distance counts from the end of the operand
			}
			i.Relocated[base+offset] = to
			of.relocated = true
			return nil
		})
		if err != nil {
			return fmt.Errorf("%w: section %d: %w", ErrNotCode, n, err)
		}
	}
	return nil
}

const unnamed = "without a name"

func moduleName(object *elffile.File) string {
	section := object.Named(".modinfo")
	if section == nil {
		return unnamed
	}
	info, err := object.Content(section, maxNoteBytes)
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
func buildID(object *elffile.File) string {
	for _, name := range []string{".note.gnu.build-id", ".notes"} {
		section := object.Named(name)
		if section == nil {
			continue
		}
		if notes, err := object.Content(section, maxNoteBytes); err == nil {
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
