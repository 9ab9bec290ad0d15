package output

import (
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Escape makes a name that others control fit for a terminal: what does not
// print, and what is not UTF-8, becomes \xNN or \uNNNN. A backslash is doubled,
// so that no two names look alike.
func Escape(name string) string {
	if !needsEscape(name) {
		return name
	}
	return Printable(strings.ReplaceAll(name, `\`, `\\`))
}

// Printable does the same to a sentence and leaves backslashes alone: names
// quoted in it may have been escaped already.
func Printable(s string) string {
	if !needsEscape(s) {
		return s
	}
	var b strings.Builder
	for len(s) > 0 {
		r, size := utf8.DecodeRuneInString(s)
		switch {
		case r == utf8.RuneError && size == 1, r < utf8.RuneSelf && !unicode.IsPrint(r):
			b.WriteString(`\x`)
			b.WriteString(strconv.FormatUint(uint64(s[0])|0x100, 16)[1:])
		case !unicode.IsPrint(r):
			b.WriteString(strings.Trim(strconv.QuoteRuneToASCII(r), "'"))
		default:
			b.WriteRune(r)
		}
		s = s[size:]
	}
	return b.String()
}

func needsEscape(s string) bool {
	for i := range len(s) {
		if c := s[i]; c < ' ' || c > '~' || c == '\\' {
			return true
		}
	}
	return false
}
