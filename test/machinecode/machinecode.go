// Package machinecode assembles x86 code by hand, for tests of what reads it.
package machinecode

import (
	"context"
	"encoding/binary"
	"fmt"
	"strings"
)

// A Listing is hand-assembled x86 code at an address.
type Listing struct {
	name   string
	module string
	at     uint64
	Code   []byte
}

// Function begins the listing of a function.
func Function(name, module string, at uint64) *Listing {
	return &Listing{name: name, module: module, at: at}
}

// Bytes appends bytes.
func (l *Listing) Bytes(code ...byte) *Listing {
	l.Code = append(l.Code, code...)
	return l
}

// Relative appends an instruction whose operand is the distance to an address.
func (l *Listing) Relative(to uint64, opcode ...byte) *Listing {
	l.Code = append(l.Code, opcode...)
	next := l.at + uint64(len(l.Code)) + 4
	l.Code = binary.LittleEndian.AppendUint32(l.Code, uint32(to-next))
	return l
}

// Call appends a call.
func (l *Listing) Call(to uint64) *Listing { return l.Relative(to, 0xe8) }

// Jmp appends a jmp.
func (l *Listing) Jmp(to uint64) *Listing { return l.Relative(to, 0xe9) }

// Ja appends a ja with a 32-bit distance.
func (l *Listing) Ja(to uint64) *Listing { return l.Relative(to, 0x0f, 0x87) }

// Cmp18 compares eax with 18.
func (l *Listing) Cmp18() *Listing { return l.Bytes(0x83, 0xf8, 0x12) } // cmp $18,%eax
// Push pushes rbx.
func (l *Listing) Push() *Listing { return l.Bytes(0x53) } // push %rbx
// Ret pops rbx and returns.
func (l *Listing) Ret() *Listing { return l.Bytes(0x5b, 0xc3) } // pop %rbx; ret
// UD2 appends a ud2, a warning.
func (l *Listing) UD2() *Listing { return l.Bytes(0x0f, 0x0b) }

// Int3 appends a breakpoint.
func (l *Listing) Int3() *Listing { return l.Bytes(0xcc) }

// Endbr appends a landing instruction.
func (l *Listing) Endbr() *Listing { return l.Bytes(0xf3, 0x0f, 0x1e, 0xfa) }

// Nop5 appends the 5-byte nop of ftrace.
func (l *Listing) Nop5() *Listing { return l.Bytes(0x0f, 0x1f, 0x44, 0x00, 0x00) }

// To appends nops up to an offset.
func (l *Listing) To(offset int) *Listing {
	for len(l.Code) < offset {
		l.Code = append(l.Code, 0x90)
	}
	return l
}

// A Kernel is code in memory with symbols for it.
type Kernel []*Listing

// Kallsyms is the symbols of the code in the format of /proc/kallsyms.
func (k Kernel) Kallsyms() string {
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
	return text.String()
}

// ReadCode gives breakpoints between the functions of a page, and fails where
// a page has none.
func (k Kernel) ReadCode(_ context.Context, address uint64, buf []byte) error {
	if len(buf) > 512 || address/4096 != (address+uint64(len(buf))-1)/4096 {
		return fmt.Errorf("%d bytes at %#x are more than promised", len(buf), address)
	}
	mapped := false
	for i := range buf {
		buf[i] = 0xcc
	}
	for _, l := range k {
		mapped = mapped || l.at/4096 <= address/4096 && (l.at+uint64(len(l.Code)))/4096 >= address/4096
		for i, b := range l.Code {
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
