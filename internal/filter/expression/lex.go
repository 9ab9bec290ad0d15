package expression

import (
	"fmt"
	"net/netip"
	"regexp"
	"strconv"
	"strings"
)

type kind uint8

const (
	endOfText kind = iota
	word           // a keyword, or a name
	number
	dotted // 10.1, 10.1.2 or 10.1.2.3
	address6
	mac
	escaped // \name
	symbol
)

type token struct {
	kind  kind
	text  string
	at    int // offset in the expression
	value uint32
}

// The tokens of libpcap's scanner; the longest wins, then the first.
var (
	words   = regexp.MustCompile(`^[A-Za-z0-9]([-_.A-Za-z0-9]*[.A-Za-z0-9])?`)
	numbers = regexp.MustCompile(`^(0[xX][0-9a-fA-F]+|[0-9]+)`)
	quads   = regexp.MustCompile(`^[0-9]+(\.[0-9]+){1,3}`)
	macs    = regexp.MustCompile(`^[0-9a-fA-F]{1,2}(:[0-9a-fA-F]{1,2}){5}|^[0-9a-fA-F]{1,2}(-[0-9a-fA-F]{1,2}){5}`)
	sixes   = regexp.MustCompile(`^[0-9a-fA-F]*:[0-9a-fA-F]*:[0-9a-fA-F:.]*`)
	names   = regexp.MustCompile(`^\\[^ !()\t\n]+`)
	symbols = regexp.MustCompile(`^(&&|\|\||<<|>>|<=|>=|!=|==|[-+*/%&|^!()<>=:\[\]])`)
)

func scan(text string) ([]token, error) {
	var all []token
	for at := 0; ; {
		at += len(text[at:]) - len(strings.TrimLeft(text[at:], " \t\r\n"))
		if at == len(text) {
			return append(all, token{kind: endOfText, at: at}), nil
		}
		t, err := next(text, at)
		if err != nil {
			return nil, err
		}
		all = append(all, t)
		at += len(t.text)
	}
}

func next(text string, at int) (token, error) {
	rest := text[at:]
	best := token{at: at}
	for _, c := range []struct {
		kind    kind
		pattern *regexp.Regexp
	}{{mac, macs}, {address6, sixes}, {dotted, quads}, {number, numbers}, {word, words}, {escaped, names}, {symbol, symbols}} {
		if found := c.pattern.FindString(rest); len(found) > len(best.text) {
			best.kind, best.text = c.kind, found
		}
	}
	switch best.kind {
	case endOfText:
		end := 1
		for end < len(rest) && rest[end]&0xc0 == 0x80 {
			end++ // the rest of a character
		}
		return token{}, fault(token{text: rest[:end], at: at}, "not part of an expression; quote names for the shell and write addresses as numbers")
	case address6:
		if _, err := netip.ParseAddr(best.text); err != nil {
			return token{}, fault(best, "not an IPv6 address")
		}
	case number:
		value, err := strconv.ParseUint(best.text, 0, 32)
		if err != nil {
			return token{}, fault(best, "not a number of 32 bits")
		}
		best.value = uint32(value)
	}
	return best, nil
}

// fault is an error at a token: what was wrong and what to write instead.
func fault(t token, format string, args ...any) error {
	what := fmt.Sprintf("%q", t.text)
	if t.kind == endOfText && t.text == "" {
		what = "end"
	}
	return fmt.Errorf("%s at column %d: %s", what, t.at+1, fmt.Sprintf(format, args...))
}
