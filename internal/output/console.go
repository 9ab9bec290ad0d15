package output

import (
	"fmt"
	"io"
	"sync"
	"time"
	"unicode/utf8"

	"xentrace/internal/event"
)

// A Console is where everything but the data goes: sentences, and on a terminal
// a status line below all else.
type Console struct {
	w     io.Writer
	width func() int // nil: not a terminal, so no status line

	mu     sync.Mutex
	status string
	divert func(string) // shows sentences while the live screen has the terminal; else nil
	kept   []string     // sentences to write once it has not
}

// NewConsole returns a Console that writes to w. width gives the columns of its
// terminal; nil if w is not a terminal.
func NewConsole(w io.Writer, width func() int) *Console {
	return &Console{w: w, width: width}
}

const eraseLine = "\r\x1b[K"

// Say writes one line; a terminal that is too narrow for it gets it in several.
func (c *Console) Say(sentence string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.divert != nil {
		c.divert(sentence)
		if c.width != nil {
			c.kept = append(c.kept[max(len(c.kept)-maxKept+1, 0):], sentence)
			return
		}
	}
	c.write(sentence)
}

// write writes one sentence.
func (c *Console) write(sentence string) {
	c.erase()
	sentence = "xentrace: " + Printable(sentence) + "\n"
	if c.width != nil {
		sentence = string(appendWrapped(nil, sentence, 0, c.width()))
	}
	_, _ = io.WriteString(c.w, sentence)
	c.draw()
}

// maxKept is how many sentences are kept while the live screen has the terminal.
const maxKept = 100

// Divert passes sentences to show instead of writing them, until end is called, which
// writes the last of them.
func (c *Console) Divert(show func(string)) (end func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.erase()
	c.status, c.divert = "", show
	return func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		for _, sentence := range c.kept {
			c.write(sentence)
		}
		c.divert, c.kept = nil, nil
	}
}

// HasStatus reports whether there is a status line.
func (c *Console) HasStatus() bool { return c.width != nil }

// SetStatus shows line in place of the status line before; "" removes it.
func (c *Console) SetStatus(line string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.width == nil {
		return
	}
	if line == "" {
		c.erase()
	}
	c.status = line
	c.draw()
}

// Above returns a writer for the same terminal that keeps the status line below
// what it writes. What it writes must end in a newline.
func (c *Console) Above(w io.Writer) io.Writer {
	if c.width == nil {
		return w
	}
	return &above{console: c, w: w}
}

type above struct {
	console *Console
	w       io.Writer
}

func (a *above) Write(lines []byte) (int, error) {
	a.console.mu.Lock()
	defer a.console.mu.Unlock()
	a.console.erase()
	n, err := a.w.Write(lines)
	a.console.draw()
	return n, err
}

func (c *Console) erase() {
	if c.status != "" {
		_, _ = io.WriteString(c.w, eraseLine)
	}
}

// draw shows the status line, cut to one column less than the terminal has: it must
// not wrap.
func (c *Console) draw() {
	if c.status != "" {
		_, _ = io.WriteString(c.w, eraseLine+cut(c.status, c.width()-1))
	}
}

func cut(s string, columns int) string {
	if utf8.RuneCountInString(s) <= columns {
		return s
	}
	return string([]rune(s)[:max(columns, 0)])
}

// StatusLine shows the counts of a run so far. before is the snapshot that rates
// are relative to; left is the time left, 0 without an end.
func StatusLine(before, now *event.Totals, left time.Duration) string {
	sum, earlier, rate := now.Sum(), before.Sum().Packets, uint64(0)
	if sum.Packets > earlier {
		rate = PerSecond(sum.Packets-earlier, now.Duration-before.Duration)
	}
	line := fmt.Sprintf("lost %d  dropped %s  ", LostRecords(now), Grouped(sum.Dropped))
	if now.Drops == event.DropsAll {
		line += fmt.Sprintf("elsewhere %s  ", Grouped(sum.Elsewhere))
	}
	line += fmt.Sprintf("linearized %s  over limit %s  ", Grouped(sum.Linearized), Grouped(sum.OverLimit))
	if sum.Rejected != nil {
		line += fmt.Sprintf("rejected %s  ", Grouped(*sum.Rejected))
	}
	line += fmt.Sprintf("%s packets/s  %s", Grouped(rate), Clock(now.Duration))
	if left > 0 {
		line += " (" + Clock(left) + " to go)"
	}
	return line
}
