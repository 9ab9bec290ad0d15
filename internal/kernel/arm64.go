package kernel

import (
	"encoding/binary"
	"fmt"
)

const (
	arm64InstructionBytes = 4
	maxVeneerBytes        = 4 * arm64InstructionBytes
)

// decodeARM64 decodes one instruction of 64-bit ARM code as far as the flow of
// control goes. All instructions have one length, and those that can change the
// flow are a group of their own (bits 28 to 26 are 101), so nothing needs to be
// known of the others, newer ones included.
func decodeARM64(code []byte, address uint64) (instruction, error) {
	if len(code) < arm64InstructionBytes {
		return instruction{}, errNotDecoded
	}
	word := binary.LittleEndian.Uint32(code)
	result := instruction{length: arm64InstructionBytes}
	switch {
	case word>>16 == 0: // udf: zeros behind the code, or a byte overwritten
		result.flow = flowBreakpoint
	case word>>27&3 == 0: // reserved, unallocated, SME and SVE: no driver's
		return instruction{}, fmt.Errorf("%w: %08x", errNotDecoded, word)
	case word>>26&7 == 5:
		return arm64Branch(word, address)
	}
	return result, nil
}

// arm64Branch decodes the group of branches, exceptions and system instructions.
func arm64Branch(word uint32, address uint64) (instruction, error) {
	result := instruction{length: arm64InstructionBytes}
	relative := func(flow flow, lowest, bits uint) (instruction, error) {
		result.flow = flow
		distance := int64(word>>lowest) << (64 - bits) >> (64 - bits) * arm64InstructionBytes
		result.target = address + uint64(distance)
		return result, nil
	}
	switch {
	case word>>26 == 0x05: // b
		return relative(flowJump, 0, 26)
	case word>>26 == 0x25: // bl
		return relative(flowCall, 0, 26)
	case word>>24 == 0x54: // b.cond, bc.cond
		return relative(flowBranch, 5, 19)
	case word>>25&0x3f == 0x1a: // cbz, cbnz
		return relative(flowBranch, 5, 19)
	case word>>25&0x3f == 0x1b: // tbz, tbnz
		return relative(flowBranch, 5, 14)
	case word>>25 == 0x6b: // to an address in a register
		result.flow = arm64Register(word)
	case word>>24 == 0xd4: // exceptions
		result.flow = arm64Exception(word)
	case word&0xfffff01f == 0xd503201f: // nop and hints: landing and signing of pointers too
		result.flow = flowPadding
	case word>>24 == 0xd5: // system registers and barriers
	default:
		return instruction{}, fmt.Errorf("%w: %08x", errNotDecoded, word)
	}
	return result, nil
}

// arm64Register is the flow of br, blr, ret, eret, and of those that check a
// signature first.
func arm64Register(word uint32) flow {
	switch word >> 21 & 7 {
	case 0:
		return flowJumpIndirect
	case 1:
		return flowCallIndirect
	default:
		return flowReturn
	}
}

// arm64Exception is the flow of svc, hvc (a call of Xen), smc, brk and hlt. The
// number of a brk is in asm/brk-imm.h: kprobes have 4 to 7.
func arm64Exception(word uint32) flow {
	number := word >> 5 & 0xffff
	switch {
	case word>>21&7 == 0:
		return flowOn
	case word>>21&7 == 1 && number >= 4 && number <= 7:
		return flowBreakpoint
	default:
		return flowTrap
	}
}

// arm64Veneer recognizes an entry of a module's table of calls that go far: adrp
// x16, add x16, br x16, with a landing instruction before it or not.
func arm64Veneer(code []byte, address uint64) (uint64, bool) {
	const page, landing = 4096, 0xd503245f
	if len(code) >= arm64InstructionBytes && binary.LittleEndian.Uint32(code) == landing {
		code, address = code[arm64InstructionBytes:], address+arm64InstructionBytes
	}
	if len(code) < 3*arm64InstructionBytes {
		return 0, false
	}
	adrp, add, br := binary.LittleEndian.Uint32(code), binary.LittleEndian.Uint32(code[4:]), binary.LittleEndian.Uint32(code[8:])
	if adrp&0x9f00001f != 0x90000010 || add&0xffc003ff != 0x91000210 || br != 0xd61f0200 {
		return 0, false
	}
	pages := int64(adrp>>5&0x7ffff<<2|adrp>>29&3) << 43 >> 43
	return address&^(page-1) + uint64(pages*page) + uint64(add>>10&0xfff), true
}
