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

	priorities bool // each line begins with its priority, as the journal reads it

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

// NewJournal returns a Console whose lines begin with their priority, see sd-daemon(3).
func NewJournal(w io.Writer) *Console {
	return &Console{w: w, priorities: true}
}

// Priorities of lines, see syslog(3).
const (
	PriorityError = "<3>" // of what ends a run

	priorityWarning = "<4>"
	priorityInfo    = "<6>"
)

const eraseLine = "\r\x1b[K"

// Say writes one line; a terminal that is too narrow for it gets it in several.
func (c *Console) Say(sentence string) { c.say(sentence, priorityInfo) }

func (c *Console) say(sentence, priority string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.divert != nil {
		c.divert(sentence)
		if c.width != nil {
			c.kept = append(c.kept[max(len(c.kept)-maxKept+1, 0):], sentence)
			return
		}
	}
	c.write(sentence, priority)
}

func (c *Console) write(sentence, priority string) {
	c.erase()
	sentence = "xentrace: " + Printable(sentence)
	if c.width != nil {
		sentence = string(appendWrapped(nil, sentence, 0, c.width()))
	} else {
		sentence += "\n"
	}
	if c.priorities {
		sentence = priority + sentence
	}
	_, _ = io.WriteString(c.w, sentence)
	c.draw()
}

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
			c.write(sentence, priorityInfo)
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

// Notify writes a notice as a sentence.
func (c *Console) Notify(n event.Notice) { c.say(Sentence(&n), priorityOf(n.ID)) }

// priorityOf is that of a warning where packets, records or figures are missed.
func priorityOf(id event.NoticeID) string {
	switch id {
	case event.NoticeUnmonitored, event.NoticeInterfaceFailed, event.NoticeInterfaceUnsupported, event.NoticeNamespaceUnwatched,
		event.NoticeDriverAttachFailed, event.NoticeDriverDetachFailed, event.NoticeDriverUnknown, event.NoticeDriverUnloaded,
		event.NoticeSettleFailed, event.NoticeQueueStuck, event.NoticeRecordingPaused, event.NoticeRecordsSuppressed:
		return priorityWarning
	}
	return priorityInfo
}

var reasonSentences = map[event.NoticeID]string{
	event.NoticeUnmonitored:            "packets are no longer counted: ",
	event.NoticeStacksUnavailable:      "no stacks: ",
	event.NoticeDropStacksUnavailable:  "no stacks for drops outside the driver: ",
	event.NoticeRejectedUnavailable:    "rejected packets are not counted: ",
	event.NoticeSuspendUnavailable:     "suspend/resume will not be detected: ",
	event.NoticeQueuesUnavailable:      "stuck queues will no longer be detected: ",
	event.NoticeConnectionsUnavailable: "state of connections after a drop is unknown: ",
	event.NoticeOwnersUnavailable:      "owners of sockets are found in part: ",
	event.NoticeDriverAttachFailed:     "xen-netfront is loaded again; cannot attach to it yet: ",
	event.NoticeDriverDetachFailed:     "cannot detach from xen-netfront: ",
	event.NoticeSettleFailed:           "packets over the limit that are not dropped may be reported late: ",
	event.NoticeRecordingPaused:        "recording is paused: ",
	event.NoticeDriverUnknown:          "the xen-netfront that was loaded cannot be examined: ",
}

// Sentence is a notice for people; empty for an ID that is unknown.
func Sentence(n *event.Notice) string {
	if sentence := reasonSentences[n.ID]; sentence != "" {
		return sentence + n.Reason
	}
	lasted := time.Duration(n.DurationMS) * time.Millisecond
	switch n.ID {
	case event.NoticeWaiting:
		return "waiting for an interface to appear"
	case event.NoticeRecordingResumed:
		return "recording resumed after " + Seconds(lasted) + "; " + plural(n.Count, "event") + " of that time not recorded, all counted"
	case event.NoticeRecordsSuppressed:
		return plural(n.Count, "record") + " suppressed by --rate; their packets are counted"
	case event.NoticeSuspended:
		return fmt.Sprintf("machine was suspended, or saved and restored, for %s; that time is not in the duration", Seconds(lasted))
	case event.NoticeClockStep:
		return fmt.Sprintf("wall clock was set by %+.1f s; timestamps jump by that much, durations are not affected", float64(n.StepMS)/1000)
	case event.NoticeDriverUnloaded:
		return "xen-netfront was unloaded; nothing is counted until it is loaded again"
	case event.NoticeDriverReloaded:
		return fmt.Sprintf("xen-netfront is loaded again and watched; nothing was counted for %s", Seconds(lasted))
	case event.NoticeDriverHeld:
		return "no xen-netfront interface is left, and this trace holds the driver's module; stop it to unload the driver (--backend kprobe without --rejected does not hold it)"
	case event.NoticeLinearize:
		return linearizeSentence(n)
	}
	return sentenceOfInterface(n)
}

func sentenceOfInterface(n *event.Notice) string {
	name := Escape(n.Device.Name)
	lasted := (time.Duration(n.DurationMS) * time.Millisecond).Round(time.Second)
	switch n.ID {
	case event.NoticeInterfaceAdded:
		return fmt.Sprintf("interface %s appeared and is watched", name)
	case event.NoticeInterfaceRemoved:
		return fmt.Sprintf("interface %s is gone", name)
	case event.NoticeInterfaceRenamed:
		return fmt.Sprintf("interface %s is now called %s", Escape(n.Previous), name)
	case event.NoticeInterfaceMoved:
		return fmt.Sprintf("interface %s moved to another network namespace", name)
	case event.NoticeInterfaceUnsupported:
		return fmt.Sprintf("interface %s is not counted: backend %s supports xen-netfront only, and its driver is %s; use --backend tracepoint", name, n.Backend, driverName(n.Driver))
	case event.NoticeInterfaceFailed:
		return fmt.Sprintf("interface %s is not counted separately: %s", name, n.Reason)
	case event.NoticeNamespaceUnwatched:
		if n.NetNS == 0 {
			return "some network namespaces are not watched: " + n.Reason
		}
		return fmt.Sprintf("interfaces of network namespace %d are not watched: %s", n.NetNS, n.Reason)
	case event.NoticeQueueStuck:
		return fmt.Sprintf("%s: transmit queue %d has been full for %s and the backend accepts nothing from it; netback does this once it has disabled the interface (dom0's log: \"fatal error; disabling device\"); reconnect it in dom0: xl network-detach, xl network-attach",
			name, queueNumber(n), wholeSeconds(lasted))
	case event.NoticeQueueRecovered:
		return fmt.Sprintf("%s: transmit queue %d recovered after %s", name, queueNumber(n), wholeSeconds(lasted))
	}
	return ""
}

func linearizeSentence(n *event.Notice) string {
	switch {
	case n.Linearizes == nil:
		return "unknown whether the driver linearizes, so the cause of drops over the slot limit is unknown: " + n.Evidence
	case *n.Linearizes:
		return "driver linearizes packets over the slot limit (18): " + n.Evidence
	}
	return "driver drops packets over the slot limit (18): " + n.Evidence
}

func queueNumber(n *event.Notice) int {
	if n.Queue == nil {
		return 0
	}
	return *n.Queue
}

func wholeSeconds(d time.Duration) string { return fmt.Sprintf("%d s", d/time.Second) }
