package output

import (
	"encoding/json"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"xentrace/internal/event"
	"xentrace/test/memory"
)

// hidden are characters that change what is around them, or are not seen.
const hidden = "\u007f\u009b\u00ad\u061c\u200b\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2060\u2066\u2067\u2068\u2069\ufeff\U000e0001\U000f0000"

func TestHiddenCharactersAreEscaped(t *testing.T) {
	name := "a" + hidden + "z"
	packet := JSON{}.AppendPacket(nil, &event.Packet{Process: &event.Process{Comm: name}, Stack: []string{name}})
	finding := encode(nil, findingOf(&event.Finding{Interface: name, Message: name, Evidence: []event.Fact{{Key: "k", Value: name}}}))
	for what, line := range map[string][]byte{"packet": packet, "finding": finding} {
		if at := strings.IndexFunc(string(line), func(r rune) bool { return r != '\n' && !unicode.IsPrint(r) }); at >= 0 {
			t.Errorf("%s: %q at %d", what, line[at:], at)
		}
		if !json.Valid(line) || !strings.Contains(string(line), `\u202e`) || !strings.Contains(string(line), `\udb40\udc01`) {
			t.Errorf("%s: %s", what, line)
		}
	}
	if text := Escape(name); strings.ContainsFunc(text, func(r rune) bool { return !unicode.IsPrint(r) }) {
		t.Errorf("text %q", text)
	}
}

// What is not hidden stays as it is, in every script.
func TestVisibleCharactersStay(t *testing.T) {
	name := "μ ünïcode 日本語 😀 "
	if got, want := string(appendString(nil, name)), `"`+name+`"`; got != want {
		t.Errorf("%s, want %s", got, want)
	}
}

func FuzzEscape(f *testing.F) {
	for _, text := range []string{"", "eth0", `a\x00b\`, "left\u202eran", "\xff\xfe\x9b", hidden, "\x1b[2J\x1b]0;x\x07", strings.Repeat("\u2066", 1000)} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		memory.Within(t, 1<<20+64*uint64(len(text)), func() {
			for _, shown := range []string{Escape(text), Printable(text)} {
				if !utf8.ValidString(shown) || strings.ContainsFunc(shown, func(r rune) bool { return !unicode.IsPrint(r) }) {
					t.Errorf("%q is shown as %q", text, shown)
				}
			}
			line := appendString(nil, text)
			var back string
			if err := json.Unmarshal(line, &back); err != nil || back != strings.ToValidUTF8(text, "\uFFFD") {
				t.Errorf("%q is %s, read back as %q, error %v", text, line, back, err)
			}
			line = encode(nil, findingOf(&event.Finding{Message: text}))
			if !json.Valid(line) || strings.ContainsFunc(string(line), func(r rune) bool { return r != '\n' && !unicode.IsPrint(r) }) {
				t.Errorf("%q is in %s", text, line)
			}
		})
	})
}
