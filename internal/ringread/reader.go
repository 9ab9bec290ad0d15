// Package ringread reads the records of a BPF ring buffer.
//
// It maps the part that it reads only. The kernel lays out the data twice in a row, so that a
// record never wraps around, and a reader that maps both copies (libbpf, cilium/ebpf) has twice
// the size of the ring buffer in its resident memory.
package ringread

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cilium/ebpf"
)

// ErrFlushed is returned by [Reader.ReadInto] after [Reader.Flush].
var ErrFlushed = errors.New("ring buffer: flushed")

// Layout of a record's header, in include/uapi/linux/bpf.h.
const (
	headerBytes = 8 // BPF_RINGBUF_HDR_SZ; records are aligned to as much
	busyBit     = 1 << 31
	discardBit  = 1 << 30
)

// A Reader reads one ring buffer. ReadInto and SetDeadline are for one goroutine; the others may
// be called from any.
type Reader struct {
	waiter *waiter

	mu       sync.Mutex // guards what follows, which is unmapped by Close
	ring     *ring      // nil once closed
	deadline time.Time
	pending  error // returned once the records that were there are read
	more     bool  // there may be records: read before waiting
}

// New maps the positions of a ring buffer. The map must stay open until the reader is closed.
func New(m *ebpf.Map) (*Reader, error) {
	if m.Type() != ebpf.RingBuf {
		return nil, fmt.Errorf("ring buffer: map is of type %s", m.Type())
	}
	ring, err := mapRing(m)
	if err != nil {
		return nil, fmt.Errorf("ring buffer: %w", err)
	}
	waiter, err := newWaiter(m)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("ring buffer: %w", err), ring.unmap())
	}
	return &Reader{waiter: waiter, ring: ring}, nil
}

// ReadInto stores the next record in buffer, which grows as needed. While there is none it waits
// until the deadline, and then returns [os.ErrDeadlineExceeded]; after Flush, [ErrFlushed]; after
// Close, [os.ErrClosed]. The first two are returned once the records that are there by then are
// read.
func (r *Reader) ReadInto(buffer *[]byte) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.ring == nil {
		return os.ErrClosed
	}
	for {
		if !r.more {
			if err := r.wait(); err != nil {
				return err
			}
		}
		found, err := r.ring.read(buffer)
		if found || err != nil {
			return err
		}
		r.more = false
	}
}

// wait returns once there may be records, or the error that was put off for the last of them.
func (r *Reader) wait() error {
	if err := r.pending; err != nil {
		r.pending = nil
		return err
	}
	err := r.waiter.wait(r.deadline)
	if err != nil && !errors.Is(err, ErrFlushed) && !errors.Is(err, os.ErrDeadlineExceeded) {
		return err
	}
	// BPF programs may add records without a wake-up.
	r.pending, r.more = err, true
	return nil
}

// SetDeadline sets until when ReadInto waits; the zero time: for ever.
func (r *Reader) SetDeadline(t time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.deadline = t
}

// Flush makes ReadInto return what is there, and then [ErrFlushed].
func (r *Reader) Flush() error { return r.waiter.wake() }

// Available returns how many bytes of records, with their headers, are not read yet. It must not
// be called after Close.
func (r *Reader) Available() int { return r.ring.available() }

// Close wakes ReadInto and unmaps the ring buffer.
func (r *Reader) Close() error {
	if !r.waiter.close() {
		return nil
	}
	r.mu.Lock() // ReadInto has returned
	defer r.mu.Unlock()
	err := errors.Join(r.ring.unmap(), r.waiter.free())
	r.ring = nil
	return err
}

// read copies the next record, and reports whether there was one.
func (r *ring) read(buffer *[]byte) (bool, error) {
	for {
		produced, at := atomic.LoadUint64(r.produced), atomic.LoadUint64(r.consumed)
		if produced == at {
			return false, nil
		}
		header, err := r.view(at, headerBytes)
		if err != nil {
			return false, err
		}
		// The kernel clears the busy bit after the record is written.
		length := atomic.LoadUint32(firstWord(header))
		if length&busyBit != 0 {
			runtime.Gosched()
			continue
		}
		size := uint64(length &^ discardBit)
		next := at + headerBytes + (size+headerBytes-1)&^(headerBytes-1)
		if next > produced || next < at {
			return false, fmt.Errorf("ring buffer: record of %d bytes, of %d that were written", size, produced-at)
		}
		if length&discardBit != 0 {
			atomic.StoreUint64(r.consumed, next)
			continue
		}
		record, err := r.view(at, headerBytes+size)
		if err != nil {
			return false, err
		}
		*buffer = append((*buffer)[:0], record[headerBytes:]...)
		atomic.StoreUint64(r.consumed, next)
		return true, nil
	}
}
