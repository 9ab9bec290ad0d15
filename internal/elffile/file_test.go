package elffile

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"xentrace/test/memory"
)

// headers are those of a file, in the widths of 64-bit ones.
type headers struct {
	class    elf.Class
	order    binary.ByteOrder
	header   elf.Header64
	segments []elf.Prog64
	sections []elf.Section64
}

// encode writes the ELF header, the segments and the sections one after the other; what
// header has of their places is kept unless it is 0.
func (h headers) encode(t testing.TB) []byte {
	t.Helper()
	data := elf.ELFDATA2LSB
	if h.order == binary.BigEndian {
		data = elf.ELFDATA2MSB
	}
	e := h.header
	copy(e.Ident[:], elf.ELFMAG)
	e.Ident[elf.EI_CLASS], e.Ident[elf.EI_DATA], e.Ident[elf.EI_VERSION] = byte(h.class), byte(data), byte(elf.EV_CURRENT)
	e.Version, e.Shstrndx = uint32(elf.EV_CURRENT), max(e.Shstrndx, 1)
	header, segment, section := 64, 56, 64
	if h.class == elf.ELFCLASS32 {
		header, segment, section = 52, 32, 40
	}
	set := func(field *uint16, value int) {
		if *field == 0 {
			*field = uint16(value)
		}
	}
	e.Phoff, e.Shoff = uint64(header), uint64(header+segment*len(h.segments))
	set(&e.Ehsize, header)
	set(&e.Phentsize, segment)
	set(&e.Phnum, len(h.segments))
	set(&e.Shentsize, section)
	set(&e.Shnum, len(h.sections))
	var file bytes.Buffer
	write := func(v any) {
		if err := binary.Write(&file, h.order, v); err != nil {
			t.Fatal(err)
		}
	}
	if h.class == elf.ELFCLASS64 {
		write(e)
		write(h.segments)
		write(h.sections)
		return file.Bytes()
	}
	write(elf.Header32{Ident: e.Ident, Type: e.Type, Machine: e.Machine, Version: e.Version, Phoff: uint32(e.Phoff), Shoff: uint32(e.Shoff),
		Ehsize: e.Ehsize, Phentsize: e.Phentsize, Phnum: e.Phnum, Shentsize: e.Shentsize, Shnum: e.Shnum, Shstrndx: e.Shstrndx})
	for _, p := range h.segments {
		write(elf.Prog32{Type: p.Type, Off: uint32(p.Off), Vaddr: uint32(p.Vaddr), Filesz: uint32(p.Filesz)})
	}
	for _, s := range h.sections {
		write(elf.Section32{Name: s.Name, Type: s.Type, Flags: uint32(s.Flags), Addr: uint32(s.Addr), Off: uint32(s.Off), Size: uint32(s.Size), Link: s.Link, Info: s.Info})
	}
	return file.Bytes()
}

// ordinary has a segment and sections for names and symbols, all at the file's start.
func ordinary(class elf.Class, order binary.ByteOrder) headers {
	return headers{
		class: class, order: order, header: elf.Header64{Type: uint16(elf.ET_EXEC), Machine: uint16(elf.EM_ARM)},
		segments: []elf.Prog64{{Type: uint32(elf.PT_LOAD), Off: 16, Vaddr: 0x10000, Filesz: 32}},
		sections: []elf.Section64{{},
			{Name: 1, Type: uint32(elf.SHT_STRTAB), Off: 0, Size: 16},
			{Name: 2, Type: uint32(elf.SHT_SYMTAB), Flags: uint64(elf.SHF_ALLOC), Addr: 0x20000, Off: 8, Size: 24, Link: 1, Info: 7},
			{Name: 1, Type: uint32(elf.SHT_NOBITS), Off: 1 << 30, Size: 1 << 30}},
	}
}

func TestHeadersAreThoseOfDebugELF(t *testing.T) {
	files := map[string][]byte{
		"32-bit, little-endian": ordinary(elf.ELFCLASS32, binary.LittleEndian).encode(t),
		"32-bit, big-endian":    ordinary(elf.ELFCLASS32, binary.BigEndian).encode(t),
		"64-bit, little-endian": ordinary(elf.ELFCLASS64, binary.LittleEndian).encode(t),
		"64-bit, big-endian":    ordinary(elf.ELFCLASS64, binary.BigEndian).encode(t),
	}
	for name, path := range map[string]string{"this program": "/proc/self/exe", "a BPF object": "../../bpf/xentrace_x86_bpfel.o"} {
		content, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		files[name] = content
	}
	for name, content := range files {
		t.Run(name, func(t *testing.T) {
			want, err := elf.NewFile(bytes.NewReader(content))
			if err != nil {
				t.Fatal(err)
			}
			got, err := Read(bytes.NewReader(content), int64(len(content)))
			if err != nil {
				t.Fatal(err)
			}
			if got.Class != want.Class || got.Type != want.Type || got.Machine != want.Machine || got.Order != want.ByteOrder {
				t.Errorf("header %v %v %v %v, want %v", got.Class, got.Type, got.Machine, got.Order, want.FileHeader)
			}
			if len(got.Sections) != len(want.Sections) || len(got.Segments) != len(want.Progs) {
				t.Fatalf("%d sections and %d segments, want %d and %d", len(got.Sections), len(got.Segments), len(want.Sections), len(want.Progs))
			}
			for n, w := range want.Sections {
				g := got.Sections[n]
				if g.Type != w.Type || g.Flags != w.Flags || g.Address != w.Addr || g.Offset != w.Offset || g.Size != w.FileSize || g.Link != w.Link || g.Info != w.Info {
					t.Errorf("section %d: %+v, want %+v", n, g, w.SectionHeader)
				}
				if w.Name != "" && got.Named(w.Name).Type != want.Section(w.Name).Type {
					t.Errorf("section %s: %v, want %v", w.Name, got.Named(w.Name).Type, w.Type)
				}
			}
			for n, w := range want.Progs {
				if g := got.Segments[n]; g.Type != w.Type || g.Offset != w.Off || g.Address != w.Vaddr || g.FileSize != w.Filesz {
					t.Errorf("segment %d: %+v, want %+v", n, g, w.ProgHeader)
				}
			}
		})
	}
}

// sparse returns a file of that content, and then nothing up to size.
func sparse(t *testing.T, content []byte, size int64) *os.File {
	t.Helper()
	path := filepath.Join(t.TempDir(), "sparse")
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(path, size); err != nil {
		t.Fatal(err)
	}
	file, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = file.Close() })
	return file
}

func TestHostileHeadersAreRefused(t *testing.T) {
	const size = 4 << 30 // sparse, so that tables of any size are in it
	for name, change := range map[string]func(*headers){
		"4096 sections of 65,535 bytes": func(h *headers) { h.header.Shnum, h.header.Shentsize = 4096, 65535 },
		"4097 sections":                 func(h *headers) { h.header.Shnum = 4097 },
		"sections counted elsewhere":    func(h *headers) { h.sections = nil },
		"513 segments":                  func(h *headers) { h.header.Phnum = 513 },
		"segments counted elsewhere":    func(h *headers) { h.header.Phnum = 65535 },
		"segments of 65,535 bytes":      func(h *headers) { h.header.Phentsize = 65535 },
		"a section over the end":        func(h *headers) { h.sections[2].Size = size },
		"a section that wraps around":   func(h *headers) { h.sections[2].Off = ^uint64(0) - 10 },
		"no version":                    func(h *headers) { h.class = 3 },
	} {
		t.Run(name, func(t *testing.T) {
			h := ordinary(elf.ELFCLASS64, binary.LittleEndian)
			change(&h)
			file := sparse(t, h.encode(t), size)
			memory.Within(t, 1<<20, func() {
				if _, err := Read(file, size); !errors.Is(err, ErrMalformed) {
					t.Errorf("error %v, want %v", err, ErrMalformed)
				}
			})
		})
	}
}

func TestHugeTablesAreReadWithinLimits(t *testing.T) {
	const size = 1 << 32
	h := ordinary(elf.ELFCLASS64, binary.LittleEndian)
	h.sections[1].Size = size     // names
	h.sections[2].Size = 64 << 20 // symbols
	h.sections[3] = h.sections[2] // the same, compressed
	h.sections[3].Flags |= uint64(elf.SHF_COMPRESSED)
	file := sparse(t, h.encode(t), size)
	memory.Within(t, 1<<20, func() {
		f, err := Read(file, size)
		if err != nil {
			t.Fatal(err)
		}
		if s := f.Named("absent"); s != nil {
			t.Errorf("section %+v, want none", s)
		}
		symbols := 0
		if err := f.Symbols(&f.Sections[2], func(Symbol) error { symbols++; return nil }); err != nil || symbols != 64<<20/24 {
			t.Errorf("%d symbols, error %v, want %d", symbols, err, 64<<20/24)
		}
		if _, err := f.Content(&f.Sections[1], 4096); !errors.Is(err, ErrMalformed) {
			t.Errorf("4 GiB of names: error %v, want %v", err, ErrMalformed)
		}
		if _, err := f.Content(&f.Sections[3], 128<<20); !errors.Is(err, ErrMalformed) {
			t.Errorf("compressed section: error %v, want %v", err, ErrMalformed)
		}
		if n := f.Open(&f.Sections[3]).Size(); n != 0 {
			t.Errorf("compressed section has %d bytes to read, want 0", n)
		}
	})
}

func TestNamesAreCut(t *testing.T) {
	h := ordinary(elf.ELFCLASS64, binary.LittleEndian)
	content := h.encode(t)
	at := uint32(len(content))
	content = append(append(content, bytes.Repeat([]byte("n"), 2*MaxName)...), "\x00end"...)
	h.sections[1].Size = uint64(len(content))
	content = append(h.encode(t), content[at:]...)
	f, err := Read(bytes.NewReader(content), int64(len(content)))
	if err != nil {
		t.Fatal(err)
	}
	names := &f.Sections[1]
	for place, want := range map[uint32]int{at: MaxName, at + 2*MaxName - 3: 3, uint32(len(content)) - 3: 3, uint32(len(content)): 0, ^uint32(0): 0} {
		if got := f.String(names, place); len(got) != want {
			t.Errorf("name at %d has %d bytes, want %d", place, len(got), want)
		}
	}
}

func FuzzRead(f *testing.F) {
	for _, class := range []elf.Class{elf.ELFCLASS32, elf.ELFCLASS64} {
		h := ordinary(class, binary.LittleEndian)
		f.Add(h.encode(f))
		h.order = binary.BigEndian
		h.header.Shentsize, h.header.Shnum = 65535, 4096
		f.Add(h.encode(f))
	}
	f.Add([]byte(elf.ELFMAG))
	f.Fuzz(func(t *testing.T, content []byte) {
		memory.Within(t, 2<<20, func() {
			file, err := Read(bytes.NewReader(content), int64(len(content)))
			if err != nil {
				return
			}
			for n := range file.Sections {
				s := &file.Sections[n]
				if s.HasContent() && (s.Offset > uint64(len(content)) || s.Size > uint64(len(content))-s.Offset) {
					t.Fatalf("section %d: %+v lies outside the file of %d bytes", n, s, len(content))
				}
			}
			file.Named(".symtab")
			if table := file.OfType(elf.SHT_SYMTAB); table != nil {
				symbols := 0
				_ = file.Symbols(table, func(s Symbol) error {
					symbols++
					if names := file.Linked(table, elf.SHT_STRTAB); names != nil && symbols < 100 {
						if name := file.String(names, s.Name); len(name) > MaxName {
							t.Fatalf("name of %d bytes", len(name))
						}
					}
					return nil
				})
			}
		})
	})
}
