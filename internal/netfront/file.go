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
	"github.com/ulikunitz/xz"
)

// maxUnpackedBytes bounds what a compressed module may unpack to. The largest
// modules of distributions have less than 20 MiB.
const maxUnpackedBytes = 128 << 20

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
		{"\xfd7zXZ\x00", func(r io.Reader) (io.Reader, error) { return xz.NewReader(r) }},
		{"\x28\xb5\x2f\xfd", func(r io.Reader) (io.Reader, error) {
			return zstd.NewReader(r, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(maxUnpackedBytes), zstd.WithDecoderMaxWindow(maxUnpackedBytes))
		}},
		{"\x1f\x8b", func(r io.Reader) (io.Reader, error) { return gzip.NewReader(r) }},
	}
}

// ReadDriver reads a module or a vmlinux, which may be compressed with xz, zstd or gzip.
// Errors wrap [kernel.ErrNotCode] if the file is something else.
func ReadDriver(file io.ReaderAt) (*File, error) {
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
		content, err := p.all(file)
		if err != nil {
			return nil, err
		}
		return readImage(bytes.NewReader(content))
	}
	return readImage(file)
}

func (p packing) all(file io.ReaderAt) ([]byte, error) {
	unpacked, err := p.unpack(io.NewSectionReader(file, 0, 1<<62))
	if err != nil {
		return nil, fmt.Errorf("%w: it does not unpack: %w", kernel.ErrNotCode, err)
	}
	if closer, is := unpacked.(interface{ Close() }); is { // zstd's decoder
		defer closer.Close()
	}
	content, err := io.ReadAll(io.LimitReader(unpacked, maxUnpackedBytes+1))
	if err != nil {
		return nil, fmt.Errorf("%w: it does not unpack: %w", kernel.ErrNotCode, err)
	}
	if len(content) > maxUnpackedBytes {
		return nil, fmt.Errorf("%w: it unpacks to more than %d MiB", kernel.ErrNotCode, maxUnpackedBytes>>20)
	}
	return content, nil
}

// A File is a driver in a file: a module, or a kernel with the driver built in.
type File struct{ *kernel.Image }

func readImage(file io.ReaderAt) (*File, error) {
	image, err := kernel.ReadImage(file, Symbols())
	if err != nil {
		return nil, err
	}
	return &File{image}, nil
}

// Linearizes is [DriverLinearizes] for the driver in the file.
func (f *File) Linearizes(ctx context.Context) (Answer, error) {
	entries := f.Symbols.Functions(transmitFunction)
	if len(entries) == 0 {
		return Answer{Unknown, f.withoutDriver()}, nil
	}
	for _, entry := range entries {
		if !f.HasRelocations(entry.Address) {
			return Answer{Unknown, "the file has no relocations for the code of " + transmitFunction}, nil
		}
	}
	return linearizes(ctx, &f.Code)
}

// withoutDriver says why the file has no transmit function.
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
