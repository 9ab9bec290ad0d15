package event

import "strings"

// Advice is one thing to do.
type Advice struct {
	Command string // for a root shell; {ifname} stands for the interface. Empty where no command does it.
	Effect  string // what it brings, a sentence
	Cost    string // what it costs, a sentence; empty where it costs nothing
}

// For returns the command for one interface, quoted for a shell where the
// name needs it. Interface names may hold any byte but space, slash and colon.
func (a Advice) For(ifname string) string {
	return strings.ReplaceAll(a.Command, "{ifname}", Quote(ifname))
}

// OfInterface tells whether the command differs from interface to interface.
func (a Advice) OfInterface() bool {
	return strings.Contains(a.Command, "{ifname}")
}

// Quote makes one word for a shell of a name that may hold anything.
func Quote(word string) string {
	plain := func(r rune) bool {
		return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' ||
			r == '.' || r == '_' || r == '-' || r == '@' || r == '/'
	}
	if word != "" && strings.TrimFunc(word, plain) == "" {
		return word
	}
	return "'" + strings.ReplaceAll(word, "'", `'\''`) + "'"
}
