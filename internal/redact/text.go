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
	for _, known := range r.spaced {
		s = strings.ReplaceAll(s, known.name, known.made)
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
	if at := pathIn(w); at >= 0 {
		named := strings.TrimRight(w[at:], ".:,")
		return w[:at] + r.files.of(named) + w[at+len(named):]
	}
	if made, is := r.name(core, program); is {
		return before + made + after
	}
	if program {
		return w
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
	if made, is := r.name(w, false); is {
		return made
	}
	fields := strings.Split(w, "-") // a range of addresses
	for i := range fields {
		if made, is := r.addressIn(fields[i]); is {
			fields[i] = made
		}
	}
	return strings.Join(fields, "-")
}

// systemPaths are those that say nothing of who uses the machine, and are part of advice.
var systemPaths = []string{"/proc/", "/sys/", "/dev/", "/etc/", "/boot/", "/lib/", "/usr/", "/bin/", "/sbin/", "/run/systemd/", "/var/lib/xentrace/", "/var/log/xentrace"}

// pathIn returns where in a word another path begins, or a URL's host; -1 if none does.
func pathIn(w string) int {
	at := strings.IndexByte(w, '/')
	if at < 0 || at > 0 && w[at-1] != ':' || strings.Count(w[at:], "/") < 2 && at == 0 {
		return -1
	}
	for _, prefix := range systemPaths {
		if strings.HasPrefix(w[at:], prefix) {
			return -1
		}
	}
	return at
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
	if hw, err := net.ParseMAC(w); err == nil && strings.ContainsAny(w, ":-.") {
		if len(hw) != 6 { // InfiniBand and others
			hw = make(net.HardwareAddr, 6)
		}
		return macText(r.addresses.mac([6]byte(hw))), true
	}
	return "", false
}

// name returns the replacement of a name that was seen as one. A program may be called as a
// process is.
func (r *Redactor) name(w string, program bool) (string, bool) {
	for _, n := range []*names{&r.hosts, &r.containers, &r.units, &r.devices} {
		if made, is := n.replaced(w); is {
			return made, true
		}
	}
	if program {
		return "", false
	}
	return r.comms.replaced(w)
}
