package kernel

import (
	"context"
	"encoding/binary"
	"fmt"
	"iter"
	"runtime"
	"strings"
)

// A CodeReader reads the machine code of a kernel, running or in a file.
type CodeReader interface {
	// ReadCode fills buf with the code at address. It is asked for at most 512 bytes
	// that are within one page.
	ReadCode(ctx context.Context, address uint64, buf []byte) error
}

// Code is machine code with its symbols: of the running kernel, or of a file.
type Code struct {
	Architecture string // in Go's name of it
	Symbols      *Symbols
	Reader       CodeReader
	// Relocated holds where calls and jumps go that the linker has still to fill in, by the
	// address of the operand; nil for linked code.
	Relocated map[uint64]uint64
}

// RunningCode is the code of the running kernel.
func RunningCode(symbols *Symbols, reader CodeReader) *Code {
	return &Code{Architecture: runtime.GOARCH, Symbols: symbols, Reader: reader}
}

// A Call is a direct call of a function, or a jump to it.
type Call struct {
	From   Symbol // the function, or the part of it that the compiler moved elsewhere
	Offset uint64 // of the instruction in From
	To     Symbol
}

func (c Call) String() string {
	return fmt.Sprintf("%s+%#x calls %s", c.From.Name, c.Offset, c.To.Name)
}

const (
	// maxPadding is what a caller may skip or include between the address it calls and the
	// symbol: call depth tracking and kCFI pad in front of a function (__pfx_, __cfi_).
	maxPadding  = 64
	endbrBytes  = 4 // direct calls may skip the landing instruction
	chunkBytes  = 512
	codePage    = 4096
	probePrefix = "kprobe_" // of kprobe_optinsn_page and kprobe_insn_page, where kprobes jump to
)

// Calls returns the direct calls of wanted functions in a function and its parts (.cold,
// .part.N). It decodes no instructions: on amd64 it finds the call and jump opcodes whose
// 32-bit distance leads to a wanted function, which other bytes match with a chance of
// 1 in 2^32; on arm64 every instruction is one word. An error wraps [ErrExtentUnknown] or
// [ErrAddressesHidden], or an error that names what hides the code.
func (c *Code) Calls(ctx context.Context, function Symbol, wanted []Symbol) ([]Call, error) {
	branches, err := c.branches()
	if err != nil {
		return nil, err
	}
	targets := make([]target, 0, len(wanted))
	for _, symbol := range wanted {
		targets = append(targets, c.target(symbol))
	}
	var calls []Call
	for _, part := range c.parts(function) {
		code, err := c.Bytes(ctx, part)
		if err != nil {
			return nil, err
		}
		found, err := c.scan(ctx, part, branches(part.Address, code), targets)
		if err != nil {
			return nil, err
		}
		calls = append(calls, found...)
	}
	return calls, nil
}

type target struct {
	symbol    Symbol
	low, high uint64
}

func (c *Code) target(symbol Symbol) target {
	t := target{symbol, symbol.Address, symbol.Address + endbrBytes}
	for _, prefix := range []string{"__pfx_", "__cfi_"} {
		for _, pad := range c.Symbols.Lookup(prefix + symbol.Name) {
			if pad.Address < t.low && symbol.Address-pad.Address <= maxPadding {
				t.low = pad.Address
			}
		}
	}
	return t
}

func (c *Code) parts(function Symbol) []Symbol {
	parts := []Symbol{function}
	return append(parts, c.Symbols.Select(func(s Symbol) bool {
		return s.Text() && s.Module == function.Module && s != function && s.Base() == function.Base() && s.Name != s.Base()
	})...)
}

// Bytes returns the code of a function, or of one part of it. Errors as of [Code.Calls].
func (c *Code) Bytes(ctx context.Context, part Symbol) ([]byte, error) {
	end, err := c.Symbols.End(part)
	if err != nil {
		return nil, err
	}
	code := make([]byte, end-part.Address)
	for at := uint64(0); at < uint64(len(code)); {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		n := min(uint64(len(code))-at, chunkBytes, codePage-(part.Address+at)%codePage)
		if err := c.Reader.ReadCode(ctx, part.Address+at, code[at:at+n]); err != nil {
			return nil, fmt.Errorf("code of %s at %#x: %w", part.Name, part.Address+at, err)
		}
		at += n
	}
	return code, nil
}

func (c *Code) branches() (func(address uint64, code []byte) iter.Seq2[uint64, uint64], error) {
	switch c.Architecture {
	case "amd64":
		return c.branchesAMD64, nil
	case "arm64":
		return c.branchesARM64, nil
	}
	return nil, fmt.Errorf("machine code of %s is not analysed", c.Architecture)
}

func (c *Code) scan(ctx context.Context, part Symbol, branches iter.Seq2[uint64, uint64], targets []target) ([]Call, error) {
	var calls []Call
	for offset, to := range branches {
		if to == probed || c.inProbePage(to) {
			return nil, fmt.Errorf("a kprobe replaced the code at %s+%#x", part.Name, offset)
		}
		to = c.behindVeneer(ctx, to)
		for _, t := range targets {
			if to >= t.low && to <= t.high {
				calls = append(calls, Call{part, offset, t.symbol})
			}
		}
	}
	return calls, nil
}

const probed = ^uint64(0)

func (c *Code) inProbePage(address uint64) bool {
	for _, page := range c.Symbols.Select(func(s Symbol) bool { return strings.HasPrefix(s.Name, probePrefix) }) {
		if address >= page.Address && address < page.Address+codePage {
			return true
		}
	}
	return false
}

// branchesAMD64 yields offset and destination of what can be a call or jump with a 32-bit
// distance: call, jmp, jcc, and an int3 that a kprobe put in place of the first byte.
func (c *Code) branchesAMD64(address uint64, code []byte) iter.Seq2[uint64, uint64] {
	const operandBytes = 4
	return func(yield func(offset, to uint64) bool) {
		for at := 1; at+operandBytes <= len(code); at++ {
			start := at - 1
			switch opcode := code[at-1]; {
			case opcode == 0xe8 || opcode == 0xe9 || opcode == 0xcc:
			case opcode&0xf0 == 0x80 && at >= 2 && code[at-2] == 0x0f:
				start--
			default:
				continue
			}
			operand := address + uint64(at)
			to, relocated := c.Relocated[operand]
			if !relocated {
				to = operand + operandBytes + uint64(int64(int32(binary.LittleEndian.Uint32(code[at:]))))
			}
			if !yield(uint64(start), to) {
				return
			}
		}
	}
}

// branchesARM64 yields offset and destination of every b, bl, b.cond, cbz, cbnz, tbz and tbnz.
func (c *Code) branchesARM64(address uint64, code []byte) iter.Seq2[uint64, uint64] {
	const wordBytes = 4
	return func(yield func(offset, to uint64) bool) {
		for at := 0; at+wordBytes <= len(code); at += wordBytes {
			word := binary.LittleEndian.Uint32(code[at:])
			here := address + uint64(at)
			var to uint64
			switch relative := func(lowest, bits int) uint64 {
				return here + uint64(int64(uint64(word)>>lowest<<(64-bits))>>(64-bits)*wordBytes)
			}; {
			case word>>26&0x1f == 0x05: // b, bl
				to = relative(0, 26)
			case word>>24 == 0x54, word>>25&0x3f == 0x1a: // b.cond; cbz, cbnz
				to = relative(5, 19)
			case word>>25&0x3f == 0x1b: // tbz, tbnz
				to = relative(5, 14)
			case word&0xffffff9f == 0xd4200080: // brk 4 to 7: a kprobe (asm/brk-imm.h)
				to = probed
			default:
				continue
			}
			if relocated, is := c.Relocated[here]; is {
				to = relocated
			}
			if !yield(uint64(at), to) {
				return
			}
		}
	}
}

// behindVeneer returns where a call leads that passes through a table of the module loader:
// adrp x16, add x16, br x16, after a landing instruction or not. Calls of arm64 reach
// 128 MiB.
func (c *Code) behindVeneer(ctx context.Context, address uint64) uint64 {
	const landing, words = 0xd503245f, 4
	if c.Architecture != "arm64" || c.Relocated != nil || c.Symbols.at(address) || address%codePage > codePage-4*words {
		return address
	}
	code := make([]byte, 4*words)
	if c.Reader.ReadCode(ctx, address, code) != nil {
		return address
	}
	here := address
	if binary.LittleEndian.Uint32(code) == landing {
		code, here = code[words:], address+words
	}
	adrp, add, br := binary.LittleEndian.Uint32(code), binary.LittleEndian.Uint32(code[4:]), binary.LittleEndian.Uint32(code[8:])
	if adrp&0x9f00001f != 0x90000010 || add&0xffc003ff != 0x91000210 || br != 0xd61f0200 {
		return address
	}
	pages := int64(adrp>>5&0x7ffff<<2|adrp>>29&3) << 43 >> 43
	return here&^(codePage-1) + uint64(pages*codePage) + uint64(add>>10&0xfff)
}
