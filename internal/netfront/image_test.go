package netfront

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"errors"
	"slices"
	"strings"
	"testing"

	"xentrace/internal/kernel"
	"xentrace/test/machinecode"
)

// A moduleFile is a relocatable object of two sections of code, written by hand.
type moduleFile struct {
	text, unlikely []byte
	relocations    []elf.Rela64 // of .text
	kind           elf.Type
	machine        elf.Machine
	extra          int // symbols after those, which have one name
}

// Where a linked kernel has its sections and the functions that a module imports.
const (
	linkedText     = 0xffffffff81000000
	linkedUnlikely = 0xffffffff81002000
	linkedPullTail = 0x100 // in .text.unlikely
	linkedFree     = 0x180
)

// Indexes into the symbol table that encode writes.
const (
	symbolText = iota + 1 // the sections themselves
	symbolUnlikely
	symbolTransmit
	symbolCold
	symbolPullTail // imported, as the two behind it
	symbolFree
)

// encode lays the file out: header, contents, section headers.
func (m moduleFile) encode(t testing.TB) []byte {
	t.Helper()
	names := "\x00xennet_start_xmit\x00xennet_start_xmit.cold\x00__pskb_pull_tail\x00__dev_kfree_skb_any\x00.text\x00.text.unlikely\x00.rela.text\x00.symtab\x00.strtab\x00"
	name := func(of string) uint32 { return uint32(strings.Index(names, "\x00"+of+"\x00") + 1) }
	local, global := elf.ST_INFO(elf.STB_LOCAL, elf.STT_FUNC), elf.ST_INFO(elf.STB_GLOBAL, elf.STT_NOTYPE)
	symbols := []elf.Sym64{
		{},
		{Info: elf.ST_INFO(elf.STB_LOCAL, elf.STT_SECTION), Shndx: 1},
		{Info: elf.ST_INFO(elf.STB_LOCAL, elf.STT_SECTION), Shndx: 2},
		{Name: name("xennet_start_xmit"), Info: local, Shndx: 1},
		{Name: name("xennet_start_xmit.cold"), Info: local, Shndx: 2},
		{Name: name("__pskb_pull_tail"), Info: global},
		{Name: name("__dev_kfree_skb_any"), Info: global},
	}
	symbols = append(symbols, slices.Repeat([]elf.Sym64{{Name: name("xennet_start_xmit"), Info: local, Shndx: 1}}, m.extra)...)
	code := uint64(elf.SHF_ALLOC | elf.SHF_EXECINSTR)
	var textAt, unlikelyAt uint64
	if m.kind == elf.ET_EXEC {
		textAt, unlikelyAt = linkedText, linkedUnlikely
		for n, place := range []struct {
			section uint16
			at      uint64
		}{symbolTransmit: {1, textAt}, symbolCold: {2, unlikelyAt}, symbolPullTail: {2, unlikelyAt + linkedPullTail}, symbolFree: {2, unlikelyAt + linkedFree}} {
			symbols[n].Shndx, symbols[n].Value = max(symbols[n].Shndx, place.section), place.at
		}
	}
	sections := []struct {
		header  elf.Section64
		content any
	}{
		{elf.Section64{}, nil},
		{elf.Section64{Name: name(".text"), Type: uint32(elf.SHT_PROGBITS), Flags: code, Addr: textAt}, m.text},
		{elf.Section64{Name: name(".text.unlikely"), Type: uint32(elf.SHT_PROGBITS), Flags: code, Addr: unlikelyAt}, m.unlikely},
		{elf.Section64{Name: name(".rela.text"), Type: uint32(elf.SHT_RELA), Link: 4, Info: 1, Entsize: 24}, m.relocations},
		{elf.Section64{Name: name(".symtab"), Type: uint32(elf.SHT_SYMTAB), Link: 5, Info: 5, Entsize: elf.Sym64Size}, symbols},
		{elf.Section64{Name: name(".strtab"), Type: uint32(elf.SHT_STRTAB)}, []byte(names)},
	}
	var body, headers bytes.Buffer
	for _, section := range sections {
		start := body.Len()
		if section.content != nil {
			write(t, &body, section.content)
			section.header.Off, section.header.Size = uint64(64+start), uint64(body.Len()-start)
		}
		write(t, &headers, section.header)
	}
	var file bytes.Buffer
	write(t, &file, elf.Header64{
		Ident: [elf.EI_NIDENT]byte{0x7f, 'E', 'L', 'F', byte(elf.ELFCLASS64), byte(elf.ELFDATA2LSB), byte(elf.EV_CURRENT)},
		Type:  uint16(m.kind), Machine: uint16(m.machine), Version: uint32(elf.EV_CURRENT), Shoff: uint64(64 + body.Len()),
		Ehsize: 64, Shentsize: 64, Shnum: uint16(len(sections)), Shstrndx: 5,
	})
	return append(append(file.Bytes(), body.Bytes()...), headers.Bytes()...)
}

func write(t testing.TB, to *bytes.Buffer, value any) {
	t.Helper()
	if err := binary.Write(to, binary.LittleEndian, value); err != nil {
		t.Fatal(err)
	}
}

func relocation(offset uint64, symbol uint32, addend int64) elf.Rela64 {
	return elf.Rela64{Off: offset, Info: elf.R_INFO(symbol, uint32(elf.R_X86_64_PLT32)), Addend: addend}
}

func TestImage(t *testing.T) {
	// nop5; push; call A; ja B; pop; ret, and out of line: ud2; call C.
	text := machinecode.Function("", "", 0).Nop5().Push().Call(11).Ja(17).Ret().Code
	unlikely := machinecode.Function("", "", 0).Bytes(0x0f, 0x0b, 0xeb, 0xfc).Code // ud2; jmp back to it
	for _, test := range []struct {
		name        string
		file        moduleFile
		value       Linearization
		evidence    string
		failsToRead bool
	}{
		{"a call of an import", moduleFile{text, unlikely, []elf.Rela64{relocation(7, symbolPullTail, -4), relocation(13, symbolUnlikely, -4)}, elf.ET_REL, elf.EM_X86_64, 0},
			Linearizes, "xennet_start_xmit+0x6 calls __pskb_pull_tail", false},
		{"a call of another import", moduleFile{text, unlikely, []elf.Rela64{relocation(7, symbolFree, -4), relocation(13, symbolUnlikely, -4)}, elf.ET_REL, elf.EM_X86_64, 0},
			Drops, "never calls", false},
		{"into the middle of the other section", moduleFile{text, unlikely, []elf.Rela64{relocation(7, symbolFree, -4), relocation(13, symbolUnlikely, -2)}, elf.ET_REL, elf.EM_X86_64, 0},
			Drops, "never calls", false},
		{"no free of a packet", moduleFile{text, unlikely, []elf.Rela64{relocation(7, symbolText, 13), relocation(13, symbolCold, -4)}, elf.ET_REL, elf.EM_X86_64, 0},
			Unknown, "frees no packet", false},
		{"a relocation behind the end", moduleFile{text, unlikely, []elf.Rela64{relocation(uint64(len(text))-3, symbolFree, -4)}, elf.ET_REL, elf.EM_X86_64, 0}, 0, "", true},
		{"a relocation far behind the end", moduleFile{text, unlikely, []elf.Rela64{relocation(^uint64(0), symbolFree, -4)}, elf.ET_REL, elf.EM_X86_64, 0}, 0, "", true},
		{"a relocation by a symbol that is not there", moduleFile{text, unlikely, []elf.Rela64{relocation(7, 99, -4)}, elf.ET_REL, elf.EM_X86_64, 0}, 0, "", true},
		{"no code", moduleFile{nil, nil, nil, elf.ET_REL, elf.EM_X86_64, 0}, 0, "", true},
		{"a core dump", moduleFile{text, unlikely, nil, elf.ET_CORE, elf.EM_X86_64, 0}, 0, "", true},
		{"another machine", moduleFile{text, unlikely, nil, elf.ET_REL, elf.EM_RISCV, 0}, 0, "", true},
		{"no relocations", moduleFile{text, unlikely, nil, elf.ET_REL, elf.EM_X86_64, 0}, Unknown, "no relocations for the code", false},
	} {
		t.Run(test.name, func(t *testing.T) {
			image, err := readBytes(test.file.encode(t))
			if test.failsToRead {
				if !errors.Is(err, kernel.ErrNotCode) {
					t.Fatalf("error %v, want %v", err, kernel.ErrNotCode)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			answer, err := image.Linearizes(t.Context())
			if err != nil || answer.Value != test.value || !strings.Contains(answer.Evidence, test.evidence) {
				t.Errorf("%s: %q, error %v; want %s: %q", answer.Value, answer.Evidence, err, test.value, test.evidence)
			}
		})
	}
}

// words lays out 64-bit ARM code.
func words(code ...uint32) []byte {
	var b []byte
	for _, word := range code {
		b = binary.LittleEndian.AppendUint32(b, word)
	}
	return b
}

func TestImageOfARM64(t *testing.T) {
	// bti c; nop; bl A; b.hi B; cbz x0, .+8; ret; b C, and out of line: brk; b back to it.
	text := words(0xd503245f, 0xd503201f, 0x94000000, 0x54000008, 0xb4000040, 0xd65f03c0, 0x14000000)
	unlikely := words(0xd4210000, 0x17ffffff)
	relocation := func(offset uint64, symbol uint32, kind elf.R_AARCH64) elf.Rela64 {
		return elf.Rela64{Off: offset, Info: elf.R_INFO(symbol, uint32(kind))}
	}
	branch, tail := relocation(12, symbolCold, elf.R_AARCH64_CONDBR19), relocation(24, symbolFree, elf.R_AARCH64_JUMP26)
	for _, test := range []struct {
		name     string
		code     []elf.Rela64
		value    Linearization
		evidence string
	}{
		{"a call", []elf.Rela64{relocation(8, symbolPullTail, elf.R_AARCH64_CALL26), branch, tail},
			Linearizes, "xennet_start_xmit+0x8 calls __pskb_pull_tail"},
		{"a tail call", []elf.Rela64{relocation(8, symbolFree, elf.R_AARCH64_CALL26), branch, relocation(24, symbolPullTail, elf.R_AARCH64_JUMP26)},
			Linearizes, "xennet_start_xmit+0x18 calls __pskb_pull_tail"},
		{"no call", []elf.Rela64{relocation(8, symbolFree, elf.R_AARCH64_CALL26), branch, tail},
			Drops, "never calls"},
		{"no relocations", nil, Unknown, "no relocations for the code"},
	} {
		t.Run(test.name, func(t *testing.T) {
			answer := answerOfFile(t, moduleFile{text, unlikely, test.code, elf.ET_REL, elf.EM_AARCH64, 0}.encode(t))
			if answer.Value != test.value || !strings.Contains(answer.Evidence, test.evidence) {
				t.Errorf("%s: %q; want %s: %q", answer.Value, answer.Evidence, test.value, test.evidence)
			}
		})
	}
}

// answerOfFile reads a file that can be read.
func answerOfFile(t *testing.T, file []byte) Answer {
	t.Helper()
	image, err := readBytes(file)
	if err != nil {
		t.Fatal(err)
	}
	answer, err := image.Linearizes(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return answer
}

// A kernel that has the driver built in, linked.
func TestImageOfKernel(t *testing.T) {
	unlikely := machinecode.Function("", "", linkedUnlikely).UD2().Call(linkedUnlikely + linkedFree).Ret().To(linkedPullTail).Ret().To(linkedFree).Ret().Code
	for _, test := range []struct {
		name     string
		calls    uint64
		value    Linearization
		evidence string
	}{
		{"a call", linkedUnlikely + linkedPullTail, Linearizes, "xennet_start_xmit+0x6 calls __pskb_pull_tail"},
		{"no call", linkedUnlikely + linkedFree, Drops, "xennet_start_xmit in vmlinux never calls"},
	} {
		t.Run(test.name, func(t *testing.T) {
			text := machinecode.Function("", "", linkedText).Nop5().Push().Call(test.calls).Ja(linkedUnlikely).Ret().Code
			answer := answerOfFile(t, moduleFile{text, unlikely, nil, elf.ET_EXEC, elf.EM_X86_64, 0}.encode(t))
			if answer.Value != test.value || !strings.Contains(answer.Evidence, test.evidence) {
				t.Errorf("%s: %q; want %s: %q", answer.Value, answer.Evidence, test.value, test.evidence)
			}
		})
	}
}

func TestFileThatIsNoModule(t *testing.T) {
	for name, content := range map[string]string{"nothing": "", "text": "obj-m += xen-netfront.o\n", "half a header": "\x7fELF\x02\x01\x01"} {
		t.Run(name, func(t *testing.T) {
			if _, err := readImage(strings.NewReader(content), int64(len(content))); !errors.Is(err, kernel.ErrNotCode) {
				t.Errorf("error %v, want %v", err, kernel.ErrNotCode)
			}
		})
	}
}
