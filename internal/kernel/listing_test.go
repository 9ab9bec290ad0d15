package kernel

import (
	"context"
	"encoding/binary"
	"fmt"
	"strings"
	"testing"
)

// A listing is hand-assembled x86 code at an address.
type listing struct {
	name   string
	module string
	at     uint64
	code   []byte
}

func function(name, module string, at uint64) *listing {
	return &listing{name: name, module: module, at: at}
}

func (l *listing) bytes(code ...byte) *listing {
	l.code = append(l.code, code...)
	return l
}

// relative appends an instruction whose operand is the distance to an address.
func (l *listing) relative(to uint64, opcode ...byte) *listing {
	l.code = append(l.code, opcode...)
	next := l.at + uint64(len(l.code)) + 4
	l.code = binary.LittleEndian.AppendUint32(l.code, uint32(to-next))
	return l
}

func (l *listing) call(to uint64) *listing { return l.relative(to, 0xe8) }
func (l *listing) jmp(to uint64) *listing  { return l.relative(to, 0xe9) }
func (l *listing) ja(to uint64) *listing   { return l.relative(to, 0x0f, 0x87) }
func (l *listing) cmp18() *listing         { return l.bytes(0x83, 0xf8, 0x12) } // cmp $18,%eax
func (l *listing) push() *listing          { return l.bytes(0x53) }             // push %rbx
func (l *listing) ret() *listing           { return l.bytes(0x5b, 0xc3) }       // pop %rbx; ret
func (l *listing) ud2() *listing           { return l.bytes(0x0f, 0x0b) }
func (l *listing) int3() *listing          { return l.bytes(0xcc) }
func (l *listing) endbr() *listing         { return l.bytes(0xf3, 0x0f, 0x1e, 0xfa) }
func (l *listing) nop5() *listing          { return l.bytes(0x0f, 0x1f, 0x44, 0x00, 0x00) }

// to appends nops up to an offset.
func (l *listing) to(offset int) *listing {
	for len(l.code) < offset {
		l.code = append(l.code, 0x90)
	}
	return l
}

// A fakeKernel is code in memory with symbols for it.
type fakeKernel []*listing

func (k fakeKernel) symbols(t testing.TB) *Symbols {
	t.Helper()
	var text strings.Builder
	for _, l := range k {
		if l.name == "" {
			continue
		}
		fmt.Fprintf(&text, "%016x t %s", l.at, l.name)
		if l.module != "" {
			fmt.Fprintf(&text, "\t[%s]", l.module)
		}
		text.WriteByte('\n')
	}
	return mustParse(t, text.String(), NetfrontSymbols().With(DropSymbols()))
}

// ReadCode gives breakpoints between the functions of a page, and fails where
// a page has none.
func (k fakeKernel) ReadCode(_ context.Context, address uint64, buf []byte) error {
	if len(buf) > 512 || address/4096 != (address+uint64(len(buf))-1)/4096 {
		return fmt.Errorf("%d bytes at %#x are more than promised", len(buf), address)
	}
	mapped := false
	for i := range buf {
		buf[i] = 0xcc
	}
	for _, l := range k {
		mapped = mapped || l.at/4096 <= address/4096 && (l.at+uint64(len(l.code)))/4096 >= address/4096
		for i, b := range l.code {
			if at := l.at + uint64(i); at >= address && at < address+uint64(len(buf)) {
				buf[at-address] = b
			}
		}
	}
	if !mapped {
		return fmt.Errorf("nothing is mapped at %#x", address)
	}
	return nil
}
