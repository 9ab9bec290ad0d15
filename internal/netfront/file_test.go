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

	"github.com/klauspost/compress/zstd"
	"github.com/ulikunitz/xz"
)

// aModule is one whose transmit function calls the linearizer.
func aModule(t *testing.T) []byte {
	t.Helper()
	text := machinecode.Function("", "", 0).Nop5().Push().Call(11).Ret().Code
	return moduleFile{text, machinecode.Function("", "", 0).UD2().Code, []elf.Rela64{relocation(7, symbolPullTail, -4)}, elf.ET_REL, elf.EM_X86_64}.encode(t)
}

// packed compresses content.
func packed(t *testing.T, content []byte, with func(io.Writer) (io.WriteCloser, error)) []byte {
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

func TestPackedModules(t *testing.T) {
	for name, with := range map[string]func(io.Writer) (io.WriteCloser, error){
		"xz":   func(w io.Writer) (io.WriteCloser, error) { return xz.NewWriter(w) },
		"zstd": func(w io.Writer) (io.WriteCloser, error) { return zstd.NewWriter(w) },
		"gzip": func(w io.Writer) (io.WriteCloser, error) { return gzip.NewWriter(w), nil },
	} {
		t.Run(name, func(t *testing.T) {
			file := packed(t, aModule(t), with)
			if answer := answerOfFile(t, file); answer.Value != Linearizes {
				t.Errorf("%s: %s", answer.Value, answer.Evidence)
			}
			for _, length := range []int{7, len(file) / 2} {
				if _, err := ReadDriver(bytes.NewReader(file[:length])); !errors.Is(err, kernel.ErrNotCode) {
					t.Errorf("the first %d bytes of it: error %v, want %v", length, err, kernel.ErrNotCode)
				}
			}
			text := packed(t, []byte("no driver\n"), with)
			if _, err := ReadDriver(bytes.NewReader(text)); !errors.Is(err, kernel.ErrNotCode) || !strings.Contains(err.Error(), "not an ELF file") {
				t.Errorf("text: error %v, want %v", err, kernel.ErrNotCode)
			}
		})
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
		_, err := ReadDriver(strings.NewReader(test.content))
		if !errors.Is(err, kernel.ErrNotCode) || !strings.Contains(err.Error()+"$", test.want) {
			t.Errorf("%s: error %v, want %q", name, err, test.want)
		}
	}
}

// FuzzReadDriver gives any bytes as a file: no panic, and no claim that the code
// does not show.
func FuzzReadDriver(f *testing.F) {
	text := machinecode.Function("", "", 0).Nop5().Push().Call(11).Ret().Code
	f.Add(moduleFile{text, machinecode.Function("", "", 0).UD2().Code, []elf.Rela64{relocation(7, symbolPullTail, -4)}, elf.ET_REL, elf.EM_X86_64}.encode(f))
	f.Add([]byte("\xfd7zXZ\x00"))
	f.Fuzz(func(t *testing.T, content []byte) {
		image, err := ReadDriver(bytes.NewReader(content))
		if err != nil {
			return
		}
		if answer, err := image.Linearizes(t.Context()); err != nil || answer.Evidence == "" {
			t.Fatalf("%s: %q, error %v", answer.Value, answer.Evidence, err)
		}
	})
}
