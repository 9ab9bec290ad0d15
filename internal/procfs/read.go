package procfs

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"iter"
	"os"
)

// ErrTooLarge means that a file is over the limit of what is read of it.
var ErrTooLarge = errors.New("file is over the size limit")

// MaxLine bounds a line of maps or mountinfo, in bytes: two paths of PATH_MAX, of which
// each byte may be escaped as four, and the rest.
const MaxLine = 64 << 10

// ReadFile reads a file of at most limit bytes. The error wraps [ErrTooLarge] if it has
// more.
func ReadFile(path string, limit int) ([]byte, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = file.Close() }() // only read from
	content, err := io.ReadAll(io.LimitReader(file, int64(limit)+1))
	if err != nil {
		return nil, err
	}
	if len(content) > limit {
		return nil, fmt.Errorf("%s: %w: %d bytes", path, ErrTooLarge, limit)
	}
	return content, nil
}

// Lines yields each line of at most [MaxLine] bytes, without its end, and skips longer ones:
// where users choose what is in a line, one of theirs must not hide those of others. A line
// is valid until the next. A read error ends the sequence and comes last, with a nil line.
func Lines(r io.Reader) iter.Seq2[[]byte, error] {
	return func(yield func([]byte, error) bool) {
		lines := bufio.NewReaderSize(r, MaxLine)
		for {
			line, long, err := lines.ReadLine()
			whole := !long
			for long && err == nil {
				_, long, err = lines.ReadLine()
			}
			switch {
			case errors.Is(err, io.EOF):
				return
			case err != nil:
				yield(nil, err)
				return
			case whole && !yield(line, nil):
				return
			}
		}
	}
}
