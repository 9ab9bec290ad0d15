package kernel

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"io"
)

// inELF returns an ELF file whose section .BTF are these two. The library reads a section at once,
// but a bare file in pieces, which takes twice the memory.
func inELF(types part, strings section) io.ReaderAt {
	const names = "\x00.BTF\x00.symtab\x00.strtab\x00"
	const header, symbol, shent = 64, 24, 64 // sizes of Elf64_Ehdr, Elf64_Sym and Elf64_Shdr
	size := uint64(types.Size() + strings.Size())
	sections := []elf.Section64{
		{},
		{Name: 1, Type: uint32(elf.SHT_PROGBITS), Off: header, Size: size},
		{Name: 6, Type: uint32(elf.SHT_SYMTAB), Off: header + size, Size: symbol, Link: 3, Entsize: symbol}, // the library needs one
		{Name: 14, Type: uint32(elf.SHT_STRTAB), Off: header + size + symbol, Size: uint64(len(names))},
	}
	file := elf.Header64{
		Ident: [elf.EI_NIDENT]byte{0x7f, 'E', 'L', 'F', byte(elf.ELFCLASS64), byte(elf.ELFDATA2LSB), byte(elf.EV_CURRENT)},
		Type:  uint16(elf.ET_REL), Machine: uint16(elf.EM_BPF), Version: uint32(elf.EV_CURRENT), Ehsize: header,
		Shoff: header + size + symbol + uint64(len(names)), Shentsize: shent, Shnum: uint16(len(sections)), Shstrndx: 3,
	}
	return concatenation{encode(file), types, strings, part(make([]byte, symbol)), part(names), encode(sections)}
}

func encode(value any) part {
	var b bytes.Buffer
	_ = binary.Write(&b, binary.LittleEndian, value) // a buffer takes all
	return b.Bytes()
}

// A concatenation is one after the other.
type concatenation []sized

type sized interface {
	io.ReaderAt
	Size() int64
}

// ReadAt implements [io.ReaderAt].
func (c concatenation) ReadAt(p []byte, offset int64) (n int, err error) {
	for _, one := range c {
		size := one.Size()
		if offset < size && n < len(p) {
			piece := p[n:min(int64(len(p)), int64(n)+size-offset)]
			m, err := one.ReadAt(piece, offset)
			if n += m; m < len(piece) {
				return n, err
			}
			offset = size
		}
		offset -= size
	}
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

type part []byte

func (p part) Size() int64 { return int64(len(p)) }

func (p part) ReadAt(b []byte, offset int64) (int, error) { return copy(b, p[offset:]), nil }

type section struct{ *io.SectionReader }
