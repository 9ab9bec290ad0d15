// Package record writes recordings and reads them: JSON, one object a line, in a file or in
// the segments of a directory.
package record

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// compressedSuffix ends the name of a compressed recording.
const compressedSuffix = ".zst"

// A storedFile is a file that lines are appended to. What is written is whole lines, and on
// disk when append returns.
type storedFile struct {
	f       *os.File
	name    string
	frames  *frameWriter // nil: not compressed
	size    int64
	suspect bool // it may end within a line: nothing is appended any more
}

func newStoredFile(f *os.File, name string) (*storedFile, error) {
	s := &storedFile{f: f, name: name}
	if !strings.HasSuffix(name, compressedSuffix) {
		return s, nil
	}
	var err error
	s.frames, err = newFrameWriter()
	return s, err
}

// stored returns lines as they are written: a frame, or themselves.
func (s *storedFile) stored(lines []byte) []byte {
	if s.frames == nil {
		return lines
	}
	return s.frames.frame(lines)
}

var errRemoved = errors.New("file was removed")

// append writes and syncs. After an error the file is as it was, or suspect.
func (s *storedFile) append(stored []byte) error {
	var stat unix.Stat_t
	if err := unix.Fstat(int(s.f.Fd()), &stat); err == nil && stat.Nlink == 0 {
		return errRemoved
	}
	n, err := s.f.Write(stored)
	if err == nil {
		err = unix.Fdatasync(int(s.f.Fd()))
	}
	if err == nil {
		s.size += int64(n)
		return nil
	}
	if truncated := s.f.Truncate(s.size); truncated != nil {
		s.suspect = true
	} else if _, sought := s.f.Seek(s.size, io.SeekStart); sought != nil {
		s.suspect = true
	}
	return plain(err)
}

// inPlace reports whether the file is still the one of its name.
func (s *storedFile) inPlace() bool {
	own, err := s.f.Stat()
	if err != nil {
		return false
	}
	named, err := os.Lstat(s.name)
	return err == nil && os.SameFile(own, named)
}

func (s *storedFile) close() error { return s.f.Close() }

// plain is the error without the path, which the user gave.
func plain(err error) error {
	var failure *fs.PathError
	if errors.As(err, &failure) {
		return failure.Err
	}
	return err
}

// A single is a recording in one file.
type single struct{ file *storedFile }

// Create makes a recording file that only its owner may read. A file that is there is
// refused: nothing is overwritten.
func Create(path string) (Store, error) {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL|unix.O_NOFOLLOW, 0o600)
	if errors.Is(err, fs.ErrExist) {
		if info, err := os.Lstat(path); err == nil && !info.Mode().IsRegular() {
			return nil, fmt.Errorf("recording %s: not a regular file; choose another name", path)
		}
		return nil, fmt.Errorf("recording %s: file exists; remove it or choose another name", path)
	}
	if err != nil {
		return nil, fmt.Errorf("recording %s: %w", path, plain(err))
	}
	stored, err := newStoredFile(f, path)
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return &single{stored}, nil
}

func (s *single) write(lines []byte, start func(segment int) []byte) error {
	if s.file.suspect {
		return errors.New("the last write failed halfway and could not be undone")
	}
	if s.file.size == 0 {
		lines = slices.Concat(start(1), lines)
	}
	return s.file.append(s.file.stored(lines))
}

// close removes a file into which nothing was written.
func (s *single) close() error {
	if s.file.size == 0 && s.file.inPlace() {
		_ = os.Remove(s.file.name)
	}
	return s.file.close()
}

// segmentPrefix begins the name of a segment: xentrace-00000042-20261127T031500Z.jsonl.zst.
// The number orders segments, whatever the clock did.
const segmentPrefix = "xentrace-"

// maxNumber bounds numbers of segments: a file of a greater one is none. A segment a second
// reaches it after 30,000 years.
const maxNumber = 1e12

const segmentSuffix = ".jsonl" + compressedSuffix

func segmentName(number int, at time.Time) string {
	return fmt.Sprintf("%s%08d-%s%s", segmentPrefix, number, at.UTC().Format("20060102T150405Z"), segmentSuffix)
}

// segmentNumber returns the number of a segment by its name, compressed or not.
func segmentNumber(name string) (int, bool) {
	rest, isSegment := strings.CutPrefix(name, segmentPrefix)
	if !isSegment || !strings.HasSuffix(strings.TrimSuffix(name, compressedSuffix), ".jsonl") {
		return 0, false
	}
	digits, _, _ := strings.Cut(rest, "-")
	n, err := strconv.Atoi(digits)
	return n, err == nil && n > 0 && n <= maxNumber
}

// filesOf returns what a path holds: the segments of a directory in their order, or a file.
func filesOf(path string) ([]file, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("recording %s: %w", path, plain(err))
	}
	if !info.IsDir() {
		if err := unix.Faccessat(unix.AT_FDCWD, path, unix.R_OK, unix.AT_EACCESS); err != nil {
			return nil, fmt.Errorf("recording %s: %w", path, err)
		}
		return []file{fileAt(path)}, nil
	}
	entries, err := os.ReadDir(path)
	if err != nil {
		return nil, fmt.Errorf("recording %s: %w", path, plain(err))
	}
	numbers := make(map[string]int)
	var names []string
	for _, entry := range entries {
		if n, isSegment := segmentNumber(entry.Name()); isSegment && entry.Type().IsRegular() {
			numbers[entry.Name()] = n
			names = append(names, entry.Name())
		}
	}
	if len(names) == 0 {
		return nil, errNothing(path)
	}
	slices.SortFunc(names, func(a, b string) int { return numbers[a] - numbers[b] })
	var files []file
	for _, name := range names {
		files = append(files, segmentAt(filepath.Join(path, name)))
	}
	return files, nil
}

func fileAt(path string) file {
	return file{path, strings.HasSuffix(path, compressedSuffix), func() (io.ReadCloser, error) {
		f, err := os.Open(path)
		if err != nil {
			return nil, plain(err)
		}
		return f, nil
	}}
}

// segmentAt is a file that was regular. Who may write to its directory may have put a FIFO or
// a link in its place.
func segmentAt(path string) file {
	return file{path, strings.HasSuffix(path, compressedSuffix), func() (io.ReadCloser, error) {
		f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
		if err != nil {
			return nil, plain(err)
		}
		info, err := f.Stat()
		if err == nil && !info.Mode().IsRegular() {
			err = errors.New("not a regular file")
		}
		if err != nil {
			return nil, errors.Join(plain(err), f.Close())
		}
		return f, nil
	}}
}
