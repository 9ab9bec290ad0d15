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
	imageBase     = 0xffffffffc0000000 // where a module could be loaded; any page would do
	importBase    = imageBase + 64<<20 // in reach of arm64's calls
	importStride  = 128                // more than maxPrologueBytes: each import is a function of its own
	pageBytes     = 4096
	maxImageBytes = importBase - imageBase
)

// ErrNotADriver means that a file is neither a kernel module nor a kernel whose
// code can be read. The text says what it is.
var ErrNotADriver = errors.New("no driver to be read")

// An Image is a kernel module in a file (.ko), laid out as if it were loaded: its
// code at addresses of its own, its imports at others, relocations applied; or a
// whole kernel (vmlinux), where it was linked to. It serves [DriverLinearizes]
// like the running kernel.
type Image struct {
	Module       string // what the file calls itself, such as xen_netfront; empty for a kernel
	BuildID      string // in hexadecimal, as the kernel shows it of what is loaded; empty where there is none
	Architecture string // in Go's name of it

	machine   machine
	symbols   Symbols
	sections  []imageSection
	placed    map[elf.SectionIndex]uint64
	relocated map[uint64]int // places in each section where a call or jump was filled in
}

type imageSection struct {
	address, size uint64
	code          []byte      // of a module
	file          io.ReaderAt // of a kernel, whose code is large
}

// ReadImage reads an uncompressed module, or a vmlinux with its symbols, for
// amd64 or arm64. Errors wrap [ErrNotADriver] if the file is something else.
func ReadImage(file io.ReaderAt) (*Image, error) {
	object, err := elf.NewFile(file)
	if err != nil {
		return nil, fmt.Errorf("%w: it is no ELF file: %w", ErrNotADriver, err)
	}
	machine, known := machines()[object.Machine]
	if !known || object.Class != elf.ELFCLASS64 || object.Data != elf.ELFDATA2LSB {
		return nil, fmt.Errorf("%w: it is for %s, whose code is not read", ErrNotADriver, object.Machine)
	}
	image := &Image{
		Architecture: machine.architecture, BuildID: buildID(object), machine: machine,
		placed: map[elf.SectionIndex]uint64{}, relocated: map[uint64]int{},
	}
	switch object.Type {
	case elf.ET_REL:
		err = image.readModule(object)
	case elf.ET_EXEC, elf.ET_DYN:
		err = image.readKernel(object)
	default:
		err = fmt.Errorf("%w: it is an ELF file of type %s", ErrNotADriver, object.Type)
	}
	if err != nil {
		return nil, err
	}
	return image, nil
}

// readModule reads a relocatable object.
func (i *Image) readModule(object *elf.File) error {
	i.Module = moduleName(object)
	if err := i.place(object); err != nil {
		return err
	}
	table, err := symbolTable(object)
	if err != nil {
		return err
	}
	return i.relocate(object, i.machine, i.define(table))
}

// symbolTable reads the symbols, and says what it means if there are none.
func symbolTable(object *elf.File) ([]elf.Symbol, error) {
	table, err := object.Symbols()
	if errors.Is(err, elf.ErrNoSymbols) || err == nil && len(table) == 0 {
		return nil, fmt.Errorf("%w: its symbols were stripped", ErrNotADriver)
	}
	if err != nil {
		return nil, fmt.Errorf("%w: symbols: %w", ErrNotADriver, err)
	}
	return table, nil
}

// Linearizes is [DriverLinearizes] for the driver in the file.
func (i *Image) Linearizes(ctx context.Context) (Answer, error) {
	entries := textOf(i.symbols.Lookup(transmitFunction))
	if len(entries) == 0 {
		return Answer{Unknown, i.withoutDriver()}, nil
	}
	for _, entry := range entries {
		// Calls of a module all go nowhere before they are relocated, so none
		// of them would be seen.
		if section, is := i.sectionAt(entry.Address); !is || section.file == nil && i.relocated[section.address] == 0 {
			return Answer{Unknown, "the file has no relocations for the code of " + transmitFunction}, nil
		}
	}
	return driverLinearizes(ctx, i.Architecture, &i.symbols, i)
}

// withoutDriver says why the file has no transmit function.
func (i *Image) withoutDriver() string {
	switch i.Module {
	case "":
		return "this file has no function " + transmitFunction + ": it is a kernel without xen-netfront built in, or its symbols were stripped"
	case driverModule:
		return "the symbol " + transmitFunction + " was stripped from this file"
	default:
		return fmt.Sprintf("this file is the module %s, not %s", i.Module, driverModule)
	}
}

// ReadCode implements [CodeReader].
func (i *Image) ReadCode(_ context.Context, address uint64, buf []byte) error {
	section, found := i.sectionAt(address)
	if !found {
		return fmt.Errorf("address %#x is not in the file", address)
	}
	at := address - section.address
	if section.file == nil {
		clear(buf[copy(buf, section.code[at:]):])
		return nil
	}
	n, err := section.file.ReadAt(buf, int64(at))
	clear(buf[n:])
	if err != nil && !errors.Is(err, io.EOF) {
		return fmt.Errorf("code in the file: %w", err)
	}
	return nil
}

func (i *Image) sectionAt(address uint64) (imageSection, bool) {
	for _, section := range i.sections {
		if address >= section.address && address-section.address < section.size {
			return section, true
		}
	}
	return imageSection{}, false
}

func isCode(section *elf.Section) bool {
	return section.Type == elf.SHT_PROGBITS && section.Flags&elf.SHF_EXECINSTR != 0 && section.Size != 0
}

// place gives each section of code pages of its own, with at least one between
// two of them.
func (i *Image) place(object *elf.File) error {
	next := uint64(imageBase)
	for index, section := range object.Sections {
		if !isCode(section) {
			continue
		}
		if section.Size > maxImageBytes || next-imageBase+section.Size+2*pageBytes > maxImageBytes {
			return fmt.Errorf("%w: it has more than %d MiB of code", ErrNotADriver, maxImageBytes>>20)
		}
		code, err := section.Data()
		if err != nil {
			return fmt.Errorf("%w: section %s: %w", ErrNotADriver, section.Name, err)
		}
		i.placed[elf.SectionIndex(index)] = next
		i.sections = append(i.sections, imageSection{address: next, size: uint64(len(code)), code: code})
		end := next + uint64(len(code))
		i.symbols.addresses = append(i.symbols.addresses, end) // the last function ends here
		next = (end+pageBytes-1)&^(pageBytes-1) + pageBytes
	}
	if len(i.sections) == 0 {
		return fmt.Errorf("%w: it has no code", ErrNotADriver)
	}
	i.symbols.seen = true
	return nil
}

// define takes over the module's symbols, and returns the address of each by its
// index in relocations; 0 for those that are not code.
func (i *Image) define(table []elf.Symbol) []uint64 {
	addresses := make([]uint64, len(table)+1) // index 0 is the null symbol
	imports := uint64(0)
	for n, entry := range table {
		base, isCode := i.placed[entry.Section]
		symbol := Symbol{Name: entry.Name, Type: 't', Module: driverModule}
		switch {
		case isCode:
			symbol.Address = base + entry.Value
		case entry.Section == elf.SHN_UNDEF && entry.Name != "":
			symbol.Address, symbol.Module = importBase+imports*importStride, ""
			imports++
		default:
			continue
		}
		addresses[n+1] = symbol.Address
		if elf.ST_TYPE(entry.Info) != elf.STT_SECTION && named(entry.Name) {
			i.symbols.addresses = append(i.symbols.addresses, symbol.Address)
			i.symbols.kept = append(i.symbols.kept, symbol)
		}
	}
	return addresses
}

// named is false for the assembler's marks inside functions (arm64), and for what
// has no name.
func named(symbol string) bool { return symbol != "" && symbol[0] != '$' }

func (i *Image) codeAt(address uint64) []byte {
	for _, section := range i.sections {
		if section.address == address {
			return section.code
		}
	}
	return nil
}

// moduleName reads what the module calls itself.
func moduleName(object *elf.File) string {
	const unnamed = "without a name"
	section := object.Section(".modinfo")
	if section == nil {
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

// maxNoteBytes bounds what is read of notes; a kernel has a few hundred bytes.
const maxNoteBytes = 64 << 10

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
