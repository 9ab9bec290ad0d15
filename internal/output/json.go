package output

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf16"
	"unicode/utf8"

	"xentrace/internal/event"
	"xentrace/internal/slots"
)

// JSON writes one object a line. The keys and their order are the contract with
// scripts; a packet is encoded by hand because a storm brings hundreds of
// thousands a second.
type JSON struct{}

// jsonTime is RFC 3339 with nanoseconds, always nine digits.
const jsonTime = "2006-01-02T15:04:05.000000000Z07:00"

// AppendPacket appends a line of type packet.
func (JSON) AppendPacket(b []byte, p *event.Packet) []byte {
	b = append(b, `{"type":"packet","time":"`...)
	b = appendTime(b, p.Time)
	b = appendInt(b, `","cpu":`, p.CPU)
	b = append(b, `,"layer":"`...)
	b = append(b, p.Layer.String()...)
	b = append(b, `","ifname":`...)
	b = appendString(b, p.Interface.Name)
	b = appendInt(b, `,"ifindex":`, p.Interface.Index)
	b = appendUint(b, `,"netns":`, uint64(p.Interface.NetNS))
	b = appendInt(b, `,"queue":`, p.Queue)
	b = append(b, `,"verdict":"`...)
	b = append(b, p.Verdict.String()...)
	b = appendNamed(b, `","cause":`, p.Cause.String())
	b = appendInt(b, `,"slots":`, p.Slots)
	b = appendInt(b, `,"limit":`, p.Limit)
	b = appendInt(b, `,"len":`, p.Len)
	b = appendInt(b, `,"head_offset":`, p.HeadOffset)
	b = appendInt(b, `,"head_len":`, p.HeadLen)
	b = appendFrags(b, p.Frags)
	b = appendInt(b, `,"gso_size":`, p.GSOSize)
	b = appendInt(b, `,"gso_segs":`, p.GSOSegs)
	b = appendFlow(append(b, `,"flow":`...), p.Flow)
	b = appendTCP(b, p.TCP)
	b = appendProcess(append(b, `,"process":`...), p.Process)
	b = appendReason(b, p)
	b = appendKnown(b, `,"seq":`, p.Flow != nil && p.Flow.SeqKnown, func() uint32 { return p.Flow.Seq })
	b = appendKnown(b, `,"ethertype":`, p.EtherType != 0, func() uint32 { return uint32(p.EtherType) })
	b = appendHeader(appendInner(b, p.Inner), p.Header)
	if p.BeforeNAT != nil {
		b = append(appendFlow(append(b, `,"before_nat":{"flow":`...), p.BeforeNAT), '}')
	}
	return append(b, "}\n"...)
}

// fragLength is no less than what one fragment takes: its keys, and three numbers of 32 bits.
const fragLength = len(`{"offset":,"size":,"slots":},`) + 3*len("4294967295")

func appendFrags(b []byte, frags []event.Frag) []byte {
	b = slices.Grow(append(b, `,"frags":[`...), len(frags)*fragLength+1)
	for i, f := range frags {
		if i > 0 {
			b = append(b, ',')
		}
		b = appendNumber(append(b, `{"offset":`...), uint64(f.Offset))
		b = appendNumber(append(b, `,"size":`...), uint64(f.Size))
		b = appendNumber(append(b, `,"slots":`...), uint64(slots.Of(f.Offset, f.Size)))
		b = append(b, '}')
	}
	return append(b, ']')
}

func appendFlow(b []byte, f *event.Flow) []byte {
	if f == nil {
		return append(b, "null"...)
	}
	family := "ipv6"
	if f.Source.Addr().Is4() {
		family = "ipv4"
	}
	b = append(b, `{"family":"`...)
	b = append(b, family...)
	b = append(b, `","proto":"`...)
	b = append(b, protocolName(f.Proto)...)
	b = append(b, `","saddr":"`...)
	b = f.Source.Addr().AppendTo(b)
	b = appendUint(b, `","sport":`, uint64(f.Source.Port()))
	b = append(b, `,"daddr":"`...)
	b = f.Destination.Addr().AppendTo(b)
	b = appendUint(b, `","dport":`, uint64(f.Destination.Port()))
	return append(b, '}')
}

func appendTCP(b []byte, t *event.TCP) []byte {
	if t == nil {
		return append(b, `,"tcp":null`...)
	}
	b = append(b, `,"tcp":{"state":"`...)
	b = append(b, TCPState(t.State)...)
	b = appendUint(b, `","seq":`, uint64(t.Seq))
	b = appendUint(b, `,"snd_una":`, uint64(t.SndUna))
	b = appendUint(b, `,"snd_nxt":`, uint64(t.SndNxt))
	b = appendUint(b, `,"write_seq":`, uint64(t.WriteSeq))
	b = appendInt(b, `,"retransmits":`, t.Retransmits)
	b = appendInt(b, `,"rto_ms":`, int(t.RTO.Milliseconds()))
	b = appendInt(b, `,"srtt_us":`, int(t.SRTT.Microseconds()))
	b = appendUint(b, `,"sndq_bytes":`, uint64(t.SndQBytes))
	return append(b, '}')
}

// appendTime is a third of the time of AppendFormat. A year of other than four digits, which
// comes of no clock, is for that.
func appendTime(b []byte, t time.Time) []byte {
	t = t.UTC()
	year, month, day := t.Date()
	if year < 1000 || year > 9999 {
		return t.AppendFormat(b, jsonTime)
	}
	hour, minute, second := t.Clock()
	b = appendDigits(b, 4, year)
	b = appendDigits(append(b, '-'), 2, int(month))
	b = appendDigits(append(b, '-'), 2, day)
	b = appendDigits(append(b, 'T'), 2, hour)
	b = appendDigits(append(b, ':'), 2, minute)
	b = appendDigits(append(b, ':'), 2, second)
	b = appendDigits(append(b, '.'), 9, t.Nanosecond())
	return append(b, 'Z')
}

// appendDigits appends the last digits of a number.
func appendDigits(b []byte, digits, n int) []byte {
	var text [9]byte
	for i := digits - 1; i >= 0; i-- {
		text[i] = byte('0' + n%10)
		n /= 10
	}
	return append(b, text[:digits]...)
}

func appendInt(b []byte, key string, value int) []byte {
	if value < 0 {
		return strconv.AppendInt(append(b, key...), int64(value), 10)
	}
	return appendNumber(append(b, key...), uint64(value))
}

func appendUint(b []byte, key string, value uint64) []byte {
	return appendNumber(append(b, key...), value)
}

// appendNumber is half of the time of strconv.AppendUint for the small numbers that most
// values of a packet are.
func appendNumber(b []byte, n uint64) []byte {
	switch {
	case n < 10:
		return append(b, byte('0'+n))
	case n < 100:
		return append(b, byte('0'+n/10), byte('0'+n%10))
	case n < 1000:
		return append(b, byte('0'+n/100), byte('0'+n/10%10), byte('0'+n%10))
	case n < 10_000:
		return append(b, byte('0'+n/1000), byte('0'+n/100%10), byte('0'+n/10%10), byte('0'+n%10))
	}
	return strconv.AppendUint(b, n, 10)
}

// appendString appends s as a JSON string. Interface names are nearly always
// plain; what is not goes through encoding/json.
func appendString(b []byte, s string) []byte {
	for i := range len(s) {
		if c := s[i]; c < ' ' || c > '~' || c == '"' || c == '\\' {
			quoted, _ := json.Marshal(strings.ToValidUTF8(s, "\uFFFD")) // a string always can be
			return escapeHidden(append(b, quoted...), len(b))
		}
	}
	b = append(b, '"')
	b = append(b, s...)
	return append(b, '"')
}

// escapeHidden escapes what encoding/json leaves as it is though no one sees it: from there
// on, b is JSON. Format characters such as U+202E reorder the text around them on a
// terminal and in a log viewer, and U+009B begins a control sequence.
func escapeHidden(b []byte, from int) []byte {
	text := string(b[from:])
	if !strings.ContainsFunc(text, isHidden) {
		return b
	}
	b = b[:from]
	for _, r := range text {
		switch {
		case !isHidden(r):
			b = utf8.AppendRune(b, r)
		case r > 0xffff:
			high, low := utf16.EncodeRune(r)
			b = fmt.Appendf(b, `\u%04x\u%04x`, high, low)
		default:
			b = fmt.Appendf(b, `\u%04x`, r)
		}
	}
	return b
}

func isHidden(r rune) bool { return r > '~' && !unicode.IsPrint(r) }

// appendNamed appends a key and a string, or null for an empty one.
func appendNamed(b []byte, key, value string) []byte { return appendOrNull(append(b, key...), value) }

func appendOrNull(b []byte, value string) []byte {
	if value == "" {
		return append(b, "null"...)
	}
	return appendString(b, value)
}

// appendProcess appends the owner, null where it is not known.
func appendProcess(b []byte, p *event.Process) []byte {
	if p == nil {
		return append(b, "null"...)
	}
	b = appendInt(b, `{"pid":`, p.PID)
	b = appendNamed(b, `,"comm":`, p.Comm)
	b = appendUint(b, `,"uid":`, uint64(p.UID))
	b = appendNamed(b, `,"unit":`, p.Unit)
	b = appendNamed(b, `,"container":`, p.Container)
	return append(b, '}')
}

func appendReason(b []byte, p *event.Packet) []byte {
	b = append(appendNamed(b, `,"reason":`, p.Reason), `,"stack":[`...)
	for i, frame := range p.Stack {
		if i > 0 {
			b = append(b, ',')
		}
		b = appendString(b, frame)
	}
	return append(b, ']')
}

// appendKnown appends a key and a number, null where it is not known.
func appendKnown(b []byte, key string, known bool, value func() uint32) []byte {
	if !known {
		return append(append(b, key...), "null"...)
	}
	return appendUint(b, key, uint64(value()))
}

// appendInner appends the flow of the packet that a tunnel carries.
func appendInner(b []byte, inner *event.Flow) []byte {
	if inner == nil {
		return append(b, `,"inner":null`...)
	}
	return append(appendFlow(append(b, `,"inner":{"flow":`...), inner), '}')
}

// appendHeader appends the first bytes of a packet in base64.
func appendHeader(b, header []byte) []byte {
	if len(header) == 0 {
		return append(b, `,"header":null`...)
	}
	return append(base64.StdEncoding.AppendEncode(append(b, `,"header":"`...), header), '"')
}
