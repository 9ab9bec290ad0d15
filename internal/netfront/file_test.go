package netfront

import (
	"bytes"
	"compress/gzip"
	"debug/elf"
	"errors"
	"io"
	"strings"
	"testing"

	"xentrace/internal/kernel"
	"xentrace/test/machinecode"
	"xentrace/test/memory"

	"github.com/klauspost/compress/zstd"
)

// aModule is one whose transmit function calls the linearizer.
func aModule(t testing.TB) []byte {
	t.Helper()
	text := machinecode.Function("", "", 0).Nop5().Push().Call(11).Ret().Code
	return moduleFile{text: text, unlikely: machinecode.Function("", "", 0).UD2().Code, relocations: []elf.Rela64{relocation(7, symbolPullTail, -4)}, kind: elf.ET_REL, machine: elf.EM_X86_64}.encode(t)
}

// packed compresses content.
func packed(t testing.TB, content []byte, with func(io.Writer) (io.WriteCloser, error)) []byte {
	t.Helper()
	var file bytes.Buffer
	w, err := with(&file)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(content); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return file.Bytes()
}

// formats are the ways of compressing a module.
func formats() map[string]func(io.Writer) (io.WriteCloser, error) {
	return map[string]func(io.Writer) (io.WriteCloser, error){
		"xz":   func(w io.Writer) (io.WriteCloser, error) { return &xzWriter{to: w, dictionary: 18}, nil },
		"zstd": func(w io.Writer) (io.WriteCloser, error) { return zstd.NewWriter(w) },
		"gzip": func(w io.Writer) (io.WriteCloser, error) { return gzip.NewWriter(w), nil },
	}
}

func readBytes(content []byte) (*File, error) {
	return ReadDriver(bytes.NewReader(content), int64(len(content)))
}

func TestPackedModules(t *testing.T) {
	for name, with := range formats() {
		t.Run(name, func(t *testing.T) {
			file := packed(t, aModule(t), with)
			if answer := answerOfFile(t, file); answer.Value != Linearizes {
				t.Errorf("%s: %s", answer.Value, answer.Evidence)
			}
			for _, length := range []int{7, len(file) / 2, len(file) - 1} {
				if _, err := readBytes(file[:length]); !errors.Is(err, kernel.ErrNotCode) {
					t.Errorf("the first %d bytes of it: error %v, want %v", length, err, kernel.ErrNotCode)
				}
			}
			text := packed(t, []byte("no driver\n"), with)
			if _, err := readBytes(text); !errors.Is(err, kernel.ErrNotCode) || !strings.Contains(err.Error(), "not an ELF file") {
				t.Errorf("text: error %v, want %v", err, kernel.ErrNotCode)
			}
		})
	}
}

// The output of a decompressor is as large as the limit at most, whatever the file holds.
func TestUnpackedSizeIsLimited(t *testing.T) {
	zeros := make([]byte, 1<<20)
	for name, with := range formats() {
		if name == "xz" {
			continue // the writer of this test does not compress
		}
		t.Run(name, func(t *testing.T) {
			var file bytes.Buffer
			w, err := with(&file)
			must(t, err)
			for range maxUnpackedBytes/len(zeros) + 1 {
				_, err := w.Write(zeros)
				must(t, err)
			}
			must(t, w.Close())
			memory.Within(t, maxUnpackedBytes+32<<20, func() {
				if _, err := readBytes(file.Bytes()); !errors.Is(err, kernel.ErrNotCode) || !strings.Contains(err.Error(), "over 128 MiB") {
					t.Errorf("error %v, want it over 128 MiB", err)
				}
			})
		})
	}
}

// A file of a few bytes can ask the decompressor for a dictionary of 4 GiB.
func TestWindowIsLimited(t *testing.T) {
	for name, file := range map[string][]byte{
		"xz, 4 GiB":  packed(t, aModule(t), func(w io.Writer) (io.WriteCloser, error) { return &xzWriter{to: w, dictionary: 40}, nil }),
		"xz, 96 MiB": packed(t, aModule(t), func(w io.Writer) (io.WriteCloser, error) { return &xzWriter{to: w, dictionary: 29}, nil }),
		// A frame without a content size, and a window of 2 GiB.
		"zstd, 2 GiB": {0x28, 0xb5, 0x2f, 0xfd, 0x00, 21 << 3, 0x09, 0x00, 0x00, 'x'},
	} {
		t.Run(name, func(t *testing.T) {
			memory.Within(t, 4<<20, func() {
				if _, err := readBytes(file); !errors.Is(err, kernel.ErrNotCode) || !strings.Contains(err.Error(), "exceed") {
					t.Errorf("error %v, want the window to exceed its limit", err)
				}
			})
		})
	}
	largest := packed(t, aModule(t), func(w io.Writer) (io.WriteCloser, error) { return &xzWriter{to: w, dictionary: 28}, nil })
	if answer := answerOfFile(t, largest); answer.Value != Linearizes { // 64 MiB: xz -9
		t.Errorf("%s: %s", answer.Value, answer.Evidence)
	}
}

// Every symbol of this module, which is not the driver, has the same long name.
func TestSymbolsOfHostileModule(t *testing.T) {
	for name, symbols := range map[string]int{"over the number of symbols": 5000, "over the size of the table": 32<<20/elf.Sym64Size + 1} {
		t.Run(name, func(t *testing.T) {
			m := moduleFile{text: []byte{0xc3}, kind: elf.ET_REL, machine: elf.EM_X86_64, extra: symbols}
			file := m.encode(t)
			memory.Within(t, 8<<20, func() {
				if _, err := readBytes(file); !errors.Is(err, kernel.ErrNotCode) || !strings.Contains(err.Error(), "over ") {
					t.Errorf("error %v, want it over a limit", err)
				}
			})
		})
	}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestFilesThatAreRefused(t *testing.T) {
	at := func(offset int, magic string) string {
		return strings.Repeat("x", offset) + magic + strings.Repeat("x", 100)
	}
	for name, test := range map[string]struct{ content, want string }{
		"an empty file":    {"", "it is empty"},
		"a bzImage":        {at(0x202, "HdrS"), "a kernel to be booted, which has no symbols"},
		"an arm64 Image":   {at(0x38, "ARM\x64"), "a kernel to be booted, which has no symbols"},
		"a compressed EFI": {"MZ\x00\x00zimg", "a kernel to be booted, which has no symbols"},
		"a script":         {"#!/bin/sh\n", ": it is not an ELF file$"},
		"two bytes":        {"\x7fE", ": it is not an ELF file$"},
		"a cut ELF file":   {"\x7fELF\x02\x01\x01", ": it is an ELF file that is cut off or damaged$"},
	} {
		_, err := readBytes([]byte(test.content))
		if !errors.Is(err, kernel.ErrNotCode) || !strings.Contains(err.Error()+"$", test.want) {
			t.Errorf("%s: error %v, want %q", name, err, test.want)
		}
	}
}

// FuzzReadDriver gives any bytes as a file: no panic, and no claim that the code
// does not show.
func FuzzReadDriver(f *testing.F) {
	text := machinecode.Function("", "", 0).Nop5().Push().Call(11).Ret().Code
	f.Add(moduleFile{text: text, unlikely: machinecode.Function("", "", 0).UD2().Code, relocations: []elf.Rela64{relocation(7, symbolPullTail, -4)}, kind: elf.ET_REL, machine: elf.EM_X86_64}.encode(f))
	f.Add([]byte("\xfd7zXZ\x00"))
	for _, with := range formats() {
		f.Add(packed(f, aModule(f), with))
	}
	f.Add(packed(f, aModule(f), func(w io.Writer) (io.WriteCloser, error) { return &xzWriter{to: w, dictionary: 40}, nil }))
	f.Fuzz(func(t *testing.T, content []byte) {
		memory.Within(t, maxUnpackedBytes+maxWindowBytes+64<<20, func() {
			image, err := readBytes(content)
			if err != nil {
				return
			}
			if answer, err := image.Linearizes(t.Context()); err != nil || answer.Evidence == "" {
				t.Fatalf("%s: %q, error %v", answer.Value, answer.Evidence, err)
			}
		})
	})
}
