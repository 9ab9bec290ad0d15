package kernel

import (
	"debug/elf"
	"encoding/binary"
	"fmt"
)

// A machine is what the code of one architecture is read with.
type machine struct {
	architecture string // in Go's name of it
	decode       decoder
	relocations  map[uint32]operand // those of calls and jumps, by type
	// veneer returns where a call goes that passes through code of the module
	// loader, where the architecture's calls do not reach far.
	veneer func(code []byte, address uint64) (target uint64, is bool)
}

// An operand is where an instruction holds the distance to its target.
type operand struct {
	bits, lowest, scale uint // of a word of 32 bits; scale is log2
}

// machines has every architecture whose code is read.
func machines() map[elf.Machine]machine {
	return map[elf.Machine]machine{
		elf.EM_X86_64: {architecture: "amd64", decode: decodeX86, relocations: map[uint32]operand{
			uint32(elf.R_X86_64_PC32):  {bits: 32},
			uint32(elf.R_X86_64_PLT32): {bits: 32},
		}},
		elf.EM_AARCH64: {architecture: "arm64", decode: decodeARM64, veneer: arm64Veneer, relocations: map[uint32]operand{
			uint32(elf.R_AARCH64_CALL26):   {bits: 26, scale: 2},
			uint32(elf.R_AARCH64_JUMP26):   {bits: 26, scale: 2},
			uint32(elf.R_AARCH64_CONDBR19): {bits: 19, lowest: 5, scale: 2},
			uint32(elf.R_AARCH64_TSTBR14):  {bits: 14, lowest: 5, scale: 2},
		}},
	}
}

// put writes the distance, and tells whether there is room for it.
func (o operand) put(code []byte, distance int64) bool {
	value := distance >> o.scale
	if value<<o.scale != distance || value != value<<(64-o.bits)>>(64-o.bits) {
		return false
	}
	mask := uint32(1<<o.bits-1) << o.lowest
	word := binary.LittleEndian.Uint32(code)&^mask | uint32(value)<<o.lowest&mask
	binary.LittleEndian.PutUint32(code, word)
	return true
}

// relocate fills in where calls and jumps go. References to data stay empty.
func (i *Image) relocate(object *elf.File, machine machine, addresses []uint64) error {
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
			operand, known := machine.relocations[elf.R_TYPE64(info)]
			if !known {
				continue
			}
			symbol := elf.R_SYM64(info)
			if uint64(symbol) >= uint64(len(addresses)) || uint64(len(code)) < 4 || offset > uint64(len(code))-4 {
				return fmt.Errorf("%w: section %s: relocation at %#x is out of range", ErrNotADriver, section.Name, offset)
			}
			to := addresses[symbol]
			if to == 0 {
				continue
			}
			if !operand.put(code[offset:], int64(to+addend-(base+offset))) {
				return fmt.Errorf("%w: section %s: relocation at %#x does not reach its symbol", ErrNotADriver, section.Name, offset)
			}
			i.relocated[base]++
		}
	}
	return nil
}
