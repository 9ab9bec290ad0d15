package record

import (
	"crypto/sha256"
	"fmt"
	"hash"
	"io"
	"os"
	"sync"
)

// A File is what was read of one.
type File struct {
	Path   string
	SHA256 string // in hexadecimal
	Bytes  int64
}

// A digest hashes a file while it is read: one that is opened again may be another, or, as a
// FIFO, empty.
type digest struct {
	path string

	mu    sync.Mutex // whoever reads the file may outlive an interrupt
	sum   hash.Hash
	bytes int64
}

// digestsOf has files hashed when they are read.
func digestsOf(files []file) (all []*digest) {
	for i := range files {
		d, open := &digest{path: files[i].path, sum: sha256.New()}, files[i].open
		all = append(all, d)
		files[i].open = func() (io.ReadCloser, error) {
			f, err := open()
			if err != nil {
				return nil, err
			}
			return struct {
				io.Reader
				io.Closer
			}{io.TeeReader(f, d), f}, nil
		}
	}
	return all
}

func (d *digest) Write(b []byte) (int, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.bytes += int64(len(b))
	return d.sum.Write(b)
}

// Files returns what was read, once Next returned io.EOF; nil unless ReadOptions.Hash.
func (s *Source) Files() (all []File) {
	for _, d := range s.digests {
		d.mu.Lock()
		all = append(all, File{d.path, fmt.Sprintf("%x", d.sum.Sum(nil)), d.bytes})
		d.mu.Unlock()
	}
	return all
}

// readableTwice refuses a FIFO or device, of which the second reading would wait, or read on.
func readableTwice(files []file) error {
	for _, f := range files {
		if info, err := os.Stat(f.path); err == nil && !info.Mode().IsRegular() {
			return fmt.Errorf("recording %s: not a regular file, and a time before its end needs two readings; copy it to a file, or give a date and time", f.path)
		}
	}
	return nil
}
