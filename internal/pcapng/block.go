package pcapng

import (
	"encoding/binary"
	"time"
	"unicode/utf8"

	"xentrace/internal/output"
)

// The block types and options of draft-ietf-opsawg-pcapng that are written.
const (
	blockSection    = 0x0a0d0d0a
	blockInterface  = 1
	blockNames      = 4
	blockStatistics = 5
	blockPacket     = 6

	optEnd     = 0
	optComment = 1

	shbHardware    = 2
	shbOS          = 3
	shbApplication = 4

	ifName        = 2
	ifDescription = 3
	ifTsresol     = 9
	ifHardware    = 15

	epbFlags    = 2
	epbPacketID = 5
	epbQueue    = 6
	epbProcess  = 8 // epb_processid_threadid

	isbStart     = 2
	isbEnd       = 3
	isbReceived  = 4
	isbDropped   = 5
	isbOSDropped = 7
	isbDelivered = 8
)

const (
	byteOrderMagic = 0x1a2b3c4d
	linkEthernet   = 1
	nanoseconds    = 9 // if_tsresol: 10^-9 s

	flagOutbound         = 2
	flagChecksumNotReady = 1 << 9
	flagSegmentation     = 1 << 11 // offloaded

	// maxOption is the most bytes of an option's value: its length has 16 bits.
	maxOption = 1<<16 - 1
)

// A block is one being written, little endian; its length is filled in at the end.
type block struct {
	b     []byte
	start int
}

func begin(b []byte, kind uint32) block {
	start := len(b)
	b = binary.LittleEndian.AppendUint32(b, kind)
	return block{binary.LittleEndian.AppendUint32(b, 0), start}
}

func (k *block) u16(v uint16) { k.b = binary.LittleEndian.AppendUint16(k.b, v) }
func (k *block) u32(v uint32) { k.b = binary.LittleEndian.AppendUint32(k.b, v) }
func (k *block) u64(v uint64) { k.b = binary.LittleEndian.AppendUint64(k.b, v) }

// padded appends bytes and fills up to 32 bits.
func (k *block) padded(data []byte) {
	k.b = append(k.b, data...)
	for range -len(data) & 3 {
		k.b = append(k.b, 0)
	}
}

// stamp appends a time: the upper half first, in either byte order.
func (k *block) stamp(t time.Time) {
	n := nanos(t)
	k.u32(uint32(n >> 32))
	k.u32(uint32(n))
}

// nanos is a time since 1970; 0 before that.
func nanos(t time.Time) uint64 {
	if t.Unix() < 0 {
		return 0
	}
	return uint64(t.UnixNano())
}

func (k *block) option(code uint16, value []byte) {
	k.u16(code)
	k.u16(uint16(len(value)))
	k.padded(value)
}

// text appends a text option, unless it is empty.
func (k *block) text(code uint16, text string) {
	if text = bounded(text); text != "" {
		k.option(code, []byte(text))
	}
}

// bounded returns text with what does not print escaped, cut off at a character if it is too
// long for an option.
func bounded(text string) string {
	text = output.Printable(text)
	if len(text) <= maxOption {
		return text
	}
	end := maxOption
	for !utf8.RuneStart(text[end]) {
		end--
	}
	return text[:end]
}

func (k *block) option32(code uint16, v uint32) {
	k.option(code, binary.LittleEndian.AppendUint32(nil, v))
}

func (k *block) option64(code uint16, v uint64) {
	k.option(code, binary.LittleEndian.AppendUint64(nil, v))
}

func (k *block) optionTime(code uint16, t time.Time) {
	n := nanos(t)
	k.option(code, binary.LittleEndian.AppendUint32(binary.LittleEndian.AppendUint32(nil, uint32(n>>32)), uint32(n)))
}

// end ends the options and the block.
func (k *block) end() []byte {
	k.u16(optEnd)
	k.u16(0)
	length := uint32(len(k.b) - k.start + 4)
	k.u32(length)
	binary.LittleEndian.PutUint32(k.b[k.start+4:], length)
	return k.b
}
