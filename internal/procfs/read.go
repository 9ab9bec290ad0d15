// Package procfs parses files of /proc that several packages read.
package procfs

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"iter"
	"math"
	"os"
	"strconv"
	"time"
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

// Tick is the unit of times in /proc/PID/stat: USER_HZ is 100 on x86 and arm64.
const Tick = 10 * time.Millisecond

// StartTime returns starttime of /proc/PID/stat: when the process started, since boot
// (CLOCK_BOOTTIME), in whole ticks.
func StartTime(stat []byte) (time.Duration, bool) {
	// Field 2 is the name in parentheses, which may contain anything.
	_, rest, found := bytes.Cut(stat, []byte("("))
	if !found {
		return 0, false
	}
	const startTime = 22 - 3 // index of field 22 in a list that starts with field 3
	fields := bytes.Fields(rest[bytes.LastIndexByte(rest, ')')+1:])
	if len(fields) <= startTime {
		return 0, false
	}
	ticks, err := strconv.ParseUint(string(fields[startTime]), 10, 64)
	if err != nil || ticks > uint64(math.MaxInt64/Tick) {
		return 0, false
	}
	return time.Duration(ticks) * Tick, true
}
