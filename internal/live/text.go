package live

import (
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/clipperhouse/displaywidth"

	"xentrace/internal/output"
)

type tone struct {
	colour  int // SGR number of a foreground colour; 0 for the terminal's own
	bold    bool
	reverse bool
}

var (
	plain    = tone{}
	heading  = tone{bold: true}
	selected = tone{reverse: true}
	alarm    = tone{colour: 31, bold: true}
	relief   = tone{colour: 32}
)

type span struct {
	text string
	tone tone
}

type line []span

func (l line) String() string {
	var b strings.Builder
	for _, s := range l {
		b.WriteString(s.text)
	}
	return b.String()
}

func (l line) width() int {
	n := 0
	for _, s := range l {
		n += width(s.text)
	}
	return n
}

func width(text string) int { return displaywidth.String(text) }

// name makes a name that others control fit for a cell of the screen: as in lines, and
// without characters that join with those next to them, which terminals do not agree
// about the width of.
func name(s string) string { return steady(output.Escape(s)) }

// steady writes characters that have no columns of their own, or that join with
// their neighbours, as escapes.
func steady(s string) string {
	if !strings.ContainsFunc(s, func(r rune) bool { return r >= utf8.RuneSelf }) {
		return s
	}
	const guard = "x" // shows what would join with the text on either side
	var b strings.Builder
	clusters := displaywidth.StringGraphemes(guard + s + guard)
	for clusters.Next() {
		cluster := clusters.Value()
		alone := utf8.RuneCountInString(cluster) == 1 && clusters.Width() > 0
		for _, r := range cluster {
			if alone || r < utf8.RuneSelf {
				b.WriteRune(r)
			} else {
				b.WriteString(strings.Trim(strconv.QuoteRuneToASCII(r), "'"))
			}
		}
	}
	return b.String()[len(guard) : b.Len()-len(guard)]
}

// cut shortens text to at most columns; more marks what is left out.
func cut(text string, columns int, more string) string {
	if width(text) <= columns {
		return text
	}
	if columns < width(more) {
		return displaywidth.TruncateString(text, max(columns, 0), "")
	}
	return displaywidth.TruncateString(text, columns, more)
}

// cutLine does the same to a line.
func cutLine(l line, columns int, more string) line {
	if l.width() <= columns {
		return l
	}
	var short line
	for _, s := range l {
		if n := width(s.text); n < columns { // space for more after it
			short, columns = append(short, s), columns-n
			continue
		}
		room := max(columns-width(more), 0)
		return append(short, span{cut(s.text, room, "") + cut(more, columns, ""), s.tone})
	}
	return short
}

func left(text string, columns int) string {
	return text + spaces(columns-width(text))
}

func right(text string, columns int) string {
	return spaces(columns-width(text)) + text
}

func spaces(n int) string { return strings.Repeat(" ", max(n, 0)) }

// wrap breaks text into lines of at most columns; words that are longer are broken.
func wrap(text string, columns int) []string {
	var lines []string
	for part := range strings.SplitSeq(strings.TrimSuffix(output.Paragraph(text, 0, columns), "\n"), "\n") {
		for width(part) > columns {
			head := cut(part, columns, "")
			if head == "" { // not even one character fits
				return append(lines, "")
			}
			lines, part = append(lines, head), part[len(head):]
		}
		lines = append(lines, part)
	}
	return lines
}

// appendLabelled appends text in lines of at most columns, indented, with a label before
// the first of them.
func appendLabelled(lines []line, label span, indent int, text span, columns int) []line {
	for _, part := range wrap(text.text, columns-indent) {
		lines = append(lines, line{{left(label.text, indent), label.tone}, {part, text.tone}})
		label.text = ""
	}
	return lines
}

func wrapSpans(spans []span, gap, columns int) []line {
	var lines []line
	var l line
	used := 0
	for _, s := range spans {
		n := width(s.text)
		if used > 0 && used+gap+n > columns {
			lines, l, used = append(lines, l), nil, 0
		}
		if used > 0 {
			l, used = append(l, span{spaces(gap), plain}), used+gap
		}
		l, used = append(l, s), used+n
	}
	return append(lines, l)
}
