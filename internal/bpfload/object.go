package bpfload

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"fmt"
	"io"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/btf"
)

// parse parses an object as if it had no other programs than those named, but for those that share
// a section with one of them: the library copies the functions that a program calls into each.
// lines keeps the source lines, which are in the verifier's log only.
func parse(object []byte, programs []string, lines bool) (*ebpf.CollectionSpec, error) {
	file, err := elf.NewFile(bytes.NewReader(object))
	if err != nil {
		return nil, fmt.Errorf("BPF object: %w", err)
	}
	keep, err := sectionsOf(file, programs)
	if err != nil {
		return nil, err
	}
	only := &overlay{object: object}
	for n, section := range file.Sections {
		code := section.Type == elf.SHT_PROGBITS && section.Flags&elf.SHF_EXECINSTR != 0
		if code && section.Name != ".text" && !keep[elf.SectionIndex(n)] {
			only.put(sizeOfSection(object, n), binary.LittleEndian.AppendUint64(nil, 0))
		}
		if section.Name == ".BTF.ext" && !lines {
			// What is left of the table of lines is the size of an entry.
			only.put(int64(section.Offset)+lineInfoLen, binary.LittleEndian.AppendUint32(nil, 4))
		}
	}
	spec, err := ebpf.LoadCollectionSpecFromReader(only)
	if err != nil {
		return nil, fmt.Errorf("BPF object: %w", err)
	}
	if !lines {
		markFunctions(spec)
	}
	return spec, nil
}

// markFunctions gives each function one line: the library adds a comment where a relocation has no
// target, and the kernel accepts lines only if each function begins with one.
func markFunctions(spec *ebpf.CollectionSpec) {
	for _, program := range spec.Programs {
		for i := range program.Instructions {
			ins := &program.Instructions[i]
			if function := btf.FuncMetadata(ins); function != nil {
				*ins = ins.WithSource(asm.Comment(function.Name))
			}
		}
	}
}

// lineInfoLen is the offset of line_info_len in struct btf_ext_header.
const lineInfoLen = 20

func sectionsOf(file *elf.File, programs []string) (map[elf.SectionIndex]bool, error) {
	symbols, err := file.Symbols()
	if err != nil {
		return nil, fmt.Errorf("BPF object: %w", err)
	}
	sections := make(map[string]elf.SectionIndex)
	for _, symbol := range symbols {
		if elf.ST_TYPE(symbol.Info) == elf.STT_FUNC {
			sections[symbol.Name] = symbol.Section
		}
	}
	keep := make(map[elf.SectionIndex]bool)
	for _, name := range programs {
		section, found := sections[name]
		if !found {
			return nil, fmt.Errorf("BPF program %s: not in the object", name)
		}
		keep[section] = true
	}
	return keep, nil
}

// sizeOfSection is the offset in the file of the size of a section, of a 64-bit object.
func sizeOfSection(object []byte, n int) int64 {
	const shoff, shentsize, size = 40, 58, 32 // offsets in Elf64_Ehdr and Elf64_Shdr
	headers := binary.LittleEndian.Uint64(object[shoff:])
	each := binary.LittleEndian.Uint16(object[shentsize:])
	return int64(headers) + int64(n)*int64(each) + size
}

// An overlay is an object, parts of which read as something else.
type overlay struct {
	object []byte
	parts  []part
}

type part struct {
	offset int64
	bytes  []byte
}

func (o *overlay) put(offset int64, bytes []byte) { o.parts = append(o.parts, part{offset, bytes}) }

// ReadAt implements [io.ReaderAt].
func (o *overlay) ReadAt(p []byte, offset int64) (int, error) {
	if offset < 0 || offset > int64(len(o.object)) {
		return 0, io.EOF
	}
	n := copy(p, o.object[offset:])
	for _, part := range o.parts {
		from, to := max(part.offset, offset), min(part.offset+int64(len(part.bytes)), offset+int64(n))
		if from < to {
			copy(p[from-offset:to-offset], part.bytes[from-part.offset:])
		}
	}
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}
