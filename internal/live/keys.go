package live

import "github.com/gdamore/tcell/v3"

// A key is one that does something.
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

// turn shows a page, or goes back if it is shown already.
func (m *model) turn(to page) {
	if m.page == to {
		to = overview
	}
	m.page, m.scroll = to, 0
}

// step is how far a key goes in a list of which room lines are in sight.
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

// roll moves a page that is longer than the screen.
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

// keyOf tells what a key is for.
func keyOf(event *tcell.EventKey) key {
	if event.Key() == tcell.KeyRune {
		return letterKeys[event.Str()]
	}
	return namedKeys[event.Key()]
}
