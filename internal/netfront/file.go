package netfront

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"

	"xentrace/internal/kernel"

	"github.com/klauspost/compress/zstd"
	"github.com/therootcompany/xz"
)

const (
	// maxUnpackedBytes bounds what a compressed file may unpack to. The largest modules
	// of distributions have less than 20 MiB.
	maxUnpackedBytes = 128 << 20
	// maxWindowBytes bounds the dictionary (xz) or window (zstd), which a decoder allocates
	// as the file asks. "xz -9" takes this much, distributions 8 MiB at most.
	maxWindowBytes = 64 << 20
	// unpackedChunk is how much of what is unpacked is allocated at a time.
	unpackedChunk = 1 << 20
)

type packing struct {
	magic  string
	unpack func(io.Reader) (io.Reader, error)
}

// Kernel images for booting, by what stands where. They are compressed and
// without symbols, so there is nothing to be learnt from them.
var bootImages = []struct {
	at    int
	magic string
}{{0x202, "HdrS"}, {4, "zimg"}, {0x38, "ARM\x64"}}

func packings() []packing {
	return []packing{
		{"\xfd7zXZ\x00", func(r io.Reader) (io.Reader, error) { return xz.NewReader(r, maxWindowBytes) }},
		{"\x28\xb5\x2f\xfd", func(r io.Reader) (io.Reader, error) {
			return zstd.NewReader(r, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(maxUnpackedBytes), zstd.WithDecoderMaxWindow(maxWindowBytes))
		}},
		{"\x1f\x8b", func(r io.Reader) (io.Reader, error) { return gzip.NewReader(r) }},
	}
}

// ReadDriver reads a module or a vmlinux, which may be compressed with xz, zstd or gzip,
// from a file of that many bytes. Errors wrap [kernel.ErrNotCode] if the file is something
// else.
func ReadDriver(file io.ReaderAt, size int64) (*File, error) {
	head := make([]byte, 0x240)
	n, err := file.ReadAt(head, 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	head = head[:n]
	if len(head) == 0 {
		return nil, fmt.Errorf("%w: it is empty", kernel.ErrNotCode)
	}
	for _, boot := range bootImages {
		if len(head) > boot.at && bytes.HasPrefix(head[boot.at:], []byte(boot.magic)) {
			return nil, fmt.Errorf("%w: it is a kernel to be booted, which has no symbols: take the module, or a vmlinux with symbols", kernel.ErrNotCode)
		}
	}
	for _, p := range packings() {
		if !bytes.HasPrefix(head, []byte(p.magic)) {
			continue
		}
		content, err := p.all(io.NewSectionReader(file, 0, size))
		if err != nil {
			return nil, err
		}
		return readImage(content, content.size)
	}
	return readImage(file, size)
}

func (p packing) all(file io.Reader) (*unpackedFile, error) {
	unpacked, err := p.unpack(file)
	if err != nil {
		return nil, fmt.Errorf("%w: it does not unpack: %w", kernel.ErrNotCode, err)
	}
	if closer, is := unpacked.(interface{ Close() }); is { // zstd's decoder
		defer closer.Close()
	}
	content := &unpackedFile{}
	if err := content.read(unpacked); err != nil {
		return nil, fmt.Errorf("%w: it does not unpack: %w", kernel.ErrNotCode, err)
	}
	return content, nil
}

// An unpackedFile is what a file unpacks to, in chunks: growing one slice would need twice
// the memory.
type unpackedFile struct {
	chunks [][]byte // all but the last of unpackedChunk bytes
	size   int64
}

func (u *unpackedFile) read(from io.Reader) error {
	for u.size < maxUnpackedBytes {
		chunk, filled := make([]byte, unpackedChunk), 0
		var err error
		for filled < len(chunk) && err == nil {
			var n int
			n, err = from.Read(chunk[filled:])
			filled += n
		}
		u.chunks, u.size = append(u.chunks, chunk[:filled]), u.size+int64(filled)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
	return fmt.Errorf("over %d MiB", maxUnpackedBytes>>20)
}

// ReadAt implements [io.ReaderAt].
func (u *unpackedFile) ReadAt(b []byte, at int64) (int, error) {
	n := 0
	for n < len(b) && at+int64(n) < u.size {
		from := at + int64(n)
		n += copy(b[n:], u.chunks[from/unpackedChunk][from%unpackedChunk:])
	}
	if n < len(b) {
		return n, io.EOF
	}
	return n, nil
}

// A File is a driver in a file: a module, or a kernel with the driver built in.
type File struct{ *kernel.Image }

func readImage(file io.ReaderAt, size int64) (*File, error) {
	image, err := kernel.ReadImage(file, size, Symbols())
	if err != nil {
		return nil, err
	}
	return &File{image}, nil
}

// Linearizes is [DriverLinearizes] for the driver in the file.
func (f *File) Linearizes(ctx context.Context) (Answer, error) {
	entries := f.Symbols.Functions(transmitFunction)
	if len(entries) == 0 {
		return Answer{Evidence: f.withoutDriver()}, nil
	}
	for _, entry := range entries {
		if !f.HasRelocations(entry.Address) {
			return Answer{Evidence: "the file has no relocations for the code of " + transmitFunction}, nil
		}
	}
	return linearizes(ctx, &f.Code)
}

// withoutDriver reports why the file has no transmit function.
func (f *File) withoutDriver() string {
	switch f.Module {
	case "":
		return "this file has no function " + transmitFunction + ": it is a kernel without xen-netfront built in, or its symbols were stripped"
	case Module:
		return "the symbol " + transmitFunction + " was stripped from this file"
	default:
		return fmt.Sprintf("this file is the module %s, not %s", f.Module, Module)
	}
}
