package record

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"runtime"

	"xentrace/internal/event"
	"xentrace/internal/output"
)

// An item is an event that was read, or what cannot be read in its place.
type item struct {
	event  event.Event
	damage *Damage
}

// A batch is the events of one chunk, once done is closed.
type batch struct {
	items []item
	err   error // ends the stream
	done  chan struct{}
}

// A stream reads the files of one recording in order. Parsing takes most of the time, so
// each CPU parses a chunk of its own.
type stream struct {
	batches chan *batch
	current []item
}

// A file is a part of a recording.
type file struct {
	path       string
	compressed bool
	open       func() (io.ReadCloser, error)
}

// openStream starts reading; the stream ends with ctx, or with its last file.
func openStream(ctx context.Context, files []file) *stream {
	workers := runtime.GOMAXPROCS(0)
	s := &stream{batches: make(chan *batch, workers)}
	go s.read(ctx, files, make(chan struct{}, workers))
	return s
}

// errStopped ends the reading of a file that has more, or that may never have any.
var errStopped = errors.New("stopped")

// next returns the next item; io.EOF behind the last, errStopped once stopped is closed.
func (s *stream) next(ctx context.Context, stopped <-chan struct{}) (item, error) {
	for len(s.current) == 0 {
		select {
		case <-stopped:
			return item{}, errStopped
		case <-ctx.Done():
			return item{}, ctx.Err()
		case b, more := <-s.batches:
			if !more {
				return item{}, io.EOF
			}
			<-b.done
			if b.err != nil {
				return item{}, b.err
			}
			s.current = b.items
		}
	}
	first := s.current[0]
	s.current = s.current[1:]
	return first, nil
}

func (s *stream) read(ctx context.Context, files []file, slots chan struct{}) {
	defer close(s.batches)
	send := func(b *batch) error {
		select {
		case s.batches <- b:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	done := make(chan struct{})
	close(done)
	for _, f := range files {
		err := f.read(ctx, func(c chunk) error {
			select {
			case slots <- struct{}{}:
			case <-ctx.Done():
				return ctx.Err()
			}
			b := &batch{done: make(chan struct{})}
			go func() {
				defer close(b.done)
				b.items = parse(f.path, c)
				<-slots
			}()
			return send(b)
		}, func(offset int64, reason string) {
			_ = send(&batch{items: []item{{damage: &Damage{f.path, offset, reason}}}, done: done}) // reading ends with ctx, too
		})
		if ctx.Err() != nil {
			return
		}
		if err != nil {
			_ = send(&batch{err: fmt.Errorf("recording %s: %w", f.path, err), done: done})
			return
		}
	}
}

func (f file) read(ctx context.Context, emit func(chunk) error, damaged func(int64, string)) error {
	r, err := f.open()
	if err != nil {
		return err
	}
	defer func() { _ = r.Close() }() // it was only read
	return readLines(readerUntil{ctx, r}, f.compressed, emit, damaged)
}

// A readerUntil ends with its context: a file may have no end, nor anything to emit.
type readerUntil struct {
	ctx context.Context
	io.Reader
}

func (r readerUntil) Read(b []byte) (int, error) {
	if err := r.ctx.Err(); err != nil {
		return 0, err
	}
	return r.Reader.Read(b)
}

// parse reads the lines of a chunk.
func parse(path string, c chunk) []item {
	items := make([]item, 0, len(c.lines)/512+1)
	offset := c.offset
	for line := range bytes.Lines(c.lines) {
		items = append(items, parseLine(path, offset, bytes.TrimRight(line, "\r\n"))...)
		if c.plain {
			offset += int64(len(line))
		}
	}
	return items
}

// lineStart begins every line that xentrace writes.
var lineStart = []byte(`{"type":"`)

// maxObjects bounds the objects that are looked for in one line, of which xentrace writes one:
// a line may consist of nothing but what looks like the beginning of one.
const maxObjects = 16

// parseLine reads a line. Behind damage in it another object may follow whose line break
// was lost.
func parseLine(path string, offset int64, line []byte) (items []item) {
	for range maxObjects {
		if len(line) == 0 {
			return items
		}
		e, err := parseObject(line)
		switch {
		case err == nil:
			return append(items, item{event: e})
		case errors.Is(err, output.ErrUnknownType):
			return items
		}
		next := bytes.Index(line[1:], lineStart) + 1
		whole := error(nil)
		if next > 0 {
			e, whole = parseObject(line[:next-1])
		}
		if next > 0 && whole == nil { // only the line break is damaged
			items = append(items, item{event: e}, item{damage: &Damage{path, offset + int64(next) - 1, "line break: damaged"}})
		} else {
			items = append(items, item{damage: &Damage{path, offset, "line: " + err.Error()}})
		}
		if next == 0 {
			return items
		}
		offset, line = offset+int64(next), line[next:]
	}
	return append(items, item{damage: &Damage{path, offset, fmt.Sprintf("line: damaged in more than %d places", maxObjects)}})
}

// parseObject refuses what is JSON and no event. The limit of a packet's slots and other
// numbers are not checked: a reader shows what was written.
func parseObject(line []byte) (event.Event, error) {
	if reason := tooDense(line); reason != "" {
		return nil, errors.New(reason)
	}
	e, err := output.Parse(line)
	if err != nil {
		return nil, err
	}
	if most := maxLineOf[e.Type()]; len(line) > most {
		return nil, fmt.Errorf("%s of more than %d bytes", e.Type(), most)
	}
	if s, isStart := e.(*event.Start); isStart && s.Format > event.Format {
		return nil, fmt.Errorf("format %d is newer than this xentrace reads (%d): update xentrace", s.Format, event.Format)
	}
	return e, nil
}
