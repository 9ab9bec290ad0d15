package kernel

import (
	"context"
	"debug/elf"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

const (
	imageBase    = 0xffffffffc0000000 // where a module could be loaded; any page would do
	importBase   = 0xffffffffa0000000
	importStride = 128 // more than maxPrologueBytes: each import is a function of its own
	pageBytes    = 4096
)

// ErrNotADriver means that a file is no kernel module that can be read.
var ErrNotADriver = errors.New("not a relocatable kernel module")

// An Image is a kernel module in a file (.ko), laid out as if it were loaded: its
// code at addresses of its own, its imports at others, relocations applied.
// It serves [DriverLinearizes] like the running kernel.
type Image struct {
	architecture string
	symbols      Symbols
	sections     []imageSection
	placed       map[elf.SectionIndex]uint64
}

type imageSection struct {
	address uint64
	code    []byte
}

// ReadImage reads an uncompressed module for amd64. Errors wrap [ErrNotADriver]
// if the file is something else.
func ReadImage(file io.ReaderAt) (*Image, error) {
	object, err := elf.NewFile(file)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrNotADriver, err)
	}
	if object.Type != elf.ET_REL || object.Machine != elf.EM_X86_64 {
		return nil, fmt.Errorf("%w: it is %s for %s", ErrNotADriver, object.Type, object.Machine)
	}
	image := &Image{architecture: "amd64", placed: map[elf.SectionIndex]uint64{}}
	if err := image.place(object); err != nil {
		return nil, err
	}
	table, err := object.Symbols()
	if err != nil {
		return nil, fmt.Errorf("%w: symbols: %w", ErrNotADriver, err)
	}
	addresses := image.define(table)
	return image, image.relocate(object, addresses)
}

// Linearizes is [DriverLinearizes] for the driver in the file.
func (i *Image) Linearizes(ctx context.Context) (Answer, error) {
	return driverLinearizes(ctx, i.architecture, &i.symbols, i)
}

// ReadCode implements [CodeReader].
func (i *Image) ReadCode(_ context.Context, address uint64, buf []byte) error {
	for _, section := range i.sections {
		if address >= section.address && address < section.address+uint64(len(section.code)) {
			clear(buf[copy(buf, section.code[address-section.address:]):])
			return nil
		}
	}
	return fmt.Errorf("address %#x is not in the file", address)
}

// place gives each section of code pages of its own, with at least one between
// two of them.
func (i *Image) place(object *elf.File) error {
	next := uint64(imageBase)
	for index, section := range object.Sections {
		if section.Type != elf.SHT_PROGBITS || section.Flags&elf.SHF_EXECINSTR == 0 || section.Size == 0 {
			continue
		}
		code, err := section.Data()
		if err != nil {
			return fmt.Errorf("%w: section %s: %w", ErrNotADriver, section.Name, err)
		}
		i.placed[elf.SectionIndex(index)] = next
		i.sections = append(i.sections, imageSection{next, code})
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
	for n, entry := range table {
		base, isCode := i.placed[entry.Section]
		symbol := Symbol{Name: entry.Name, Type: 't', Module: driverModule}
		switch {
		case isCode:
			symbol.Address = base + entry.Value
		case entry.Section == elf.SHN_UNDEF && entry.Name != "":
			symbol.Address, symbol.Module = importBase+uint64(n)*importStride, ""
		default:
			continue
		}
		addresses[n+1] = symbol.Address
		if kind := elf.ST_TYPE(entry.Info); kind == elf.STT_SECTION || entry.Name == "" {
			continue
		}
		i.symbols.addresses = append(i.symbols.addresses, symbol.Address)
		i.symbols.kept = append(i.symbols.kept, symbol)
	}
	return addresses
}

// relocate fills in where calls and jumps go. References to data stay empty.
func (i *Image) relocate(object *elf.File, addresses []uint64) error {
	for _, section := range object.Sections {
		base, isCode := i.placed[elf.SectionIndex(section.Info)]
		if section.Type != elf.SHT_RELA || !isCode {
			continue
		}
		entries, err := section.Data()
		if err != nil {
			return fmt.Errorf("%w: section %s: %w", ErrNotADriver, section.Name, err)
		}
		code := i.codeAt(base)
		const entryBytes = 24
		for ; len(entries) >= entryBytes; entries = entries[entryBytes:] {
			offset := object.ByteOrder.Uint64(entries)
			info := object.ByteOrder.Uint64(entries[8:])
			addend := object.ByteOrder.Uint64(entries[16:])
			kind, symbol := elf.R_X86_64(elf.R_TYPE64(info)), elf.R_SYM64(info)
			if kind != elf.R_X86_64_PC32 && kind != elf.R_X86_64_PLT32 {
				continue
			}
			if uint64(symbol) >= uint64(len(addresses)) || uint64(len(code)) < 4 || offset > uint64(len(code))-4 {
				return fmt.Errorf("%w: section %s: relocation at %#x is out of range", ErrNotADriver, section.Name, offset)
			}
			if to := addresses[symbol]; to != 0 {
				binary.LittleEndian.PutUint32(code[offset:], uint32(to+addend-(base+offset)))
			}
		}
	}
	return nil
}

func (i *Image) codeAt(address uint64) []byte {
	for _, section := range i.sections {
		if section.address == address {
			return section.code
		}
	}
	return nil
}
