package live

import (
	"errors"
	"fmt"
	"os"
	"os/signal"
	"sync"
	"time"

	"github.com/gdamore/tcell/v3/tty"
	"golang.org/x/sys/unix"
	"golang.org/x/term"
)

// A terminal is the one that stdout is open on, for both directions: keys are read
// from it also where standard input is something else. It has a file description of
// its own, so that no flag changes in one that others share.
type terminal struct {
	file *os.File

	mu      sync.Mutex
	saved   *term.State // nil while it is as it was found
	winches chan os.Signal
}

var _ tty.Tty = (*terminal)(nil)

// reopen opens what f is open on once more.
func reopen(f *os.File) (again *os.File, err error) {
	err = control(f, func(fd int) (err error) {
		again, err = os.OpenFile(fmt.Sprintf("/proc/self/fd/%d", fd), os.O_RDWR|unix.O_NOCTTY, 0)
		return err
	})
	return again, err
}

func control(f *os.File, do func(fd int) error) error {
	connection, err := f.SyscallConn()
	if err != nil {
		return err
	}
	var failure error
	err = connection.Control(func(fd uintptr) { failure = do(int(fd)) })
	return errors.Join(err, failure)
}

// Start makes every key come as it is pressed.
func (t *terminal) Start() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.saved != nil {
		return nil
	}
	_ = t.file.SetDeadline(time.Time{})
	return control(t.file, func(fd int) (err error) {
		t.saved, err = term.MakeRaw(fd)
		return err
	})
}

// patience is how long a terminal that accepts no output, stopped or stalled, may delay the
// end.
const patience = 2 * time.Second

// Drain wakes who reads, and has writes end soon.
func (t *terminal) Drain() error {
	return errors.Join(t.file.SetReadDeadline(time.Now()), t.file.SetWriteDeadline(time.Now().Add(patience)))
}

// Stop makes the terminal what it was before Start.
func (t *terminal) Stop() error {
	t.NotifyResize(nil)
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.saved == nil {
		return nil
	}
	saved := t.saved
	t.saved = nil
	return control(t.file, func(fd int) error { return term.Restore(fd, saved) })
}

// NotifyResize has a value sent to resized, unless it is full, when the size changes.
func (t *terminal) NotifyResize(resized chan<- bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.winches != nil {
		signal.Stop(t.winches)
		close(t.winches)
		t.winches = nil
	}
	if resized == nil {
		return
	}
	winches := make(chan os.Signal, 1)
	t.winches = winches
	signal.Notify(winches, unix.SIGWINCH)
	go func() {
		for range winches {
			select {
			case resized <- true:
			default:
			}
		}
	}()
}

// WindowSize asks the kernel; a terminal that does not know is taken for the usual one.
func (t *terminal) WindowSize() (tty.WindowSize, error) {
	size := tty.WindowSize{Width: 80, Height: 24}
	err := control(t.file, func(fd int) error {
		columns, rows, err := term.GetSize(fd)
		if err == nil && columns > 0 && rows > 0 {
			size.Width, size.Height = columns, rows
		}
		return err
	})
	return size, err
}

func (t *terminal) Read(b []byte) (int, error) { return t.file.Read(b) }

func (t *terminal) Write(b []byte) (int, error) { return t.file.Write(b) }

func (t *terminal) Close() error { return t.file.Close() }
