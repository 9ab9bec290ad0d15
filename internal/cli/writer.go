package cli

import (
	"cmp"
	"errors"
	"io"
	"time"
)

// writeGrace is how long a write may block once the command was interrupted.
const writeGrace = 2 * time.Second

var errNotRead = errors.New("not read after the interrupt; output is incomplete")

// An abandoningWriter gives a write up that still blocks when the command was interrupted a
// grace before: a full pipe or a stopped terminal must not keep it from ending. Then every
// further write fails. It is for one goroutine at a time.
type abandoningWriter struct {
	io.Writer
	ended <-chan struct{} // closed at the interrupt; nil: never
	grace time.Duration

	copied []byte // an abandoned write still reads it
	err    error
}

func (s System) abandoning(w io.Writer) io.Writer {
	if s.ended == nil {
		return w
	}
	return &abandoningWriter{Writer: w, ended: s.ended, grace: cmp.Or(s.grace, writeGrace)}
}

func (w *abandoningWriter) Write(b []byte) (int, error) {
	if w.err != nil {
		return 0, w.err
	}
	type result struct {
		n   int
		err error
	}
	results := make(chan result, 1)
	w.copied = append(w.copied[:0], b...)
	go func() {
		n, err := w.Writer.Write(w.copied)
		results <- result{n, err}
	}()
	select {
	case r := <-results:
		return r.n, r.err
	case <-w.ended:
	}
	timer := time.NewTimer(w.grace)
	defer timer.Stop()
	select {
	case r := <-results:
		return r.n, r.err
	case <-timer.C:
	}
	w.err = errNotRead
	return 0, w.err
}
