package main

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// The program's output leaves the guest on the disk that brought the program in:
// the console carries a few KB a second, the disk some MB. The guest writes
// records one after the other, and the host reads them from the disk's file as
// they appear. The lower half of the disk belongs to the program's files.
const (
	outputOffset = 512 << 20
	diskSize     = 1 << 30
	sector       = 512
	maxRecord    = 256 << 10
	pollInterval = 10 * time.Millisecond
)

// A record is a header and bytes of the stream, padded to whole sectors.
const (
	recordMagic  = 0x31_74_75_6f_62_61_6c_78 // "xlabout1"
	headerLength = 24                        // magic, number, length, checksum
)

// sealRecord fills in the header of a record whose n bytes of stream are in place,
// and returns the record's length on disk.
func sealRecord(record []byte, number uint64, n int) int {
	binary.LittleEndian.PutUint64(record, recordMagic)
	binary.LittleEndian.PutUint64(record[8:], number)
	binary.LittleEndian.PutUint32(record[16:], uint32(n))
	binary.LittleEndian.PutUint32(record[20:], crc32.ChecksumIEEE(record[headerLength:headerLength+n]))
	return (headerLength + n + sector - 1) / sector * sector
}

// errDiskFull says that the program wrote more than the disk's upper half holds.
var errDiskFull = errors.New("the output disk is full")

// diskWriter writes a stream as records. What comes while a record is being
// written goes into the next one.
type diskWriter struct {
	disk   *os.File
	record []byte // page-aligned, as direct writes want it
	end    int64  // where the disk ends

	mu      sync.Mutex
	changed *sync.Cond
	pending []byte
	closed  bool
	err     error
	done    chan struct{}
}

// openDiskWriter opens the guest's disk for output.
func openDiskWriter(path string) (*diskWriter, error) {
	disk, err := os.OpenFile(path, os.O_WRONLY|unix.O_DIRECT|unix.O_DSYNC, 0)
	if err != nil {
		return nil, err
	}
	record, err := unix.Mmap(-1, 0, maxRecord, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("record buffer: %w", err), disk.Close())
	}
	w := &diskWriter{disk: disk, record: record, end: diskSize, done: make(chan struct{})}
	w.changed = sync.NewCond(&w.mu)
	go w.flush()
	return w, nil
}

// Write takes p; it waits only while much is pending.
func (w *diskWriter) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for len(w.pending) > 4*maxRecord && w.err == nil {
		w.changed.Wait()
	}
	if w.err != nil {
		return 0, w.err
	}
	w.pending = append(w.pending, p...)
	w.changed.Broadcast()
	return len(p), nil
}

// flush writes records until the stream is closed or an error stops it.
func (w *diskWriter) flush() {
	defer close(w.done)
	offset := int64(outputOffset)
	for number := uint64(0); ; number++ {
		n := w.next()
		if n == 0 {
			return
		}
		length := sealRecord(w.record, number, n)
		err := errDiskFull
		if offset+int64(length) <= w.end {
			_, err = w.disk.WriteAt(w.record[:length], offset)
		}
		if err != nil {
			w.fail(err)
			return
		}
		offset += int64(length)
	}
}

// next moves pending bytes into the record, waiting for some; 0 at the end.
func (w *diskWriter) next() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	for len(w.pending) == 0 && !w.closed {
		w.changed.Wait()
	}
	n := copy(w.record[headerLength:], w.pending)
	w.pending = append(w.pending[:0], w.pending[n:]...)
	w.changed.Broadcast()
	return n
}

func (w *diskWriter) fail(err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.err = err
	w.changed.Broadcast()
}

// Close writes what is pending.
func (w *diskWriter) Close() error {
	w.mu.Lock()
	w.closed = true
	w.changed.Broadcast()
	w.mu.Unlock()
	<-w.done
	return errors.Join(w.err, unix.Munmap(w.record), w.disk.Close())
}

// diskReader reads the stream back from the disk's file on the host.
type diskReader struct {
	disk   io.ReaderAt
	number uint64
	offset int64
}

// next returns the bytes of the next record, nil if it is not (wholly) there yet.
func (r *diskReader) next() []byte {
	var header [headerLength]byte
	at := outputOffset + r.offset
	if _, err := r.disk.ReadAt(header[:], at); err != nil {
		return nil
	}
	length := binary.LittleEndian.Uint32(header[16:])
	if binary.LittleEndian.Uint64(header[:]) != recordMagic ||
		binary.LittleEndian.Uint64(header[8:]) != r.number || length > maxRecord {
		return nil
	}
	data := make([]byte, length)
	if _, err := r.disk.ReadAt(data, at+headerLength); err != nil {
		return nil
	}
	if crc32.ChecksumIEEE(data) != binary.LittleEndian.Uint32(header[20:]) {
		return nil
	}
	r.number++
	r.offset += (headerLength + int64(length) + sector - 1) / sector * sector
	return data
}

// follow feeds a decoder with records as they appear, until it wants no more or
// ctx is done and nothing is left.
func (r *diskReader) follow(ctx context.Context, d *decoder) error {
	for {
		last := ctx.Err() != nil
		for data := r.next(); data != nil; data = r.next() {
			if more, err := d.feed(data); !more || err != nil {
				return err
			}
		}
		if last {
			return nil
		}
		select {
		case <-ctx.Done():
		case <-time.After(pollInterval):
		}
	}
}
