package tool

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/gdamore/tcell/v3/vt"
	"golang.org/x/sys/unix"
)

// What a program that has the whole screen sends.
const (
	AlternateOn  = "\x1b[?1049h"
	AlternateOff = "\x1b[?1049l"
	CursorOn     = "\x1b[?25h"
	CursorOff    = "\x1b[?25l"
	OneDrawing   = "\x1b[?2026h" // begins each
)

// A Terminal is a pseudo terminal that collects what is written to it.
type Terminal struct {
	Master, Slave *os.File

	mu   sync.Mutex
	seen bytes.Buffer
	size unix.Winsize
	done chan struct{}

	emulator vt.MockTerm  // shows what was sent from began to fed; the test's goroutine's alone
	shape    unix.Winsize // of the emulator
	began    int
	fed      int
}

// OpenTerminal opens one that is closed with the test.
func OpenTerminal(t *testing.T, columns, rows uint16) *Terminal {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	fd := int(master.Fd())
	if err := unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	n, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	slave, err := os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	p := &Terminal{Master: master, Slave: slave, done: make(chan struct{})}
	p.Resize(t, columns, rows)
	go p.collect()
	t.Cleanup(func() { slave.Close(); master.Close() })
	return p
}

func (p *Terminal) collect() {
	defer close(p.done)
	b := make([]byte, 4096)
	for {
		n, err := p.Master.Read(b)
		p.mu.Lock()
		p.seen.Write(b[:n])
		p.mu.Unlock()
		if err != nil { // EIO once the last slave is closed
			return
		}
	}
}

// Text waits until everything was written and returns it.
func (p *Terminal) Text() string {
	p.Slave.Close()
	<-p.done
	return strings.ReplaceAll(p.Raw(), "\r\n", "\n")
}

// Raw returns what was written so far.
func (p *Terminal) Raw() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.seen.String()
}

// Resize changes its size and signals its foreground processes.
func (p *Terminal) Resize(t *testing.T, columns, rows uint16) {
	t.Helper()
	p.size = unix.Winsize{Col: columns, Row: rows}
	if err := unix.IoctlSetWinsize(int(p.Master.Fd()), unix.TIOCSWINSZ, &p.size); err != nil {
		t.Fatal(err)
	}
}

// Press presses keys, as the bytes that they send.
func (p *Terminal) Press(t *testing.T, keys string) {
	t.Helper()
	if _, err := io.WriteString(p.Master, keys); err != nil {
		t.Fatal(err)
	}
}

// Modes returns how it treats what is typed and written.
func (p *Terminal) Modes(t *testing.T) unix.Termios {
	t.Helper()
	modes, err := unix.IoctlGetTermios(int(p.Slave.Fd()), unix.TCGETS)
	if err != nil {
		t.Fatal(err)
	}
	return *modes
}

// Controls makes it the controlling terminal of a process whose descriptor fd is open
// on it.
func Controls(fd int) *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setsid: true, Setctty: true, Ctty: fd}
}

// Screen is what is to be read on the alternate screen; "" while that is not shown.
func (p *Terminal) Screen() string {
	raw := p.Raw()
	since, shown := AfterLast(raw, AlternateOn)
	if !shown || strings.Contains(since, AlternateOff) {
		return ""
	}
	if began := len(raw) - len(since); p.emulator == nil || p.began != began || p.shape != p.size {
		p.emulator = vt.NewMockTerm(vt.MockOptSize(vt.Coord{X: vt.Col(p.size.Col), Y: vt.Row(p.size.Row)}))
		_ = p.emulator.Start()
		p.began, p.fed, p.shape = began, began, p.size
	}
	_, _ = io.WriteString(p.emulator, raw[p.fed:])
	p.fed = len(raw)
	return p.text()
}

// AfterLast returns what stands behind the last of a sequence.
func AfterLast(s, sequence string) (after string, there bool) {
	i := strings.LastIndex(s, sequence)
	if i < 0 {
		return "", false
	}
	return s[i+len(sequence):], true
}

// text is what the emulator shows.
func (p *Terminal) text() string {
	var b strings.Builder
	for y := range vt.Row(p.size.Row) {
		var line strings.Builder
		for x := vt.Col(0); x < vt.Col(p.size.Col); {
			cell := p.emulator.GetCell(vt.Coord{X: x, Y: y})
			if cell.C == "" {
				cell.C = " "
			}
			line.WriteString(cell.C)
			x += vt.Col(max(cell.W, 1))
		}
		b.WriteString(strings.TrimRight(line.String(), " ") + "\n")
	}
	return b.String()
}

// Await waits until all parts are on the screen, and returns it.
func (p *Terminal) Await(t *testing.T, parts ...string) string {
	t.Helper()
	return p.AwaitThat(t, strings.Join(parts, ", "), func(screen string) bool {
		for _, part := range parts {
			if !strings.Contains(screen, part) {
				return false
			}
		}
		return true
	})
}

// AwaitThat waits until there is true of the screen, and returns it.
func (p *Terminal) AwaitThat(t *testing.T, what string, there func(screen string) bool) string {
	t.Helper()
	const patience = time.Minute
	for deadline := time.Now().Add(patience); ; time.Sleep(20 * time.Millisecond) {
		screen := p.Screen()
		if there(screen) {
			return screen
		}
		if time.Now().After(deadline) {
			raw := p.Raw()
			t.Fatalf("waited %v for %s; the screen is\n%s\nand what was written ends in %q", patience, what, screen, raw[max(len(raw)-1000, 0):])
		}
	}
}
