package output

import (
	"fmt"
	"io"
	"net/netip"
	"strconv"
	"sync"
	"time"
	"unicode/utf8"

	"xentrace/internal/event"
)

const (
	repeatWindow = time.Second // from the first packet that was shown
	maxRepeats   = 256         // flows whose repeats are collected; more end the oldest's window
)

// Repeats is a sink for a terminal: it writes a packet, and of those that repeat it within a second,
// in flow, verdict and cause, one line with a count. Files and pipes get every line.
type Repeats struct {
	mu     sync.Mutex
	text   *Text
	out    io.Writer
	buffer []byte
	open   map[repeatKey]*repeat
	queue  []*repeat // the same, the oldest first
	live   bool
	timer  *time.Timer
}

type repeatKey struct {
	device      int
	netns       uint32
	layer       event.Layer
	verdict     event.Verdict
	cause       event.Cause
	reason      string
	etherType   uint16
	flow, inner repeatFlow
}

type repeatFlow struct {
	proto               uint8
	source, destination netip.AddrPort
}

func flowOf(f *event.Flow) repeatFlow {
	if f == nil {
		return repeatFlow{}
	}
	return repeatFlow{f.Proto, f.Source, f.Destination}
}

type repeat struct {
	key    repeatKey
	since  time.Time // of the packet that was shown
	opened time.Time // by the clock
	last   event.Packet
	count  uint64 // since then
}

// NewRepeats returns a sink that writes text to out. Live, a line with a count comes at the latest
// a second after its first packet. Of a recording, only the packets' times count.
func NewRepeats(out io.Writer, t *Text, live bool) *Repeats {
	return &Repeats{text: t, out: out, open: make(map[repeatKey]*repeat), live: live}
}

func keyOf(p *event.Packet) repeatKey {
	return repeatKey{
		device: p.Interface.Index, netns: p.Interface.NetNS, layer: p.Layer, verdict: p.Verdict, cause: p.Cause,
		reason: p.Reason, etherType: p.EtherType, flow: flowOf(p.Flow), inner: flowOf(p.Inner),
	}
}

// Emit writes an event, or counts a packet that repeats one.
func (r *Repeats) Emit(e event.Event) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.buffer = r.buffer[:0]
	packet, is := e.(*event.Packet)
	switch {
	case !is:
		r.end(func(*repeat) bool { return true }) // what follows is about them
		r.buffer = r.text.Append(r.buffer, e)
	default:
		r.end(func(o *repeat) bool { return packet.Time.Sub(o.since) >= repeatWindow })
		r.add(packet)
	}
	return r.write()
}

func (r *Repeats) add(p *event.Packet) {
	key := keyOf(p)
	if o := r.open[key]; o != nil {
		o.count, o.last = o.count+1, *p
		return
	}
	if len(r.queue) == maxRepeats {
		oldest := r.queue[0]
		r.end(func(o *repeat) bool { return o == oldest })
	}
	o := &repeat{key: key, since: p.Time, opened: time.Now()}
	r.open[key], r.queue = o, append(r.queue, o)
	r.buffer = r.text.Append(r.buffer, p)
	if r.live && r.timer == nil {
		r.timer = time.AfterFunc(repeatWindow, r.expire)
	}
}

// expire ends the windows that no later packet has ended.
func (r *Repeats) expire() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.buffer = r.buffer[:0]
	r.end(func(o *repeat) bool { return time.Since(o.opened) >= repeatWindow })
	_ = r.write() // the next write reports it, too
	if r.timer = nil; len(r.queue) > 0 {
		r.timer = time.AfterFunc(repeatWindow-time.Since(r.queue[0].opened), r.expire)
	}
}

// end closes windows from the oldest on, and appends the line of each that has repeats.
func (r *Repeats) end(over func(*repeat) bool) {
	for len(r.queue) > 0 && over(r.queue[0]) {
		o := r.queue[0]
		r.queue = r.queue[1:]
		delete(r.open, o.key)
		if o.count > 0 {
			r.buffer = r.text.appendRepeats(r.buffer, o)
		}
	}
}

func (r *Repeats) write() error {
	if len(r.buffer) == 0 {
		return nil
	}
	_, err := r.out.Write(r.buffer)
	return err
}

// appendRepeats appends a line like that of the last packet, with how many there were.
func (t *Text) appendRepeats(b []byte, o *repeat) []byte {
	p := &o.last
	b, used := t.appendColumns(b, p.Time, p.Interface.Name, VerdictWords(p), verdictColour(p.Verdict), p.Slots, p.Limit, strconv.Itoa(p.Len))
	start := len(b)
	b = t.appendInner(t.appendFlow(b, p, used), p.Inner, used, start)
	note := fmt.Sprintf("  %s more in %s", Grouped(o.count), Seconds(p.Time.Sub(o.since)))
	if used+utf8.RuneCount(b[start:])+len(note) > t.width() {
		b, note = appendSpaces(append(b, '\n'), continuation), note[2:]
	}
	return append(append(b, note...), '\n')
}
