package process

import (
	"bytes"
	"compress/zlib"
	"debug/elf"
	"encoding/binary"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"syscall"
)

// image runs a copy of the program, made in a directory, whose section headers are hostile:
// the kernel does not look at them. The copy sends datagrams until it is killed.
func image(remote, directory, kind string) error {
	path := filepath.Join(directory, "image-"+kind)
	if err := writeImage(path, kind); err != nil {
		return err
	}
	return become("flood", path, remote)
}

// become replaces this process by a program of its kind.
func become(kind, path string, args ...string) error {
	if err := os.Setenv(role, kind); err != nil {
		return err
	}
	return syscall.Exec(path, append([]string{path}, args...), os.Environ())
}

func writeImage(path, kind string) error {
	self, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		return err
	}
	sections, data, size, err := hostileSections(kind, uint64(len(self)))
	if err != nil {
		return err
	}
	binary.LittleEndian.PutUint64(self[40:], uint64(len(self))) // e_shoff
	entry := 64
	if kind == "entries" {
		entry = 65535
	}
	binary.LittleEndian.PutUint16(self[58:], uint16(entry)) // e_shentsize, e_shnum, e_shstrndx
	binary.LittleEndian.PutUint16(self[60:], uint16(len(sections)))
	binary.LittleEndian.PutUint16(self[62:], 1)
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o755)
	if err != nil {
		return err
	}
	defer file.Close()
	if _, err := file.Write(self); err != nil {
		return err
	}
	if err := binary.Write(file, binary.LittleEndian, sections); err != nil {
		return err
	}
	if _, err := file.Write(data); err != nil {
		return err
	}
	if err := file.Truncate(int64(max(size, uint64(len(self)+64*len(sections)+len(data))))); err != nil {
		return err
	}
	return file.Close()
}

// hostileSections returns headers, what follows them in the file, whose headers are at an
// offset, and how large the file is to be.
func hostileSections(kind string, at uint64) (sections []elf.Section64, data []byte, size uint64, err error) {
	const table = 3 << 30
	switch kind {
	case "sparse": // 3 GiB of names, 3 GiB of symbols, and most of the file is a hole
		sections = make([]elf.Section64, 3)
		sections[1] = elf.Section64{Type: uint32(elf.SHT_STRTAB), Off: at, Size: table}
		sections[2] = elf.Section64{Type: uint32(elf.SHT_SYMTAB), Off: at, Size: table, Link: 1, Entsize: 24}
		return sections, nil, at + table, nil
	case "compressed": // 512 MiB of names
		const unpacked = 512 << 20
		var packed bytes.Buffer
		if err := binary.Write(&packed, binary.LittleEndian, elf.Chdr64{Type: uint32(elf.COMPRESS_ZLIB), Size: unpacked, Addralign: 1}); err != nil {
			return nil, nil, 0, err
		}
		w := zlib.NewWriter(&packed)
		if _, err := io.CopyN(w, zeros{}, unpacked); err != nil {
			return nil, nil, 0, err
		}
		if err := w.Close(); err != nil {
			return nil, nil, 0, err
		}
		sections = make([]elf.Section64, 3)
		place := at + 64*uint64(len(sections))
		sections[1] = elf.Section64{Type: uint32(elf.SHT_STRTAB), Flags: uint64(elf.SHF_COMPRESSED), Off: place, Size: uint64(packed.Len())}
		sections[2] = elf.Section64{Type: uint32(elf.SHT_SYMTAB), Flags: uint64(elf.SHF_COMPRESSED), Off: place, Size: uint64(packed.Len()), Link: 1, Entsize: 24}
		return sections, packed.Bytes(), 0, nil
	case "entries": // 4,095 headers of 65,535 bytes each
		return make([]elf.Section64, 4095), nil, at + 4095*65535, nil
	}
	return nil, nil, 0, fmt.Errorf("image %q: unknown", kind)
}

type zeros struct{}

func (zeros) Read(b []byte) (int, error) { clear(b); return len(b), nil }
