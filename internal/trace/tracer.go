// Package trace chooses a backend, loads and attaches the kernel side, reads
// its records and counts what was lost.
package trace

import (
	"context"
	"errors"
	"io"
)

// ErrCannotRun marks errors that mean this machine cannot run the tracer as
// asked: no privilege, lockdown, no BTF, no interface. The text says what is
// missing and how to get it.
var ErrCannotRun = errors.New("cannot run here")

// Options says what to trace and how.
type Options struct {
	// Interfaces names interfaces in the caller's network namespace. Empty
	// means every interface driven by xen-netfront in any namespace, those that
	// appear later too.
	Interfaces []string
	Backend    Backend
	Records    bool // false: count only, no record is made
	RingBytes  int  // size of the ring buffer, a power of two and a multiple of the page size
	Wait       bool // wait for an interface to appear instead of failing

	// Notify is told, in whole sentences, what a user should know while the
	// tracer runs: the backend chosen, an interface that came or went.
	Notify func(sentence string)
}

// A Tracer is attached to the driver until it is closed.
type Tracer struct {
	// replaced by the real one in session.go
	_ io.Closer
	_ context.Context
}
