package ringread

import (
	"errors"
	"fmt"
	"os"
	"sync/atomic"
	"unsafe"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

// viewBytes is how much of the data is mapped at once, unless a record is larger.
const viewBytes = 128 << 10

// A ring is the memory of a ring buffer: a page with the position up to which it is read, one with
// that up to which it is written, and the data twice.
type ring struct {
	file *ebpf.Map
	size uint64 // of the data, a power of two

	pages              [2][]byte
	consumed, produced *uint64

	viewed []byte // what is mapped of the data
	from   uint64 // position of its first byte
}

func mapRing(file *ebpf.Map) (_ *ring, err error) {
	r := &ring{file: file, size: uint64(file.MaxEntries())}
	page := os.Getpagesize()
	for n, protection := range []int{unix.PROT_READ | unix.PROT_WRITE, unix.PROT_READ} {
		if r.pages[n], err = unix.Mmap(file.FD(), int64(n*page), page, protection, unix.MAP_SHARED); err != nil {
			return nil, errors.Join(fmt.Errorf("map page %d: %w", n, err), r.unmap())
		}
	}
	r.consumed, r.produced = firstLong(r.pages[0]), firstLong(r.pages[1])
	return r, nil
}

func (r *ring) available() int {
	consumed := atomic.LoadUint64(r.consumed) // first: it never passes the other
	return int(atomic.LoadUint64(r.produced) - consumed)
}

// view returns length bytes from a position on. They are mapped until the next call.
func (r *ring) view(at, length uint64) ([]byte, error) {
	if end := r.from + uint64(len(r.viewed)); r.viewed == nil || at < r.from || at+length > end {
		if err := r.move(at, length); err != nil {
			return nil, err
		}
	}
	start := at - r.from
	return r.viewed[start : start+length : start+length], nil
}

// move maps the data from the page of a position on.
func (r *ring) move(at, length uint64) error {
	if err := r.unview(); err != nil {
		return err
	}
	page := uint64(os.Getpagesize())
	from := at &^ (page - 1)
	offset := from & (r.size - 1)
	bytes := min(max(viewBytes, (at-from+length+page-1)&^(page-1)), 2*r.size-offset)
	data, err := unix.Mmap(r.file.FD(), int64(2*page+offset), int(bytes), unix.PROT_READ, unix.MAP_SHARED)
	if err != nil {
		return fmt.Errorf("ring buffer: map %d bytes: %w", bytes, err)
	}
	if at+length > from+bytes {
		return errors.Join(fmt.Errorf("ring buffer: record of %d bytes, of a ring buffer of %d", length, r.size), unix.Munmap(data))
	}
	r.viewed, r.from = data, from
	return nil
}

func (r *ring) unview() error {
	if r.viewed == nil {
		return nil
	}
	err := unix.Munmap(r.viewed)
	r.viewed = nil
	return err
}

func (r *ring) unmap() error {
	err := r.unview()
	for _, page := range r.pages {
		if page != nil {
			err = errors.Join(err, unix.Munmap(page))
		}
	}
	return err
}

func firstLong(b []byte) *uint64 { return (*uint64)(unsafe.Pointer(unsafe.SliceData(b))) }
func firstWord(b []byte) *uint32 { return (*uint32)(unsafe.Pointer(unsafe.SliceData(b))) }
