package redact

import (
	"net"
	"net/netip"
	"strings"
	"unicode/utf8"
)

// text replaces the addresses and the known names in a sentence or a command.
func (r *Redactor) text(s string) string { return r.words(s, false) }

// command does the same and leaves the program alone, and what comes after a pipe: a
// process may be called ethtool.
func (r *Redactor) command(s string) string { return r.words(s, true) }

// words looks at each run of characters that a name or an address can have.
func (r *Redactor) words(s string, command bool) string {
	for name, made := range r.spaced {
		s = strings.ReplaceAll(s, name, made)
	}
	var b strings.Builder
	program := command
	for len(s) > 0 {
		if n := wordLength(s); n > 0 {
			b.WriteString(r.word(s[:n], program))
			s, program = s[n:], false
			continue
		}
		c, size := utf8.DecodeRuneInString(s)
		if command && (c == '|' || c == ';' || c == '&' || c == '\n') {
			program = true
		}
		b.WriteString(s[:size])
		s = s[size:]
	}
	return b.String()
}

func wordLength(s string) int {
	for i, c := range s {
		if !isWord(c) {
			return i
		}
	}
	return len(s)
}

func isWord(c rune) bool {
	return c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || strings.ContainsRune("._-:/@+%", c) || c >= utf8.RuneSelf
}

// word replaces a word, less the punctuation around it.
func (r *Redactor) word(w string, program bool) string {
	core := strings.TrimRight(strings.TrimLeft(w, ":/@+"), ".:/@+%-,")
	if core == "" {
		return w
	}
	at := strings.Index(w, core)
	before, after := w[:at], w[at+len(core):]
	if ip, is := r.addressIn(w); is {
		return ip
	}
	if made, is := r.addressIn(core); is {
		return before + made + after
	}
	if program {
		return w
	}
	if made, is := r.name(core); is {
		return before + made + after
	}
	return before + r.parts(core) + after
}

// parts replaces the names in what has several, as comm:pid or user@host or a path.
func (r *Redactor) parts(w string) string {
	var b strings.Builder
	for {
		i := strings.IndexAny(w, ":/@")
		if i < 0 {
			b.WriteString(r.part(w))
			return b.String()
		}
		b.WriteString(r.part(w[:i]))
		b.WriteByte(w[i])
		w = w[i+1:]
	}
}

func (r *Redactor) part(w string) string {
	if made, is := r.addressIn(w); is {
		return made
	}
	if made, is := r.name(w); is {
		return made
	}
	return w
}

// addressIn replaces an address, with a port or a prefix length if it has one.
func (r *Redactor) addressIn(w string) (string, bool) {
	if a, err := netip.ParseAddr(w); err == nil {
		return r.addresses.address(a).String(), true
	}
	if p, err := netip.ParsePrefix(w); err == nil {
		return netip.PrefixFrom(r.addresses.address(p.Addr()), p.Bits()).String(), true
	}
	if i := strings.LastIndexByte(w, ':'); i > 0 && strings.Count(w, ":") == 1 {
		if a, err := netip.ParseAddr(w[:i]); err == nil {
			return r.addresses.address(a).String() + w[i:], true
		}
	}
	if hw, err := net.ParseMAC(w); err == nil && len(hw) == 6 {
		return macText(r.addresses.mac([6]byte(hw))), true
	}
	return "", false
}

// name returns the replacement of a name that was seen as one.
func (r *Redactor) name(w string) (string, bool) {
	for _, n := range []*names{&r.hosts, &r.containers, &r.units, &r.comms} {
		if made, is := n.known[w]; is {
			return made, true
		}
	}
	return "", false
}
