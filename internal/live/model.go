package live

import (
	"slices"
	"time"

	"github.com/gdamore/tcell/v3"

	"xentrace/internal/event"
	"xentrace/internal/output"
)

// A Snapshot is what was counted, and the flows that had trouble, at one moment.
type Snapshot struct {
	Totals    event.Totals
	Flows     []event.FlowHistory
	LeftOut   int    // flows that the user does not want to see
	Stalled   int    // flows that are stalled now, those too
	FlowsLost uint64 // flows not tracked (table full)
}

// A model is what is on the screen. It is one goroutine's, but for its log.
type model struct {
	backend event.Backend
	until   time.Time // when the run ends; zero if it does not
	blocks  bool      // draw with characters that plain ASCII does not have
	now     func() time.Time
	log     log

	latest   Snapshot
	rates    rates
	paused   bool
	entries  []entry // what is shown of the log while paused
	pausedAt time.Time

	page     page
	order    order
	flows    []event.FlowHistory // in order
	chosen   event.FlowKey
	held     bool              // by the user's choice
	detail   event.FlowHistory // the chosen one, as last known
	gone     bool              // it is not among the flows any more
	top      int               // of the flows, the first on the screen
	scroll   int               // lines of a page that are above the screen
	listed   int               // flows that fit; as last drawn
	overflow int               // lines of a page that do not fit, as last drawn
}

type page int

const (
	overview page = iota
	details
	help
)

// update adds what was counted. While paused it is counted, not shown.
func (m *model) update(s Snapshot) {
	if m.paused {
		return
	}
	m.rates.update(&s.Totals)
	m.latest = s
	m.arrange()
}

// arrange sorts the flows anew. A flow that the user chose stays chosen wherever it
// goes; else the worst is, whichever that is.
func (m *model) arrange() {
	m.flows = slices.Clone(m.latest.Flows)
	slices.SortStableFunc(m.flows, m.order.compare)
	at := m.position()
	switch {
	case !m.held && m.page == overview:
		m.choose(0)
	case at >= 0:
		m.detail, m.gone = m.flows[at], false
	case m.page == details:
		m.gone = true
	default:
		m.choose(0)
	}
}

// position is where the chosen flow is among all; -1 if it is gone.
func (m *model) position() int {
	return slices.IndexFunc(m.flows, func(f event.FlowHistory) bool { return f.FlowKey == m.chosen })
}

func (m *model) choose(position int) {
	if len(m.flows) == 0 {
		return
	}
	m.detail, m.gone = m.flows[min(max(position, 0), len(m.flows)-1)], false
	m.chosen = m.detail.FlowKey
}

// events returns what the log shows, at most n.
func (m *model) events(n int) []entry {
	if m.paused {
		return m.entries[max(len(m.entries)-n, 0):]
	}
	return m.log.last(n)
}

func (m *model) pause() {
	if m.paused {
		m.paused, m.entries = false, nil
		return
	}
	m.entries, m.pausedAt = m.log.last(keptEntries), m.now()
	m.paused = true
}

// duration is how long the trace has run; it advances between snapshots too.
func (m *model) duration() time.Duration {
	d := m.latest.Totals.Duration
	if since := m.time().Sub(m.latest.Totals.Time); !m.latest.Totals.Time.IsZero() && since > 0 {
		d += since
	}
	return d
}

func (m *model) time() time.Time {
	if m.paused {
		return m.pausedAt
	}
	return m.now()
}

// rates is how fast counts move: from one snapshot to the next.
type rates struct {
	before, now *event.Totals
}

const leastInterval = 500 * time.Millisecond

func (r *rates) update(t *event.Totals) {
	if r.now != nil && t.Duration-r.now.Duration < leastInterval {
		return
	}
	r.before, r.now = r.now, t
}

// per returns how much a count moved in a second; 0 while that is not known.
func (r *rates) per(count func(*event.Totals) uint64) uint64 {
	if r.before == nil {
		return 0
	}
	before, now := count(r.before), count(r.now)
	if now < before {
		return 0
	}
	return output.PerSecond(now-before, r.now.Duration-r.before.Duration)
}

func (r *rates) packets(d event.Device) uint64 {
	return r.per(func(t *event.Totals) uint64 {
		for i := range t.Interfaces {
			if n := &t.Interfaces[i]; n.Index == d.Index && n.NetNS == d.NetNS {
				return n.Packets
			}
		}
		return 0
	})
}

type key int

const (
	noKey key = iota
	keyUp
	keyDown
	keyPageUp
	keyPageDown
	keyHome
	keyEnd
	keyEnter
	keyEscape
	keySort
	keyPause
	keyHelp
	keyQuit
	keySuspend
	keyRedraw
)

// press does what a key does to what is shown. Keys that end or suspend are not the
// model's.
func (m *model) press(k key) {
	switch k {
	case keySort:
		m.order, m.top, m.held = m.order.next(), 0, false
		m.arrange()
	case keyPause:
		m.pause()
	case keyHelp:
		m.turn(help)
	case keyEscape:
		m.turn(overview)
	case keyEnter:
		if m.page == overview && m.position() >= 0 {
			m.held = true
			m.turn(details)
		} else {
			m.turn(overview)
		}
	default:
		if m.page == overview {
			m.walk(k)
		} else {
			m.roll(k)
		}
	}
}

func (m *model) turn(to page) {
	if m.page == to {
		to = overview
	}
	m.page, m.scroll = to, 0
}

func step(k key, room, length int) int {
	switch k {
	case keyUp:
		return -1
	case keyDown:
		return 1
	case keyPageUp:
		return -max(room-1, 1)
	case keyPageDown:
		return max(room-1, 1)
	case keyHome:
		return -length
	case keyEnd:
		return length
	}
	return 0
}

// walk chooses another flow.
func (m *model) walk(k key) {
	if by := step(k, m.listed, len(m.flows)); by != 0 {
		m.choose(m.position() + by)
		m.held = k != keyHome
		m.reveal()
	}
}

// reveal moves the list so that the chosen flow is in sight.
func (m *model) reveal() {
	at := max(m.position(), 0)
	m.top = min(m.top, at)
	if m.listed > 0 && at >= m.top+m.listed {
		m.top = at - m.listed + 1
	}
	m.top = max(min(m.top, len(m.flows)-m.listed), 0)
}

func (m *model) roll(k key) {
	m.scroll += step(k, m.listed, m.overflow+m.listed)
	m.scroll = max(min(m.scroll, m.overflow), 0)
}

var namedKeys = map[tcell.Key]key{
	tcell.KeyUp: keyUp, tcell.KeyDown: keyDown, tcell.KeyPgUp: keyPageUp, tcell.KeyPgDn: keyPageDown,
	tcell.KeyHome: keyHome, tcell.KeyEnd: keyEnd, tcell.KeyEnter: keyEnter, tcell.KeyEsc: keyEscape,
	tcell.KeyCtrlC: keyQuit, tcell.KeyCtrlZ: keySuspend, tcell.KeyCtrlL: keyRedraw, tcell.KeyF1: keyHelp,
}

var letterKeys = map[string]key{
	"k": keyUp, "j": keyDown, "b": keyPageUp, " ": keyPageDown, "g": keyHome, "G": keyEnd,
	"s": keySort, "p": keyPause, "?": keyHelp, "h": keyHelp, "q": keyQuit,
}

func keyOf(event *tcell.EventKey) key {
	if event.Key() == tcell.KeyRune {
		return letterKeys[event.Str()]
	}
	return namedKeys[event.Key()]
}
