package kernel

import (
	"bytes"
	"errors"
	"fmt"

	"golang.org/x/arch/x86/x86asm"
)

var errNotDecoded = errors.New("instruction is not known")

// Instructions that x86asm does not know, or takes for a lone prefix byte.
var (
	endbr64   = []byte{0xf3, 0x0f, 0x1e, 0xfa}
	serialize = []byte{0x0f, 0x01, 0xe8}
)

// decodeX86 decodes one instruction of 64-bit x86 code.
func decodeX86(code []byte, address uint64) (instruction, error) {
	switch {
	case len(code) == 0:
		return instruction{}, errNotDecoded
	case code[0] == 0xcc: // a breakpoint of a kprobe, or padding
		return instruction{length: 1, flow: flowBreakpoint}, nil
	case bytes.HasPrefix(code, endbr64):
		return instruction{length: len(endbr64), flow: flowPadding}, nil
	case bytes.HasPrefix(code, serialize):
		return instruction{length: len(serialize)}, nil
	case code[0] == 0xc4, code[0] == 0xc5, code[0] == 0x62:
		// AVX, which drivers do not use and x86asm measures wrongly.
		return instruction{}, fmt.Errorf("%w: % x", errNotDecoded, code[:1])
	}
	if shorter, is := withoutREX(code); is {
		result, err := decodeX86(shorter, address)
		result.length++
		return result, err
	}
	decoded, err := x86asm.Decode(code, 64)
	if err != nil || decoded.Op == 0 || decoded.Len <= 0 || decoded.Len > len(code) {
		return instruction{}, fmt.Errorf("%w: % x", errNotDecoded, code[:min(4, len(code))])
	}
	if _, direct := x86Target(decoded, address); direct && decoded.DataSize == 16 {
		// Intel and AMD disagree about how long the operand is; no compiler writes it.
		return instruction{}, fmt.Errorf("%w: % x", errNotDecoded, code[:min(4, len(code))])
	}
	return x86Flow(decoded, address), nil
}

// withoutREX takes the REX prefix out of an undefined instruction with an operand, and
// reports whether there was one. From 6.19 on the kernel writes ud1 (%edx),%rdi over the
// static call of __WARN_trap; x86asm knows it only without that prefix.
func withoutREX(code []byte) ([]byte, bool) {
	for at := range 2 { // behind an address size prefix, or first
		if len(code) > at && code[at]&0xf0 == 0x40 && bytes.HasPrefix(code[at+1:], []byte{0x0f, 0xb9}) &&
			(at == 0 || code[0] == 0x67) {
			return append(bytes.Clone(code[:at]), code[at+1:]...), true
		}
	}
	return nil, false
}

// x86Flow says where the instruction goes on.
func x86Flow(decoded x86asm.Inst, address uint64) instruction {
	result := instruction{length: decoded.Len}
	target, direct := x86Target(decoded, address)
	switch decoded.Op {
	case x86asm.NOP:
		result.flow = flowPadding
	case x86asm.CALL:
		result.flow = flowCallIndirect
		if direct {
			result.flow, result.target = flowCall, target
		}
	case x86asm.JMP:
		result.flow = flowJumpIndirect
		if direct {
			result.flow, result.target = flowJump, target
		}
	case x86asm.RET, x86asm.LRET, x86asm.IRET, x86asm.IRETD, x86asm.IRETQ, x86asm.SYSRET, x86asm.SYSEXIT:
		result.flow = flowReturn
	case x86asm.UD1, x86asm.UD2:
		result.flow = flowTrap
	case x86asm.INT:
		// No kernel code raises a software interrupt from within a driver.
		result.flow = flowBreakpoint
	default:
		// Every other instruction with a relative operand is a conditional jump:
		// Jcc, LOOP, JRCXZ, and XBEGIN with its abort handler.
		if direct {
			result.flow, result.target = flowBranch, target
		}
	}
	return result
}

func x86Target(decoded x86asm.Inst, address uint64) (uint64, bool) {
	relative, direct := decoded.Args[0].(x86asm.Rel)
	return address + uint64(decoded.Len) + uint64(int64(relative)), direct
}
