package live

import "github.com/gdamore/tcell/v3"

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
