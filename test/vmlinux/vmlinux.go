// Package vmlinux makes ELF files with the type information and the notes of a kernel or a
// module, and nothing else.
package vmlinux

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
)

// File is an ELF file with BTF and notes; either may be nil for none.
func File(types, notes []byte) []byte {
	type section struct {
		name    string
		kind    elf.SectionType
		content []byte
	}
	sections := []section{{".BTF", elf.SHT_PROGBITS, types}, {".notes", elf.SHT_NOTE, notes}, {".shstrtab", elf.SHT_STRTAB, nil}}
	names := []byte{0}
	headers := []elf.Section64{{}}
	var body bytes.Buffer
	for _, s := range sections {
		if s.content == nil && s.kind != elf.SHT_STRTAB {
			continue
		}
		headers = append(headers, elf.Section64{Name: uint32(len(names)), Type: uint32(s.kind), Off: uint64(headerBytes + body.Len()), Size: uint64(len(s.content))})
		names = append(append(names, s.name...), 0)
		body.Write(s.content)
	}
	last := &headers[len(headers)-1]
	last.Off, last.Size = uint64(headerBytes+body.Len()), uint64(len(names))
	body.Write(names)
	header := elf.Header64{
		Type: uint16(elf.ET_EXEC), Machine: uint16(elf.EM_X86_64), Version: uint32(elf.EV_CURRENT), Shoff: uint64(headerBytes + body.Len()),
		Ehsize: headerBytes, Shentsize: 64, Shnum: uint16(len(headers)), Shstrndx: uint16(len(headers) - 1),
	}
	copy(header.Ident[:], elf.ELFMAG)
	header.Ident[elf.EI_CLASS], header.Ident[elf.EI_DATA], header.Ident[elf.EI_VERSION] = byte(elf.ELFCLASS64), byte(elf.ELFDATA2LSB), byte(elf.EV_CURRENT)
	var file bytes.Buffer
	for _, part := range []any{header, body.Bytes(), headers} {
		_ = binary.Write(&file, binary.LittleEndian, part) // a bytes.Buffer takes everything
	}
	return file.Bytes()
}

const headerBytes = 64

// Note is an ELF note with a build id.
func Note(id []byte) []byte {
	const kindBuildID = 3
	note := binary.LittleEndian.AppendUint32(nil, 4)
	note = binary.LittleEndian.AppendUint32(note, uint32(len(id)))
	note = binary.LittleEndian.AppendUint32(note, kindBuildID)
	return append(append(note, "GNU\x00"...), id...)
}
