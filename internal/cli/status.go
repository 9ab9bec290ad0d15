package cli

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"syscall"

	"xentrace/internal/output"
	"xentrace/internal/trace"
)

// The exit statuses that scripts rely on.
const (
	statusDone      = 0
	statusFinding   = 1
	statusUsage     = 2
	statusCannotRun = 3
	statusInternal  = 4
)

// A usageError is a command line that makes no sense.
type usageError struct{ error }

func (e usageError) Unwrap() error { return e.error }

// errFinding says, by way of the exit status alone, that what was looked for
// was found.
var errFinding = errors.New("a drop was seen")

// Status returns the exit status for what Run returned.
func Status(err error) int {
	var usage usageError
	switch {
	case err == nil, errors.Is(err, syscall.EPIPE):
		return statusDone
	case errors.Is(err, errFinding):
		return statusFinding
	case errors.As(err, &usage):
		return statusUsage
	case errors.Is(err, trace.ErrCannotRun):
		return statusCannotRun
	default:
		return statusInternal
	}
}

// Report writes what Run returned in one line, unless there is nothing to tell:
// a reader of standard output that went away wants to hear no more.
func Report(w io.Writer, err error) {
	if err == nil || errors.Is(err, errFinding) || errors.Is(err, syscall.EPIPE) {
		return
	}
	text := strings.ReplaceAll(strings.TrimSpace(err.Error()), "\n", "; ")
	fmt.Fprintf(w, "xentrace: %s\n", output.Printable(text))
}
