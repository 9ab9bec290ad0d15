package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/term"
)

// escape is the key that ends a shell from outside, ^].
const escape = 0x1d

var errEscape = errors.New("ended with ^]")

// terminal joins the user's terminal to the guest's console.
type terminal struct {
	saved *term.State // as it was, nil if it is no terminal or untouched
}

// attach passes every key to the guest from now on (^C is the guest's), and calls
// end when the user wants out.
func (t *terminal) attach(guest io.Writer, end context.CancelCauseFunc) error {
	if stdin := int(os.Stdin.Fd()); term.IsTerminal(stdin) {
		saved, err := term.MakeRaw(stdin)
		if err != nil {
			return fmt.Errorf("terminal: %w", err)
		}
		t.saved = saved
	}
	go func() {
		buf := make([]byte, 1024)
		for {
			n, err := os.Stdin.Read(buf)
			if bytes.IndexByte(buf[:n], escape) >= 0 {
				end(errEscape)
				return
			}
			if _, werr := guest.Write(buf[:n]); werr != nil || err != nil {
				return
			}
		}
	}()
	return nil
}

// restore gives the terminal back as it was.
func (t *terminal) restore() {
	if t.saved != nil {
		_ = term.Restore(int(os.Stdin.Fd()), t.saved)
	}
}
