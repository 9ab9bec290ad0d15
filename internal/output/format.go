package output

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"xentrace/internal/event"
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

// Grouped writes n with a comma between groups of three digits.
func Grouped(n uint64) string {
	digits := strconv.FormatUint(n, 10)
	b := make([]byte, 0, len(digits)+len(digits)/3)
	for i := range len(digits) {
		if i > 0 && (len(digits)-i)%3 == 0 {
			b = append(b, ',')
		}
		b = append(b, digits[i])
	}
	return string(b)
}

// ByteSize writes a number of bytes in steps of a thousand, as network tools do.
func ByteSize(n uint64) string {
	if n < 1000 {
		return strconv.FormatUint(n, 10) + " B"
	}
	size, unit := float64(n)/1000, 0
	for size >= 999.95 && unit < 4 {
		size, unit = size/1000, unit+1
	}
	return strconv.FormatFloat(size, 'f', 1, 64) + " " + []string{"kB", "MB", "GB", "TB", "PB"}[unit]
}

// PerSecond is a rate, rounded; 0 where no time passed.
func PerSecond(n uint64, d time.Duration) uint64 {
	if d <= 0 {
		return 0
	}
	return uint64(float64(n)/d.Seconds() + 0.5)
}

// Seconds formats a duration for people: 12.0 s, 3m 20s.
func Seconds(d time.Duration) string {
	if d < time.Minute {
		return strconv.FormatFloat(d.Seconds(), 'f', 1, 64) + " s"
	}
	d = d.Round(time.Second)
	hours, minutes, rest := int(d/time.Hour), int(d/time.Minute)%60, int(d/time.Second)%60
	if hours > 0 {
		return strconv.Itoa(hours) + "h " + strconv.Itoa(minutes) + "m " + strconv.Itoa(rest) + "s"
	}
	return strconv.Itoa(minutes) + "m " + strconv.Itoa(rest) + "s"
}

// Clock writes a duration as m:ss or h:mm:ss.
func Clock(d time.Duration) string {
	s := int(d.Round(time.Second) / time.Second)
	if s >= 3600 {
		return fmt.Sprintf("%d:%02d:%02d", s/3600, s/60%60, s%60)
	}
	return fmt.Sprintf("%d:%02d", s/60, s%60)
}

var ipProtocols = map[uint8]string{
	1: "icmp", 2: "igmp", 4: "ipip", 6: "tcp", 17: "udp", 33: "dccp", 41: "ipv6", 47: "gre", 50: "esp", 51: "ah",
	58: "ipv6-icmp", 89: "ospf", 103: "pim", 112: "vrrp", 132: "sctp", 136: "udplite",
}

func protocolName(number uint8) string {
	if name, ok := ipProtocols[number]; ok {
		return name
	}
	return strconv.Itoa(int(number))
}

// tcpStates are the kernel's names of include/net/tcp_states.h, less TCP_.
var tcpStates = [...]string{
	1: "ESTABLISHED", 2: "SYN_SENT", 3: "SYN_RECV", 4: "FIN_WAIT1", 5: "FIN_WAIT2", 6: "TIME_WAIT", 7: "CLOSE",
	8: "CLOSE_WAIT", 9: "LAST_ACK", 10: "LISTEN", 11: "CLOSING", 12: "NEW_SYN_RECV", 13: "BOUND_INACTIVE",
}

// TCPState is the kernel's name of a TCP state, without TCP_.
func TCPState(state uint8) string {
	if int(state) < len(tcpStates) && tcpStates[state] != "" {
		return tcpStates[state]
	}
	return strconv.Itoa(int(state))
}

// endpoints returns the source of a flow, and the rest: its destination
// and by which protocol.
func endpoints(proto uint8, source, destination netip.AddrPort) (from, rest string) {
	if source.Port() == 0 && destination.Port() == 0 {
		return source.Addr().String(), " > " + destination.Addr().String() + " " + protocolName(proto)
	}
	return source.String(), " > " + destination.String() + " " + protocolName(proto)
}

// Endpoints names both ends of a flow and its protocol.
func Endpoints(proto uint8, source, destination netip.AddrPort) string {
	from, rest := endpoints(proto, source, destination)
	return from + rest
}

type colour string

const (
	red     colour = "31"
	green   colour = "32"
	yellow  colour = "33"
	magenta colour = "35"
	cyan    colour = "36"
	bold    colour = "1"
)

func verdictColour(v event.Verdict) colour {
	switch v {
	case event.Dropped, event.Rejected:
		return red
	case event.Linearized:
		return yellow
	case event.OverLimit:
		return magenta
	case event.Bounced:
		return cyan
	default:
		return green
	}
}

func (t *Text) appendColoured(b []byte, c colour, text string) []byte {
	if !t.Color || c == "" {
		return append(b, text...)
	}
	b = append(b, "\x1b["...)
	b = append(b, c...)
	b = append(b, 'm')
	b = append(b, text...)
	return append(b, "\x1b[0m"...)
}

// VerdictColour is the number of the SGR colour that a verdict has on a terminal.
func VerdictColour(v event.Verdict) int {
	number, _ := strconv.Atoi(string(verdictColour(v)))
	return number
}

func plural(n uint64, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return Grouped(n) + " " + noun + "s"
}

// DriverName is the driver of an interface, or that it has none.
func DriverName(counts *event.InterfaceTotals) string { return driverName(counts.Driver) }

// driverName gives lo, for which the kernel names no driver, a word.
func driverName(driver string) string {
	if driver == "" {
		return "no driver"
	}
	return Escape(driver)
}

// Paragraph returns text in lines of at most width columns, each indented.
func Paragraph(text string, indent, width int) string {
	return string(appendWrapped(nil, text, indent, width))
}

func appendLeft(b []byte, text string, width int) []byte {
	return appendSpaces(append(b, text...), width-utf8.RuneCountInString(text))
}

// appendRight fills up and appends text, so that it ends at width columns.
func appendRight(b []byte, text string, width int) []byte {
	return append(appendSpaces(b, width-utf8.RuneCountInString(text)), text...)
}

func appendSpaces(b []byte, n int) []byte {
	for ; n > 0; n-- {
		b = append(b, ' ')
	}
	return b
}

// appendHanging appends text to a line that is filled up to column already; its other
// lines begin in that column.
func appendHanging(b []byte, text string, column, width int) []byte {
	start := len(b)
	b = appendWrapped(b, text, column, width)
	return append(b[:start], b[start+column:]...)
}

func (t *Text) appendCommand(b []byte, command string, indent int) []byte {
	b = append(appendSpaces(b, indent), "# "...)
	return append(t.appendColoured(b, bold, Escape(command)), '\n')
}

// appendWrapped appends text in lines of at most width columns, each indented. What does not
// print is escaped.
func appendWrapped(b []byte, text string, indent, width int) []byte {
	column := 0
	for word := range strings.FieldsSeq(Printable(text)) {
		length := utf8.RuneCountInString(word)
		switch {
		case column == 0:
			b, column = appendSpaces(b, indent), indent
		case column+1+length > width:
			b, column = appendSpaces(append(b, '\n'), indent), indent
		default:
			b, column = append(b, ' '), column+1
		}
		b, column = append(b, word...), column+length
	}
	return append(b, '\n')
}
