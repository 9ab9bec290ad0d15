package live

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"runtime/debug"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
	"golang.org/x/term"

	"xentrace/internal/kernel"
)

// KeeperArgument is the one argument of this program as the keeper of a terminal.
const KeeperArgument = "--keep-terminal"

// A keeper is a process beside this one that gives the terminal back when this one
// cannot: no handler runs in a process that is killed, or in which a goroutine
// panics. It sleeps until then. What it is told by is a pipe, which ends with this
// process however that ends; what the Go runtime has to say of a crash comes the
// same way, for on the screen it would be lost.
type keeper struct {
	process *exec.Cmd

	mu   sync.Mutex
	pipe *os.File
}

// Lines that the keeper reads. What does not begin with one of these bytes is of a crash.
const (
	takenMark    = '\x01' // the terminal is taken; the termios to restore follows, in hexadecimal
	returnedMark = '\x02' // it was given back
)

// startKeeper starts the keeper of a terminal.
func startKeeper(terminal, stderr *os.File) (*keeper, error) {
	read, write, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer read.Close()
	process := exec.Command("/proc/self/exe", KeeperArgument)
	process.Stdin, process.Stdout = read, terminal
	if stderr != nil && term.IsTerminal(int(stderr.Fd())) {
		process.Stderr = stderr // else the runtime's own words are not lost
	}
	process.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // away from the terminal's signals
	if err := process.Start(); err != nil {
		return nil, errors.Join(err, write.Close())
	}
	k := &keeper{process: process, pipe: write}
	if err := debug.SetCrashOutput(write, debug.CrashOptions{}); err != nil {
		return nil, errors.Join(err, k.close())
	}
	return k, nil
}

// taken says that the terminal is about to be used, and what it is like now.
func (k *keeper) taken(found *unix.Termios) {
	var state bytes.Buffer
	_ = binary.Write(&state, binary.NativeEndian, found) // of fixed size, into memory
	k.tell(fmt.Sprintf("%c%s\n", takenMark, hex.EncodeToString(state.Bytes())))
}

// returned says that it is as it was found.
func (k *keeper) returned() { k.tell(fmt.Sprintf("%c\n", returnedMark)) }

func (k *keeper) tell(what string) {
	if k == nil {
		return
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	_, _ = io.WriteString(k.pipe, what) // without the keeper all goes on as well
}

// close ends the keeper.
func (k *keeper) close() error {
	if k == nil {
		return nil
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	return errors.Join(debug.SetCrashOutput(nil, debug.CrashOptions{}), k.pipe.Close(), k.process.Wait())
}

// giveBack undoes what a screen sets: output that is held back, the hidden cursor, the
// keypad's mode, attributes, lines that do not wrap, the title, the second
// screen and other characters.
const giveBack = "\x1b[?2026l\x1b[?25h\x1b[?1l\x1b>\x1b[m\x1b[?7h\x1b[23;2t\x1b[?1049l\x1b(B\x0f"

// Keep is the keeper: it reads until whoever uses the terminal is gone, and gives back
// what that left as it was.
func Keep(pipe io.Reader, terminal *os.File, stderr io.Writer) error {
	signal.Ignore(unix.SIGINT, unix.SIGTERM, unix.SIGHUP, unix.SIGQUIT, unix.SIGTSTP, unix.SIGTTIN, unix.SIGTTOU)
	if err := kernel.KeepOnly(); err != nil && !errors.Is(err, errors.ErrUnsupported) {
		return err
	}
	taken, crash := readMarks(pipe)
	if taken == nil {
		return nil
	}
	_, _ = io.WriteString(terminal, giveBack)
	err := unix.IoctlSetTermios(int(terminal.Fd()), unix.TCSETS, taken)
	_, _ = stderr.Write(crash)
	return err
}

// readMarks returns the state that the terminal is to have; nil if it was given back.
func readMarks(pipe io.Reader) (taken *unix.Termios, crash []byte) {
	lines := bufio.NewReader(pipe)
	for {
		line, err := lines.ReadBytes('\n')
		switch {
		case len(line) > 0 && line[0] == takenMark:
			taken = parseTermios(line[1:])
		case len(line) > 0 && line[0] == returnedMark:
			taken = nil
		default:
			crash = append(crash, line...)
		}
		if err != nil {
			return taken, crash
		}
	}
}

func parseTermios(text []byte) *unix.Termios {
	state, err := hex.DecodeString(string(bytes.TrimSpace(text)))
	if err != nil {
		return nil
	}
	var termios unix.Termios
	if binary.Read(bytes.NewReader(state), binary.NativeEndian, &termios) != nil {
		return nil
	}
	return &termios
}
